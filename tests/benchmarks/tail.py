"""The end of a history: what it costs to read it when the history is long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from broker.core.events import Event, EventType
from broker.core.records import ExecutionRecord, SessionRecord, apply
from broker.ids import new_id, new_session_id
from broker.journal import Journal

from ..running import BrokerProcess
from .broker import Socket, opened
from .figures import MS, Figure, Goal, ratio
from .prints import LINE

CASE = "tail of a history"
SHORT, PAGE = 1000, 100
OWNER = "local"


async def run(*, quick: bool) -> list[Figure]:
    """From before the request is written until the answer is decoded, on a broker that has just started.

    Two brokers, each with one finished execution in its journal: of 1,000 outputs, and of 1,000,000. The journals are
    written through :class:`broker.journal.Journal` before the brokers start, so nothing of them is in the brokers'
    memory. log: ``get_async_log`` of the last 100 events. progress: ``get_progress`` after the same place, as text.
    whole: ``get_execution``, which shows the beginning and the end of all that was printed.
    """
    long = 50_000 if quick else 1_000_000
    rounds = 20 if quick else 200
    names = ("log", "progress", "whole")
    short_took: dict[str, list[float]] = {name: [] for name in names}
    long_took: dict[str, list[float]] = {name: [] for name in names}
    async with _broker_with(SHORT) as short_broker, _broker_with(long) as long_broker:
        for turn in range(-3, rounds):
            for (socket, execution_id, last), took in ((short_broker, short_took), (long_broker, long_took)):
                for name, method, params in (
                    ("log", "get_async_log", {"after": last - PAGE}),
                    ("progress", "get_progress", {"after": last - PAGE}),
                    ("whole", "get_execution", {}),
                ):
                    if name == "whole" and turn >= rounds // 10:
                        continue
                    began = time.perf_counter()
                    await socket.call(method, execution_id=execution_id, **params)
                    if turn >= 0:
                        took[name].append(time.perf_counter() - began)
    described = {"log": f"last {PAGE} events", "progress": f"text of the last {PAGE} events", "whole": "get_execution"}
    goals = {"log": Goal("at most", 1.5), "progress": Goal("at most", 1.5)}
    return [
        ratio(
            CASE,
            f"{described[name]}: of {long:,} / of {SHORT:,}",
            long_took[name],
            short_took[name],
            MS,
            goals.get(name),
        )
        for name in names
    ]


@contextlib.asynccontextmanager
async def _broker_with(outputs: int) -> AsyncIterator[tuple[Socket, str, int]]:
    """A broker whose journal has one execution of so many outputs: a socket to it, that id, and its last seq."""
    broker = BrokerProcess("--quiet", "--pool-size=0")
    try:
        broker.data_dir.mkdir(mode=0o700, parents=True)
        journal = Journal(broker.data_dir / "journal.sqlite")
        execution_id = await _fill(journal, outputs)
        last = journal.seq
        await journal.close()
        broker.start()
        async with opened(broker) as socket:
            yield socket, execution_id, last
    finally:
        broker.destroy()


async def _fill(journal: Journal, outputs: int) -> str:
    now = time.time()
    session = SessionRecord(
        session_id=new_session_id(),
        name="history",
        owner=OWNER,
        kernel="python3",
        working_directory="/",
        created_at=now,
        closed_at=now,
    )
    execution = ExecutionRecord(execution_id=new_id(), session_id=session.session_id, owner=OWNER, created_at=now)

    def event(type: EventType, fields: dict[str, Any]) -> Event:
        made = Event(type, now, session.session_id, fields, execution.execution_id, execution.n + 1, 1, 101)
        apply(made, session, execution)
        return made

    content = msgspec.Raw(msgspec.json.encode({"name": "stdout", "text": LINE + "\n"}))
    await journal.append(
        [
            event(EventType.EXECUTION_QUEUED, {"code": "print()"}),
            event(EventType.EXECUTION_STARTED, {"lane": "main"}),
        ],
        [execution],
        [session],
    )
    for start in range(0, outputs, 1000):
        batch = range(start, min(start + 1000, outputs))
        fields = {"msg_type": "stream", "content": content}
        await journal.append([event(EventType.OUTPUT, fields) for _ in batch], [execution], [session])
    finished = {"state": "completed", "kernel_state": "preserved"}
    await journal.append([event(EventType.EXECUTION_FINISHED, finished)], [execution], [session])
    return execution.execution_id
