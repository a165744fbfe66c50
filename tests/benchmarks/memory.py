"""What is kept in memory: by idle kernels, and by the broker for them and while much passes through it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
from typing import Any

import psutil

from .broker import Socket, opened, resident, started
from .figures import KIB, MIB, Figure, Goal, quartiles
from .prints import flood, printing
from .raw import own_kernel

CASE = "memory"


async def run(*, quick: bool) -> list[Figure]:
    """Proportional memory (PSS) of kernels, and resident memory (RSS) of the broker's process.

    idle kernels: the PSS of so many that have run ``1+1``. The broker's are forked, and what they are forked from is
    one process more. The stock ones are started by jupyter_client, once the broker's are gone.
    idle session: the broker's growth from before a session is made until after it has run ``1+1``, the mean over
    sessions that all stay open, divided by the PSS of the kernel of one.
    100 MB: the highest of samples taken every 20 ms while a subscriber reads lines of 100 characters, less what it
    was before, divided by what was printed. Lines were printed before that, so that its caches are at their size.
    """
    return [
        await _idle_kernels(10 if quick else 50),
        await _idle_sessions(4 if quick else 15),
        await _passing(10**5 if quick else 10**6),
    ]


async def _idle_kernels(count: int) -> Figure:
    with started() as broker:
        async with opened(broker) as socket:
            sessions = [await _idle_session(socket, number) for number in range(count)]
            await asyncio.sleep(1)
            found = _family(broker.pid)
            ours = [found.pop(session["kernel_pid"]) for session in sessions]
            assert len(found) == 1, f"not the template alone is left: {found}"
            (template,) = found.values()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(own_kernel()).execute("1+1")
        await asyncio.sleep(1)
        stock = list(_family(os.getpid()).values())
    assert len(stock) == count, f"{len(stock)} of {count} kernels run"
    shared = template / count
    p25, p75 = quartiles([(a + shared) / b for a, b in zip(ours, stock, strict=True)])
    return Figure(
        case=CASE,
        what=f"{count} idle kernels: broker's, forked / stock",
        value=(sum(ours) + template) / sum(stock),
        p25=p25,
        p75=p75,
        n=count,
        goal=Goal("at most", 0.6),
        made_of=f"{MIB.say(statistics.mean(ours) + shared)} / {MIB.say(statistics.mean(stock))} each",
    )


def _family(pid: int) -> dict[int, int]:
    """The PSS of each process that descends from ``pid``, in bytes."""
    return {child.pid: child.memory_full_info().pss for child in psutil.Process(pid).children(recursive=True)}


async def _idle_session(socket: Socket, number: int) -> dict[str, Any]:
    session: dict[str, Any] = await socket.call("create_session", name=f"idle-{number}")
    await socket.call("execute", session=session["session_id"], code="1+1")
    return session


async def _idle_sessions(count: int) -> Figure:
    growth: list[float] = []
    kernels: list[float] = []
    with started() as broker:
        async with opened(broker) as socket:
            for number in range(-2, count):
                before = resident(broker.pid)
                session = await _idle_session(socket, number)
                await asyncio.sleep(0.2)
                if number >= 0:  # the first ones load what the later ones share
                    growth.append(resident(broker.pid) - before)
                    kernels.append(psutil.Process(session["kernel_pid"]).memory_full_info().pss)
    mean, kernel = statistics.mean(growth), statistics.median(kernels)
    p25, p75 = quartiles([grown / kernel for grown in growth])
    return Figure(
        case=CASE,
        what="an idle session: broker's growth / its kernel",
        value=mean / kernel,
        p25=p25,
        p75=p75,
        n=count,
        made_of=f"{KIB.say(mean)} / {KIB.say(kernel)}",
    )


async def _passing(lines: int) -> Figure:
    with started() as broker:
        async with opened(broker) as socket:
            await socket.call("create_session", name="passing")
            await socket.call("subscribe", session="passing")
            await flood(socket, "passing", printing(10**5, flush=False))
            before = resident(broker.pid)
            samples: list[int] = []

            async def sample() -> None:
                while True:
                    samples.append(resident(broker.pid) - before)
                    await asyncio.sleep(0.02)

            sampling = asyncio.ensure_future(sample())
            got, _ = await flood(socket, "passing", printing(lines, flush=False))
            sampling.cancel()
    assert got == lines, f"{got} of {lines} lines arrived"
    passed = lines * 100
    p25, p75 = quartiles([grown / passed for grown in samples])
    return Figure(
        case=CASE,
        what=f"{passed // 10**6} MB pass: broker's highest growth / what passed",
        value=max(samples) / passed,
        p25=p25,
        p75=p75,
        n=len(samples),
        made_of=f"{MIB.say(max(samples))} / {MIB.say(passed)}",
    )
