"""Streamable HTTP, behind tornado and the broker's gate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from broker.api.auth import Gate
from broker.mcp.http import routes

from ..running import TOKEN, BrokerProcess
from .agent import ERAS, Agent, text


@contextlib.asynccontextmanager
async def mounted(broker: BrokerProcess) -> AsyncIterator[str]:
    """The route, in front of a broker."""
    server = HTTPServer(Application(routes(Gate(TOKEN), broker.url, TOKEN)))
    (socket,) = bind_sockets(0, "127.0.0.1")
    server.add_sockets([socket])
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}/mcp"
    finally:
        server.stop()
        await server.close_all_connections()


@contextlib.asynccontextmanager
async def agent(url: str, *, era: str = ERAS[1], token: str = TOKEN, **callbacks: Any) -> AsyncIterator[Agent]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), mode=era, **callbacks) as client,
    ):
        yield Agent(client)


@pytest.mark.parametrize("era", ERAS)
async def test_the_tools_work(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    told: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with mounted(broker) as url, agent(url, era=era) as call:
        where = {"working_directory": str(tmp_path)}
        assert len((await call.client.list_tools()).tools) == 6
        ran = await call("execute", code="import os; x = 6; os.getcwd()", **where)
        assert ran["text"] == f"'{tmp_path}'\n"
        code = "import time\nfor i in range(30): print(i); time.sleep(0.1)\nx * 7"
        result = await call.client.call_tool("execute", {"code": code, **where}, progress_callback=hear)
        assert text(result).endswith("29\n42\n")
        assert told
        handed = await call("execute", code="import time; time.sleep(600)", wait=0, **where)
        results = await asyncio.gather(*(call("execute", code=str(n), **where) for n in range(5)))
        assert [each["text"] for each in results] == [f"{n}\n" for n in range(5)]
        assert (await call("stop", execution_id=handed["execution_id"]))["state"] == "interrupted"
        # More than a megabyte, there and back.
        long = await call("execute", code=f"s = '{'x' * 2_000_000}'; print(s)", max_tokens=200_000, **where)
        assert long["omitted_characters"] > 0


@pytest.mark.parametrize("era", ERAS)
async def test_a_prompt_is_put_to_the_person(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async def elicited(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"answer": "Ada"})

    async with mounted(broker) as url, agent(url, era=era, elicitation_callback=elicited) as call:
        ran = await call("execute", code="input('Name: ')", working_directory=str(tmp_path))
        assert ran["text"] == "Name: Ada\n'Ada'\n"


async def test_each_client_has_its_own_numbers(broker: BrokerProcess, tmp_path: Path) -> None:
    async with mounted(broker) as url, agent(url, era="legacy") as one, agent(url, era="legacy") as other:
        for call in (one, other):
            asked = await call.says("execute", code="input('Name: ')", workingDirectory=str(tmp_path))
            assert re.search(r"\[Execution ID: 0 - ", asked)
            assert "interrupted" in await call.says("execute", action="kill")


async def test_nobody_comes_in_without_the_token(broker: BrokerProcess) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accepts = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    good = {**accepts, "Authorization": f"Bearer {TOKEN}"}
    async with mounted(broker) as url, httpx2.AsyncClient() as http:
        for headers, status in (
            (accepts, 401),
            ({**accepts, "Authorization": "Bearer wrong"}, 401),
            ({**good, "Origin": "http://evil.example"}, 403),
            ({**good, "Host": "evil.example"}, 403),
        ):
            for method in ("POST", "GET", "DELETE"):
                answer = await http.request(method, url, headers=headers, content=json.dumps(request))
                assert answer.status_code == status
                assert "tools" not in answer.text
        assert (await http.post(f"{url}?token={TOKEN}", headers=accepts, json=request)).status_code == 401
        assert (await http.post(url, headers=good, content="no json")).status_code == 400
