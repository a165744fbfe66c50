"""Reports of what runs: every so many seconds while anything does, none otherwise."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TextIO

import msgspec

from ..api import types
from ..core.records import ExecutionRecord
from ..journal import EVERYTHING
from ..journal_writer import iso
from ..service import Broker
from .replies import Replies

log = logging.getLogger(__name__)


class Reporter:
    """Makes a report every ``every`` seconds while an execution runs, and gives it to all who want it."""

    def __init__(self, broker: Broker, every: float) -> None:
        self._broker = broker
        self._replies = Replies(broker)
        self._every = every
        self._readers: list[Callable[[bytes], None]] = []

    def to(self, reader: Callable[[bytes], None]) -> None:
        """Give reports, encoded, to ``reader`` too."""
        self._readers.append(reader)

    def _running(self) -> list[ExecutionRecord]:
        return [record for record in self._broker.journal.executions_alive() if record.run.in_kernel]

    def report(self) -> types.Report | None:
        """What runs now; None if nothing does."""
        running = self._running()
        if not running:
            return None
        return types.Report(time=iso(time.time()), executions=[self._replies.reported(record) for record in running])

    async def run(self) -> None:
        """Go on for ever."""
        journal = self._broker.journal
        while True:
            seq = journal.seq
            if not self._running():
                await journal.changed(EVERYTHING, seq)
                continue
            await asyncio.sleep(self._every)
            if report := self.report():
                encoded = msgspec.json.encode(report)
                for reader in self._readers:
                    try:
                        reader(encoded)
                    except Exception as error:  # a terminal that is gone, a log on a full disk
                        log.warning("a report could not be given to one of its readers: %s", error)


_report = msgspec.json.Decoder(types.Report)


def print_report(encoded: bytes, file: TextIO) -> None:
    """Write a report for people: one line an execution."""
    report = _report.decode(encoded)
    for execution in report.executions:
        state = execution.state.replace("_", " ") + (", detached" if execution.detached else "")
        idle = "" if execution.idle_for is None else f", silent for {execution.idle_for:.0f} s"
        print(
            f"[{report.time[11:19]}] {execution.execution_id}  {state}  {execution.duration or 0:.0f} s  "
            f"{execution.lines:,} lines{idle}  {execution.title}",
            file=file,
            flush=True,
        )
