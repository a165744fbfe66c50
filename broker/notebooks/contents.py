"""Executions as cells: their code, and as much of their output as a notebook should have."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from ..core.records import ExecutionRecord, SessionRecord
from ..core.state import Run
from ..service import Broker
from ..views.cells import Limits, join
from ..views.ipynb import code_cell, empty_notebook
from ..views.replies import OutputSource, Replies

CHARACTERS = 200_000
"""Of an execution's output, at most so many are in its cell: half from its beginning, half from its end."""
INLINE = 2 * 2**20
"""The longest value of a display, in bytes of JSON, that is in a cell."""
DISPLAY_COST = 0.02
"""So that images may take fifty times as much room as text."""
LEFT_OUT = (
    "\n… output left out here (seq {{from_seq}} to {{to_seq}}); all of it: jupyter broker logs {execution_id} …\n"
)


class Contents:
    """Makes cells and notebooks for one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._replies = Replies(broker)

    def empty(self, record: SessionRecord) -> dict[str, Any]:
        """A session's notebook before anything was run in it."""
        spec = self._broker.kernelspecs().get(record.kernel, {})
        made = empty_notebook(self._replies.session(record), spec.get("display_name", record.kernel))
        if language := spec.get("language"):
            made["metadata"]["kernelspec"]["language"] = language
            made["metadata"]["language_info"] = {"name": language}
        return made

    async def cells(self, records: Sequence[ExecutionRecord]) -> list[dict[str, Any]]:
        """The cells of executions as they are now. They say by ``n`` how many of their events they have."""
        made = []
        for record in records:
            name = record.execution_id.replace("{", "{{").replace("}", "}}")
            limits = Limits(CHARACTERS, INLINE, DISPLAY_COST, LEFT_OUT.format(execution_id=name))
            # A record may be older than the output read after it, never newer: so nothing is taken for written that
            # is not. The journal's own seq could be behind the record, which is read before the disk has it for good.
            until = self._broker.journal.last_seq(record.execution_id)

            def read(
                connection: sqlite3.Connection,
                record: ExecutionRecord = record,
                limits: Limits = limits,
                until: int = until,
            ) -> list[dict[str, Any]]:
                return join(OutputSource(connection, record, 0, until), limits)

            outputs = await self._broker.journal.in_thread(read)
            if record.run in (Run.KILLED, Run.LOST):
                outputs.append({"output_type": "stream", "name": "stderr", "text": f"\n[{_how(record)}]\n"})
            code = self._broker.journal.code(record.execution_id)
            cell = code_cell(self._replies.summary(record), code, outputs)
            cell["metadata"]["broker"]["n"] = record.n
            if record.run.in_kernel:
                # As JupyterLab has it; a cell that gets its number is over to JupyterLab.
                cell["execution_count"] = None
            made.append(cell)
        return made


def _how(record: ExecutionRecord) -> str:
    return f"{record.run}: {record.reason}" if record.reason else str(record.run)
