"""However much is printed: replies are short, the history is whole, memory is bounded, and a slow reader is alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psutil
import pytest

from ..running import BrokerProcess, Wire, assert_whole, text_of
from .slow import slow_reader

LINES = 500_000
"""Of 100 characters each: 50 MB."""
LINE = "{:09} " + "x" * 89 + "\n"
BOUND = 80 * 2**20
"""Bytes by which a broker may grow, while 50 MB are printed and then read again."""
MARKER = re.compile(r"\n… ([\d,]+) characters left out .*…\n")


def printing(lines: int) -> str:
    """Code that prints so many lines."""
    return f"for i in range({lines}): print({LINE[:-1]!r}.format(i))"


def lines(first: int, last: int) -> str:
    return "".join(map(LINE.format, range(first, last)))


@contextlib.asynccontextmanager
async def measured(pid: int) -> AsyncIterator[Callable[[], int]]:
    """Measure a process's resident memory, all the while. Gives a function for the most, in bytes."""
    process = psutil.Process(pid)
    most = 0

    async def measure() -> None:
        nonlocal most
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.02)

    task = asyncio.ensure_future(measure())
    try:
        yield lambda: most
    finally:
        task.cancel()


@pytest.fixture(scope="module")
def own_broker() -> Iterator[BrokerProcess]:
    """A broker whose memory is this module's alone."""
    process = BrokerProcess()
    try:
        yield process.start()
    finally:
        process.destroy()


async def pages(wire: Wire, execution_id: str, limit: int = 1000) -> AsyncIterator[list[dict[str, Any]]]:
    after, eof = 0, False
    while not eof:
        page = await wire.call("get_async_log", execution_id=execution_id, after=after, limit=limit)
        assert len(page["events"]) <= limit
        yield page["events"]
        after, eof = page["seq"], page["eof"]


async def test_of_50_mb_a_reply_has_the_head_and_the_tail_and_the_log_has_all_in_bounded_memory(
    own_broker: BrokerProcess,
) -> None:
    async with own_broker.connect() as wire:
        await wire.execute("pass", wait=None)
        for _ in range(3):  # what only the first reply of this size needs
            await wire.execute(printing(2000), wait=None)
        before = psutil.Process(own_broker.pid).memory_info().rss
        async with measured(own_broker.pid) as most:
            execution = await wire.execute(printing(LINES), wait=None)
            assert (execution["state"], execution["lines"], execution["bytes"]) == ("completed", LINES, 100 * LINES)
            assert_head_marker_tail(execution)
            count = await assert_log_is_whole(wire, execution)
            assert count >= 50
            await assert_cut_is_where_it_says(wire, execution)
        assert most() - before < BOUND


