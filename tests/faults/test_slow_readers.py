"""A broker that is stopped for a while, readers that are slow or do not read at all, connections that are cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import websockets

from broker.client import Client, connection

from ..running import TOKEN, text_of
from ..scenarios.tools import reset
from . import ROUNDS, seeded
from .load import Load
from .reader import check_sequence
from .zygote import CheapBroker

LINES = 100_000
CODE = f"for i in range({LINES}): print(i, flush=not i % 400)"
TEXT = "".join(f"{i}\n" for i in range(LINES))


async def test_a_broker_that_is_stopped_for_a_while_under_load_misses_nothing(
    start_cheap: Callable[..., CheapBroker], tmp_path: Path
) -> None:
    rng = seeded()
    broker = start_cheap()
    load = Load(broker, tmp_path / "load", rng.randrange(10**6), {"one": 1, "side by side": 2})
    await load.begin()
    for _ in range(3 * ROUNDS):
        before = load.total()
        os.kill(broker.pid, signal.SIGSTOP)
        await asyncio.sleep(0.2 + rng.random())
        assert load.total() > before, "kernels do not wait for a broker"
        os.kill(broker.pid, signal.SIGCONT)
        await asyncio.sleep(rng.random() * 0.2)
    print(f"{await load.check()} lines")


@contextlib.asynccontextmanager
async def narrow(url: str) -> AsyncIterator[websockets.ClientConnection]:
    """A WebSocket that nobody reads ahead of its user, over a connection that holds next to nothing."""
    address = urlsplit(url)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((address.hostname, address.port))
        async with websockets.connect(
            f"ws://{address.netloc}/api/broker/v1/ws",
            sock=sock,
            additional_headers={"Authorization": f"Bearer {TOKEN}"},
            subprotocols=[websockets.Subprotocol("broker.v1")],
            compression=None,
            max_size=None,
            max_queue=1,
            ping_interval=None,
            close_timeout=0.1,
        ) as websocket:
            yield websocket


async def subscribe(websocket: websockets.ClientConnection, execution_id: str) -> None:
    params = {"execution_id": execution_id, "after": 0}
    await websocket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}))


async def events_of(websocket: websockets.ClientConnection, pause: float) -> list[dict[str, Any]]:
    """All events of a subscription, taken one by one, with a pause after each."""
    events = []
    async for message in websocket:
        if "method" in (decoded := json.loads(message)):
            events.append(decoded["params"]["event"])
            if events[-1]["type"] == "execution_finished":
                break
        await asyncio.sleep(pause)
    return events


async def test_readers_that_are_slow_or_do_not_read_delay_nobody_and_miss_nothing(
    start_cheap: Callable[..., CheapBroker],
) -> None:
    broker = start_cheap()
    async with (
        broker.connect() as wire,
        broker.connect() as other,
        narrow(broker.url) as paused,
        narrow(broker.url) as slow,
        narrow(broker.url) as quick,
    ):
        await other.execute("1", session="other", wait=None)
        execution = await wire.execute("input()\n" + CODE, session="s", wait=None)
        id = execution["execution_id"]
        for websocket in (paused, slow, quick):
            await subscribe(websocket, id)
        slowly = asyncio.ensure_future(events_of(slow, 0.01))
        quickly = asyncio.ensure_future(events_of(quick, 0))
        await wire.call("send_stdin", execution_id=id, data="")
        calls = 0
        while not quickly.done():
            # A busy machine may take its time; one that waits for a reader takes for ever.
            assert (await asyncio.wait_for(other.execute("1", session="other", wait=None), 10))["state"] == "completed"
            calls += 1
        done = await asyncio.wait_for(wire.done(id), 10)
        assert (done["state"], done["lines"]) == ("completed", LINES)
        assert not slowly.done()
        assert calls > 1
        events = await wire.events(id)
        check_sequence(events)
        assert text_of(events) == TEXT
        assert await quickly == events
        assert await slowly == events
        assert await events_of(paused, 0) == events


async def test_a_stream_whose_connection_is_cut_goes_on_after_the_last_event_it_has(
    start_cheap: Callable[..., CheapBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = seeded()
    broker = start_cheap()
    opened: list[websockets.ClientConnection] = []
    connect = connection.connect

    async def remembering(*arguments: Any, **options: Any) -> websockets.ClientConnection:
        opened.append(await connect(*arguments, **options))
        return opened[-1]

    async with broker.connect() as wire, Client(broker.url, TOKEN) as client:
        execution = await wire.execute(CODE, session="s", wait=0)
        id = execution["execution_id"]
        monkeypatch.setattr(connection, "connect", remembering)
        streams = [asyncio.ensure_future(_collect(client, id)) for _ in range(3)]
        cuts = 0
        while not all(stream.done() for stream in streams):
            await asyncio.sleep(rng.random() * 0.05)
            if opened and cuts < 40 * ROUNDS:
                cuts += _cut(rng.choice(opened))
        await wire.done(id)
        events = await wire.events(id)
        check_sequence(events)
        assert text_of(events) == TEXT
        for stream in streams:
            assert await stream == events
    assert cuts > 3
    print(f"{cuts} cuts")


async def _collect(client: Client, execution_id: str) -> list[dict[str, Any]]:
    events = []
    async with aclosing(client.stream(execution_id, after=0)) as stream:
        async for event in stream:
            events.append(event.to_wire())
            await asyncio.sleep(0.002)
    return events


def _cut(websocket: websockets.ClientConnection) -> bool:
    """Reset a connection, if it is open still."""
    if websocket.transport.is_closing():
        return False
    reset(websocket.transport.get_extra_info("socket"))
    websocket.transport.abort()
    return True
