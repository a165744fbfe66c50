"""One flood, and many who read it."""

from __future__ import annotations

import asyncio
import statistics
import sys

from ..running import BrokerProcess
from .broker import Socket, cpu, opened, started
from .figures import Figure, Unit, quartiles
from .prints import printing

CASE = "subscribers"
US = Unit("µs", 1e6, 1)


async def run(*, quick: bool) -> list[Figure]:
    """Processor time of the broker, all its threads, from before a flood until every subscriber has all of it.

    The flood is flushed prints, so one event a line. The subscribers are in a process of their own, each on a
    WebSocket of its own; none of that process's time is counted. "One more" is the broker's time with k subscribers
    less its time with one, divided by k - 1. It is divided by the time of the whole flood with one.
    """
    lines = 500 if quick else 4000
    rounds = 2 if quick else 5
    took: dict[int, list[float]] = {1: [], 10: [], 100: []}
    with started() as broker:
        async with opened(broker) as socket:
            await socket.call("create_session", name="flood")
            await _flood(broker, socket, 1, lines)
            for _ in range(rounds):
                for subscribers, times in took.items():
                    times.append(await _flood(broker, socket, subscribers, lines))
    events = lines + 4  # and those that are no output: queued, started, counted, finished
    return [_one_more(count, took[count], took[1], events) for count in (10, 100)]


def _one_more(count: int, many: list[float], one: list[float], events: int) -> Figure:
    more = [(a - b) / (count - 1) for a, b in zip(many, one, strict=True)]
    p25, p75 = quartiles([a / b for a, b in zip(more, one, strict=True)])
    extra, base = statistics.median(more), statistics.median(one)
    return Figure(
        case=CASE,
        what=f"CPU of one more of {count} / of the flood with 1",
        value=extra / base,
        p25=p25,
        p75=p75,
        n=len(many),
        made_of=f"{US.say(extra / events)} / {US.say(base / events)} an event",
    )


async def _flood(broker: BrokerProcess, socket: Socket, subscribers: int, lines: int) -> float:
    readers = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.readers",
        broker.url,
        "flood",
        str(subscribers),
        stdout=asyncio.subprocess.PIPE,
    )
    assert readers.stdout is not None
    await readers.stdout.readline()  # they are subscribed
    began = cpu(broker.pid)
    await socket.call("execute", session="flood", code=printing(lines, flush=True), wait=None)
    received = int(await readers.stdout.readline())
    took = cpu(broker.pid) - began
    await readers.wait()
    assert received == subscribers * lines, f"{received} of {subscribers * lines} lines arrived"
    return took
