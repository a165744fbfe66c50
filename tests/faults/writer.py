"""Appends to a journal, so many events, and prints what was acknowledged: ``python -m tests.faults.writer FILE MOST``.

Each event carries its own number. Append after append is sent without waiting for the one before.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from broker.core.events import Event, EventType
from broker.core.records import ExecutionRecord, SessionRecord
from broker.journal import EVERYTHING, Journal
from broker.journal_writer import Append

SESSION = SessionRecord(session_id="s", name="s", owner="me", kernel="k", working_directory="/", created_at=0.0)


async def main(path: Path, most: int) -> None:
    journal = Journal(path)
    execution = journal.execution("e") or ExecutionRecord(execution_id="e", session_id="s", owner="me", created_at=0.0)
    appends: asyncio.Queue[Append] = asyncio.Queue(8)

    async def acknowledge() -> None:
        while True:
            committed = await (await appends.get())
            page = await journal.read(EVERYTHING, committed.seq - 1)
            assert page.seq >= committed.seq, "what is acknowledged can be read"
            print(committed.seq, flush=True)
            appends.task_done()

    acknowledging = asyncio.ensure_future(acknowledge())
    while execution.n < most:
        events = []
        for _ in range(1 + execution.n % 5):
            execution.n += 1
            fields = {"msg_type": "stream", "content": {"name": "stdout", "text": f"{execution.n}\n" * 50}}
            events.append(Event(EventType.OUTPUT, float(execution.n), "s", fields, "e", execution.n))
        await appends.put(journal.append(events, [execution], [SESSION]))
    await appends.join()
    acknowledging.cancel()
    await journal.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
