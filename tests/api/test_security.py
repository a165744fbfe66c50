"""Who comes in, and who does not; and what of the broker others on this machine can see."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import websockets
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.routing import URLSpec

from broker import app, composition, page
from broker.api import auth
from broker.api.auth import Gate
from broker.api.websocket import Connections

from ..running import TOKEN, BrokerProcess

PAGE = {"" if file.name == "index.html" else f"page/{file.name}" for file in page.STATIC.iterdir()} | {
    "page/scripts.html"
}
PUBLIC = {"api/broker/v1/health", *PAGE}
"""What needs no token: whether the broker works, and the page's own files, which hold nothing."""


def routes() -> list[str]:
    """Every path that the application answers, taken from the application itself."""

    class Nothing:
        journal = None

    gate = Gate("t")
    made = app.make_application(gate, composition.routes(gate, Nothing(), None, Connections()))  # type: ignore[arg-type]
    rules = [rule for outer in made.default_router.rules for rule in outer.target.rules]  # type: ignore[union-attr]
    paths = [rule.regex.pattern for rule in rules if isinstance(rule, URLSpec)]
    assert len(paths) >= 6
    known = [re.sub(r"\(.*?\)", "x", path).strip("/$") for path in paths]
    return [*known, "no/such/path", "favicon.ico", "page/", "page/../app.py", "page/%2e%2e/__init__.py"]


@pytest.mark.parametrize("path", routes())
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_without_the_token_every_route_but_health_and_the_page_is_closed(
    broker: BrokerProcess, path: str, token: str | None
) -> None:
    status, headers, body = broker.request(path, token=token)
    if path in PUBLIC:
        assert status == 200
        assert TOKEN.encode() not in body
    else:
        assert status == 401
        assert "WWW-Authenticate" in headers or "Www-Authenticate" in headers
        assert b"Authorization: Bearer" in body, "it says what to do"


@pytest.mark.parametrize("path", routes())
def test_a_foreign_host_or_origin_is_refused_on_every_route(broker: BrokerProcess, path: str) -> None:
    assert broker.request(path, headers={"Host": "evil.example"})[0] == 403
    assert broker.request(path, headers={"Host": "127.0.0.1.evil.example:8890"})[0] == 403
    assert broker.request(path, headers={"Origin": "https://evil.example"})[0] == 403
    assert broker.request(path, headers={"Origin": "null"})[0] == 403


def test_the_page_is_let_do_nothing_that_it_need_not(broker: BrokerProcess) -> None:
    for path in PAGE:
        _, headers, _ = broker.request(path, token=None)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "base-uri 'none'; form-action 'none'" in policy
        if path in ("page/frame.html", "page/scripts.html"):
            assert policy.startswith("sandbox allow-scripts; ")
            assert "connect-src" not in policy
            assert "frame-ancestors 'self'" in policy
        else:
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_post_without_the_token_runs_nothing(broker: BrokerProcess, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    call = b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"code":"open(%r, \'w\')"}}' % str(marker).encode()
    assert broker.request("api/broker/v1/rpc", data=call, token=None)[0] == 401
    assert broker.request("api/broker/v1/rpc", data=call, headers={"Origin": "http://evil.example"})[0] == 403
    assert not marker.exists()


@pytest.mark.parametrize("path", [path for path in routes() if path not in PUBLIC])
def test_a_token_in_the_url_is_no_token(broker: BrokerProcess, path: str) -> None:
    assert broker.request(f"{path}?token={TOKEN}", token=None)[0] == 401


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda *both: compared.append(both) or True)
    headers = HTTPHeaders({"Host": "localhost", "Authorization": "Bearer guess"})
    request = HTTPServerRequest(start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=headers)
    Gate("t").check(request)
    assert compared == [(b"guess", b"t")], "nothing else decides"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "token"])
def test_both_ways_to_write_the_header_are_taken(broker: BrokerProcess, scheme: str) -> None:
    assert broker.request("metrics", headers={"Authorization": f"{scheme} {TOKEN}"}, token=None)[0] == 200


def socket_url(broker: BrokerProcess) -> str:
    return broker.url.replace("http", "ws", 1) + "api/broker/v1/ws"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"}, 403),
    ],
)
async def test_a_websocket_is_refused_before_it_opens(
    broker: BrokerProcess, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(socket_url(broker), additional_headers=headers)
    assert refused.value.response.status_code == status


async def test_a_browser_sends_the_token_as_a_subprotocol(broker: BrokerProcess) -> None:
    offered = [websockets.Subprotocol("broker.v1"), websockets.Subprotocol(f"broker.token.{TOKEN}")]
    origin = websockets.Origin(broker.url.rstrip("/"))
    async with websockets.connect(socket_url(broker), subprotocols=offered, origin=origin) as socket:
        assert socket.subprotocol == "broker.v1", "the token is not sent back"
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(
            socket_url(broker), subprotocols=[offered[0], websockets.Subprotocol("broker.token.wrong")]
        )


async def test_the_token_is_in_one_file_and_in_no_log(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--debug")
    async with broker.connect() as wire:
        await wire.execute("import os; print(os.environ.get('JUPYTER_BROKER_TOKEN'))", session="a")
        broker.request(f"metrics?token={TOKEN}", token=None)
    broker.stop()
    holders = [file for file in broker.root.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert holders == []
    broker.start()
    info = next((broker.root / "run").glob("jupyter-broker-*.json"))
    assert TOKEN in info.read_text()
    assert stat.S_IMODE(info.stat().st_mode) == 0o600


def assert_private(connection: Path) -> None:
    assert '"transport": "ipc"' in connection.read_text()
    assert stat.S_IMODE(connection.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(connection.parent.stat().st_mode) & 0o777 == 0o700


async def test_kernels_listen_where_only_their_owner_can_come(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker()
    async with broker.connect() as wire:
        session = await wire.call("create_session", name="a")
        assert_private(Path(session["connection_file"]))
        # Stock ipykernel has one port, for what its forked children print, where it takes only what bears a secret.
        listening = psutil.Process(session["kernel_pid"]).net_connections("inet")
        assert not [c for c in listening if c.status == "LISTEN" and c.laddr.ip not in ("127.0.0.1", "::1")]
        await wire.execute("print('x')", session="a")
    for file in broker.data_dir.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    assert stat.S_IMODE(broker.data_dir.stat().st_mode) == 0o700
    assert broker.data_dir.stat().st_uid == os.getuid()


async def test_it_listens_on_loopback_unless_told_otherwise(broker: BrokerProcess) -> None:
    listening = [c for c in psutil.Process(broker.pid).net_connections("inet") if c.status == "LISTEN"]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
