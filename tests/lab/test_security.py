"""Who comes in to the broker inside a server: on every route, by the server's rules and by the broker's own."""

from __future__ import annotations

import http.client
import json
import re
import stat
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

import pytest
import websockets

from broker import composition, page
from broker.api.auth import Gate
from broker.api.websocket import Connections
from broker.lab import door

from ..running import TOKEN
from .server import BASE, ServerProcess

PAGE = {"" if file.name == "index.html" else f"page/{file.name}" for file in page.STATIC.iterdir()} | {
    "page/scripts.html"
}
PUBLIC = {"api/broker/v1/health", "broker/api/broker/v1/health", *(f"broker/{path}" for path in PAGE)}
"""What needs no token: whether the broker works, and the page's own files, which hold nothing."""


def routes() -> list[str]:
    """Every path of the broker in a server, taken from what a server is given."""

    class Nothing:
        journal = None

    made = composition.routes(Gate("t"), Nothing(), None, Connections())  # type: ignore[arg-type]
    patterns = [pattern for pattern, _, _ in door.rules([*made], BASE)]
    assert len(patterns) >= 15
    paths = [re.sub(r"\(.*?\)", "x", pattern.replace("\\", "")).rstrip("$") for pattern in patterns]
    assert all(path.startswith(BASE) for path in paths), "nothing is outside the server's base URL"
    return sorted({path.removeprefix(BASE) for path in paths} | {"broker/mcp"})


@pytest.mark.parametrize("path", routes())
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_without_a_token_every_route_but_health_and_the_page_is_closed(
    server: ServerProcess, path: str, token: str | None
) -> None:
    status, headers, body = server.request(path, token=token)
    if path in PUBLIC:
        assert status == 200
        assert TOKEN.encode() not in body
    else:
        assert status == 401
        assert "Set-Cookie" not in headers
        assert b"Authorization: Bearer" in body, "it says what to do"


@pytest.mark.parametrize("path", routes())
def test_a_foreign_host_or_origin_is_refused_on_every_route(server: ServerProcess, path: str) -> None:
    assert server.request(path, headers={"Host": "evil.example"})[0] == 403
    assert server.request(path, headers={"Origin": "https://evil.example"})[0] == 403
    assert server.request(path, headers={"Origin": "null"})[0] == 403


@pytest.mark.parametrize("path", [path for path in routes() if path not in PUBLIC])
def test_a_token_in_the_url_is_no_token(server: ServerProcess, path: str) -> None:
    assert server.request(f"{path}?token={TOKEN}", token=None)[0] == 401


def own_token(server: ServerProcess) -> str:
    file = next((server.root / "run").glob("jupyter-broker-*.json"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return str(json.loads(file.read_text())["token"])


@pytest.mark.parametrize("path", ["api/broker/v1/openrpc.json", "broker/metrics"])
def test_the_servers_token_and_the_commands_token_are_taken(server: ServerProcess, path: str) -> None:
    assert own_token(server) != TOKEN
    for token in (TOKEN, own_token(server)):
        assert server.request(path, token=token)[0] == 200
        assert server.request(path, headers={"Authorization": f"token {token}"}, token=None)[0] == 200
    assert server.request("api/status", token=own_token(server))[0] == 403, "the broker's opens the broker, no more"


def test_the_servers_metrics_stay_the_servers(server: ServerProcess) -> None:
    assert b"jupyter_broker_sessions" in server.request("broker/metrics")[2]
    theirs = server.request("metrics")
    assert theirs[0] == 200
    assert b"http_request_duration_seconds" in theirs[2]


def cookies(server: ServerProcess) -> dict[str, str]:
    """What a browser has that has logged in."""
    jar: SimpleCookie = SimpleCookie()
    split = urlsplit(server.url)
    connection = http.client.HTTPConnection(split.netloc)
    connection.request("GET", f"{BASE}lab?token={TOKEN}")
    response = connection.getresponse()
    for value in response.headers.get_all("Set-Cookie") or []:
        jar.load(value)
    return {name: morsel.value for name, morsel in jar.items()}


def as_header(jar: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in jar.items())


def test_a_cookie_opens_and_runs_nothing_for_another_site(server: ServerProcess) -> None:
    jar = cookies(server)
    headers = {"Cookie": as_header(jar)}
    assert server.request("api/broker/v1/openrpc.json", headers=headers, token=None)[0] == 200
    call = b'{"jsonrpc":"2.0","id":1,"method":"list_sessions","params":{}}'
    assert server.request("api/broker/v1/rpc", data=call, headers=headers, token=None)[0] == 403
    assert server.request("api/broker/v1/rpc", data=call, headers={**headers, "X-XSRFToken": "x"}, token=None)[0] == 403
    status, _, body = server.request(
        "api/broker/v1/rpc", data=call, headers={**headers, "X-XSRFToken": jar["_xsrf"]}, token=None
    )
    assert status == 200, body
    assert "sessions" in json.loads(body)["result"]


def socket_url(server: ServerProcess, prefix: str = "") -> str:
    return f"{server.url.replace('http', 'ws', 1)}{prefix}api/broker/v1/ws"


async def test_a_websocket_by_cookie_must_come_from_the_servers_own_pages(server: ServerProcess) -> None:
    headers = {"Cookie": as_header(cookies(server))}
    ours = "/".join(server.url.split("/")[:3])
    protocols = [websockets.Subprotocol("broker.v1")]
    async with websockets.connect(
        socket_url(server), additional_headers=headers, origin=websockets.Origin(ours), subprotocols=protocols
    ) as socket:
        await socket.send('{"jsonrpc":"2.0","id":1,"method":"list_sessions","params":{}}')
        assert "sessions" in json.loads(await socket.recv())["result"]
    for origin in (None, "https://evil.example", ours + ".evil.example"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(
                socket_url(server),
                additional_headers=headers,
                origin=websockets.Origin(origin) if origin else None,
                subprotocols=protocols,
            )
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize("prefix", ["", "broker/"])
async def test_a_browser_sends_the_token_as_a_subprotocol(server: ServerProcess, prefix: str) -> None:
    origin = websockets.Origin("/".join(server.url.split("/")[:3]))
    for token in (TOKEN, own_token(server)):
        offered = [websockets.Subprotocol("broker.v1"), websockets.Subprotocol(f"broker.token.{token}")]
        async with websockets.connect(socket_url(server, prefix), subprotocols=offered, origin=origin) as socket:
            assert socket.subprotocol == "broker.v1", "the token is not sent back"
    wrong = [offered[0], websockets.Subprotocol("broker.token.wrong")]
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(socket_url(server, prefix), subprotocols=wrong)
    assert refused.value.response.status_code == 401


async def test_no_token_is_in_a_log(server: ServerProcess, wire: Any) -> None:
    await wire.execute("1")
    server.request("broker/metrics", token=own_token(server))
    log = server.log.read_text()
    assert own_token(server) not in log
    assert TOKEN not in log.replace(f"token={TOKEN}", ""), "but where a test put it into an address"


def test_jupyter_server_has_nothing_to_say_about_how_routes_are_guarded(server: ServerProcess) -> None:
    assert not server.logged("JupyterServerAuthWarning")
    assert not server.logged("Extension endpoints without")