def assert_head_marker_tail(execution: dict[str, Any]) -> None:
    text: str = execution["text"]
    assert len(text) <= 24_000
    (marker,) = MARKER.finditer(text)
    head, tail = text[: marker.start()], text[marker.end() :]
    # Both ends are of much the same size, and all that there is room for.
    assert min(len(head), len(tail)) > 11_000
    assert head == lines(0, len(head) // 100)
    assert tail == lines(LINES - len(tail) // 100, LINES)
    omitted = int(marker[1].replace(",", ""))
    assert omitted == execution["truncated"]["omitted_characters"] == 100 * LINES - len(head) - len(tail)


async def assert_log_is_whole(wire: Wire, execution: dict[str, Any]) -> int:
    """Page through it and return the number of pages. Keeps none of it."""
    whole, n, count = hashlib.sha256(), 0, 0
    async for events in pages(wire, execution["execution_id"]):
        assert [event["n"] for event in events] == list(range(n + 1, n + 1 + len(events)))
        n += len(events)
        count += 1
        whole.update(text_of(events).encode())
    expected = hashlib.sha256()
    for first in range(0, LINES, 10_000):
        expected.update(lines(first, first + 10_000).encode())
    assert whole.hexdigest() == expected.hexdigest()
    return count


async def assert_cut_is_where_it_says(wire: Wire, execution: dict[str, Any]) -> None:
    """The events that are named as left out are where the head ends and where the tail begins."""
    truncated, text = execution["truncated"], execution["text"]
    (marker,) = MARKER.finditer(text)
    last_of_head = text[: marker.start()].splitlines()[-1]
    first_of_tail = text[marker.end() :].split("\n", 1)[0]
    for seq, line in ((truncated["from_seq"], last_of_head), (truncated["to_seq"], first_of_tail)):
        page = await wire.call("get_async_log", execution_id=execution["execution_id"], after=seq - 1, limit=1)
        shown = int(line[:9])
        numbers = [int(n) for n in re.findall(r"^(\d{9}) ", text_of(page["events"]), re.MULTILINE)]
        assert numbers[0] - 1 <= shown <= numbers[-1] + 1


async def test_the_reply_at_a_handover_in_the_midst_of_a_flood_is_short_too(own_broker: BrokerProcess) -> None:
    async with own_broker.connect() as wire:
        code = f"while True:\n    {printing(1000)}"
        execution = await wire.execute(code, session="flood", wait=2)
        assert (execution["state"], execution["detached"]) == ("running", True)
        assert len(execution["text"]) <= 24_000
        assert MARKER.search(execution["text"])
        (killed,) = (await wire.call("kill", execution_id=execution["execution_id"]))["killed"]
        assert (killed["state"], killed["lines"] >= execution["lines"]) == ("interrupted", True)


async def test_one_line_of_ten_million_characters_is_cut_in_its_middle_and_kept_whole(
    own_broker: BrokerProcess,
) -> None:
    async with own_broker.connect() as wire:
        execution = await wire.execute("print('a' * 5_000_000 + 'b' * 5_000_000)", wait=None)
        text = execution["text"]
        assert len(text) <= 24_000
        (marker,) = MARKER.finditer(text)
        head, tail = text[: marker.start()], text[marker.end() :]
        assert (set(head), set(tail)) == ({"a"}, {"b", "\n"})
        whole = "".join([text_of(events) async for events in pages(wire, execution["execution_id"])])
        assert whole == "a" * 5_000_000 + "b" * 5_000_000 + "\n"


async def test_max_output_is_the_callers_to_choose(own_broker: BrokerProcess) -> None:
    async with own_broker.connect() as wire:
        execution = await wire.execute(printing(2000), wait=None, max_output=1000)
        assert len(execution["text"]) <= 1000
        assert MARKER.search(execution["text"])
        whole = await wire.call("wait", execution_id=execution["execution_id"], max_output=1_000_000)
        assert (whole["text"], whole["truncated"]) == (lines(0, 2000), None)


async def test_a_client_that_stops_reading_delays_neither_kernel_nor_others_and_misses_nothing(
    own_broker: BrokerProcess,
) -> None:
    count = 200_000
    async with own_broker.connect() as wire, slow_reader(own_broker) as slow:
        name = "flood-with-a-slow-reader"
        await wire.execute("pass", session=name, wait=None)
        before = psutil.Process(own_broker.pid).memory_info().rss
        subscribed = await slow.call("subscribe", session=name)
        # From here on it reads nothing, till all is printed and the other one has read all.
        async with measured(own_broker.pid) as most:
            await wire.call("subscribe", session=name, after=subscribed["seq"])
            running = await wire.execute(printing(count), session=name, wait=0)
            execution_id = running["execution_id"]
            await wire.event(lambda e: e["type"] == "execution_finished" and e["execution_id"] == execution_id)
            assert (await wire.call("get_execution", execution_id=execution_id))["lines"] == count
            seen = [n["params"]["event"] for n in wire.notifications if n["method"] == "event"]
            seen = [event for event in seen if event["execution_id"] == execution_id]
            assert_whole(seen)
            assert text_of(seen) == lines(0, count)
            # Its session and its connection serve as before.
            assert (await wire.execute("print('next')", session=name, wait=None))["text"] == "next\n"
        assert most() - before < BOUND
        # Now it reads.
        late: list[dict[str, Any]] = []
        while not late or late[-1]["type"] != "execution_finished":
            event = (await slow.read())["params"]["event"]
            if event["execution_id"] == execution_id:
                late.append(event)
        assert late == seen
