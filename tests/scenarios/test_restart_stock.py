"""The broker ends and starts again, with a kernel that keeps no outbox: what it said meanwhile is a gap."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from ..kernelspecs import install_ipykernel
from ..running import BrokerProcess, assert_whole, text_of
from .tools import Gate, detached, gone, true


async def test_a_gap_says_that_output_is_missing_and_what_comes_from_then_on_arrives(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    broker, gate, last = start_broker(), Gate(tmp_path), Gate(tmp_path)
    install_ipykernel(broker, "stock", "pass")
    async with broker.connect() as wire:
        for name in ("ends", "goes on"):
            await wire.call("create_session", name=name, kernel="stock")
        ends = await detached(wire, "ends", f"print('begun')\n{gate.wait}open({str(tmp_path / 'over')!r}, 'w')")
        goes_on = await detached(
            wire, "goes on", f"print('begun')\n{gate.wait}print('meanwhile', flush=True)\n{last.wait}print('later')"
        )
    broker.stop(signal.SIGKILL)
    gate.open()
    await true(lambda: asyncio.sleep(0, (tmp_path / "over").exists()))
    broker.start()
    async with broker.connect() as wire:
        ended = await wire.done(ends)
        assert (ended["state"], ended["kernel_state"]) == ("lost", "preserved")
        assert "ended while no broker listened" in ended["hint"]
        last.open()
        done = await wire.done(goes_on)
        assert done["state"] == "completed"
        events = await wire.events(goes_on)
        assert_whole(events)
        assert text_of(events).startswith("begun\n")
        assert text_of(events).endswith("later\n")
        (gap,) = [event for event in events if event["type"] == "gap"]
        assert "no broker was running" in gap["reason"]
        for name in ("ends", "goes on"):
            pid = (await wire.call("get_session", session=name))["kernel_pid"]
            await wire.call("close_session", session=name)
            assert gone(pid)
