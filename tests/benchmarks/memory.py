"""What the broker keeps in memory: for an idle session, and while much passes through it."""

from __future__ import annotations

import asyncio
import statistics

import psutil

from .broker import opened, resident, started
from .figures import KIB, MIB, Figure, quartiles
from .prints import flood, printing

CASE = "memory"


async def run(*, quick: bool) -> list[Figure]:
    """Resident memory (RSS) of the broker's process.

    idle session: its growth from before a session is made until after it has run ``1+1``, the median over sessions
    that all stay open, divided by the proportional memory (PSS) of the kernel of one.
    100 MB: the highest of samples taken every 20 ms while a subscriber reads lines of 100 characters, less what it
    was before, divided by what was printed. Lines were printed before that, so that its caches are at their size.
    """
    return [await _idle_sessions(4 if quick else 15), await _passing(10**5 if quick else 10**6)]


async def _idle_sessions(count: int) -> Figure:
    growth: list[float] = []
    kernels: list[float] = []
    with started() as broker:
        async with opened(broker) as socket:
            for number in range(-2, count):
                before = resident(broker.pid)
                session = await socket.call("create_session", name=f"idle-{number}")
                await socket.call("execute", session=session["session_id"], code="1+1")
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
