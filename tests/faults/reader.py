"""Reads events from their beginning in every way there is, knows nothing of ours, and believes nothing."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ..running import Wire
from .workload import SOURCES, Counts, line

Events = list[dict[str, Any]]


async def subscribed(wire: Wire, enough: Callable[[dict[str, Any]], bool], **scope: str) -> Events:
    """What a subscription from 0 on is sent, up to the first event that is ``enough``."""
    subscription = (await wire.call("subscribe", after=0, **scope))["subscription"]

    def mine(notification: dict[str, Any]) -> bool:
        return notification["method"] == "event" and notification["params"]["subscription"] == subscription

    await wire.notified(lambda n: mine(n) and enough(n["params"]["event"]))
    await wire.call("unsubscribe", subscription=subscription)
    events = [n["params"]["event"] for n in wire.notifications if mine(n)]
    wire.notifications = [n for n in wire.notifications if not mine(n)]
    last = next(i for i, event in enumerate(events) if enough(event))
    return events[: last + 1]


def on_disk(data_dir: Path, execution_id: str) -> Events:
    """The same from the file, through SQLite alone."""
    with closing(sqlite3.connect(f"file:{data_dir}/journal.sqlite?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT e.seq, e.n, e.type, e.body FROM events e JOIN executions x ON x.key = e.execution"
            " WHERE x.id = ? ORDER BY e.seq",
            (execution_id,),
        ).fetchall()
    return [{"seq": seq, "n": n, "type": type, **json.loads(body)} for seq, n, type, body in rows]


async def read(wire: Wire, data_dir: Path, execution_id: str) -> Events:
    """All of an execution that is over, which is the same whichever way it is read."""
    events = await wire.events(execution_id)
    live = await subscribed(wire, lambda e: e["type"] == "execution_finished", execution_id=execution_id)
    assert live == events
    about = ("execution_id", "session_id", "time")
    assert on_disk(data_dir, execution_id) == [{k: e[k] for k in e if k not in about} for e in events]
    return events


def check_sequence(events: Events, state: str = "completed") -> None:
    """Counted from 1 with no hole, in order, no gap, and one end, which is the last."""
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    seqs = [event["seq"] for event in events]
    assert all(one < other for one, other in itertools.pairwise(seqs))
    types = [event["type"] for event in events]
    assert "gap" not in types
    assert types.count("execution_started") == 1
    assert types.count("execution_finished") == 1
    assert (types[-1], events[-1]["state"]) == ("execution_finished", state)


def printed(events: Events) -> dict[str, list[str]]:
    """The lines of each stream, with their ends; displays are one."""
    texts: dict[str, list[str]] = {"stdout": [], "stderr": [], "display": []}
    for event in events:
        if event["type"] == "output":
            content = event["content"]
            assert event["msg_type"] in ("stream", "display_data"), content
            stream = event["msg_type"] == "stream"
            text = content["text"] if stream else content["data"]["text/plain"]
            texts[content["name"] if stream else "display"].append(text)
    return {name: "".join(parts).split("\n") for name, parts in texts.items()}


def check(events: Events, seed: str, directory: Path, state: str = "completed") -> int:
    """Each line is there once, to the byte, in its source's order, and nothing else is. Returns how many there are.

    Of a kernel that was killed (``state`` is not ``completed``) one line of each source may be there beyond those
    that were counted: it was written, and the kernel died before it could count it.
    """
    check_sequence(events, state)
    found = dict.fromkeys(SOURCES, 0)
    for stream, lines in printed(events).items():
        assert lines.pop() == ""
        for text in lines:
            of, source, *_ = text.split(":")
            assert of == seed
            assert stream == {"stderr": "stderr", "display": "display"}.get(source, "stdout")
            assert text == line(seed, source, found[source])
            found[source] += 1
    counts = Counts(directory, seed)
    for source in SOURCES:
        assert found[source] - counts[source] in ((0,) if state == "completed" else (0, 1)), source
    return sum(found.values())
