"""A broker that was started in the background ends by itself, when nobody can need it any more."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable

import pytest

from ..running import PATIENCE, BrokerProcess


async def test_it_ends_when_it_has_no_session_and_no_client_and_not_before(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker("--exit-when-idle=0.5")
    assert broker.process is not None
    async with broker.connect() as wire:
        await wire.call("create_session", name="a")
    with pytest.raises(subprocess.TimeoutExpired):  # a session is left
        await asyncio.to_thread(broker.process.wait, 2)
    async with broker.connect() as wire:
        await wire.call("close_session", session="a")
        with pytest.raises(subprocess.TimeoutExpired):  # a client is left
            await asyncio.to_thread(broker.process.wait, 2)
    assert await asyncio.to_thread(broker.process.wait, PATIENCE) == 0
    assert not list((broker.root / "run").glob("jupyter-broker-*.json"))
