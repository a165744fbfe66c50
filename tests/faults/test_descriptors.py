"""Many kernels, and a broker that may open few files more."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable

import psutil
import pytest

from broker.kernel.descriptors import KEPT, KERNEL

from ..running import CallFailed, text_of
from ..scenarios.tools import true
from .reader import check_sequence
from .zygote import CheapBroker

KERNELS = 64
OPEN = 12
"""Descriptors that a kernel takes of the broker's. Should it be more one day, the limit below is too low."""
LINES = 2000
CODE = f"for i in range({LINES}): print(i, flush=not i % 20)"


def limit(broker: CheapBroker, files: int) -> None:
    _, hard = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (files, hard))


async def test_when_no_file_is_left_for_another_kernel_that_is_said_and_those_that_run_go_on(
    start_cheap: Callable[..., CheapBroker],
) -> None:
    broker = start_cheap()
    async with broker.connect() as wire:
        used = psutil.Process(broker.pid).num_fds()
        # The process that kernels are forked from takes some, too, and so does reading.
        limit(broker, used + KERNELS * OPEN + KERNEL + KEPT)
        names = [f"{number}" for number in range(KERNELS)]
        await asyncio.gather(*(wire.call("create_session", name=name) for name in names))
        running = [wire.begin("execute", code=CODE, session=name, wait=None) for name in names]
        kernels = len(broker.kernels())
        more = [wire.call("create_session", name=f"more {number}") for number in range(8)]
        refused = [each for each in await asyncio.gather(*more, return_exceptions=True) if isinstance(each, CallFailed)]
        assert len(refused) >= 6
        assert {error.type for error in refused} == {"kernel_start_failed"}
        assert all("close a session" in error.message for error in refused)
        assert len(broker.kernels()) == kernels + 8 - len(refused)
        for execution in await asyncio.gather(*running):
            assert execution["state"] == "completed"
            events = await wire.events(execution["execution_id"])
            check_sequence(events)
            assert text_of(events) == "".join(f"{i}\n" for i in range(LINES))
        # Clients still come in, and what was refused made no session.
        async with broker.connect() as other:
            assert len((await other.call("list_sessions"))["sessions"]) == KERNELS + 8 - len(refused)
        for name in names[:8]:
            await wire.call("close_session", session=name)
        await wire.call("create_session", name="again")


async def test_where_not_one_file_is_left_what_runs_is_only_delayed(start_cheap: Callable[..., CheapBroker]) -> None:
    broker = start_cheap()
    # So much that the kernel begins another segment of its outbox, which the broker cannot open.
    code = "input()\nfor i in range(200_000): print(i, 'x' * 100)"
    async with broker.connect() as wire:
        execution = await wire.execute(code, session="s", wait=None)
        id = execution["execution_id"]
        before = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)[0]
        limit(broker, 3)
        await wire.call("send_stdin", execution_id=id, data="")
        with pytest.raises(CallFailed):
            await wire.call("create_session", name="more")
        await true(lambda: "cannot be read" in broker.log.read_text())
        await asyncio.sleep(0.5)
        limit(broker, before)
        assert (await wire.done(id))["lines"] == 200_000
        events = await wire.events(id)
        check_sequence(events)
        assert text_of(events) == "".join(f"{i} {'x' * 100}\n" for i in range(200_000))
