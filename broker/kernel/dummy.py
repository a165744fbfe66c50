"""A kernel that does what it is told: for tests of what stands above a driver, and as the shortest example of one."""

from __future__ import annotations

import json

from ..core import messages as m
from ..core.lanes import MAIN
from ..core.promises import NOTHING_LOST
from ..core.records import SessionRecord
from .driver import KernelDriver, Report


class DummyDriver(KernelDriver):
    """Starts at once and runs nothing by itself; call :meth:`print` and :meth:`finish` for an execution.

    With ``promises`` that nothing is lost, it numbers what it says.
    """

    def __init__(self, report: Report, promises: dict[str, bool] | None = None) -> None:
        super().__init__(report)
        self.promises = promises or {}
        self.last = 0
        """The number of what it said last."""
        self.forgotten = 0
        """The number up to which it keeps nothing any more."""
        self.running: list[str] = []
        self.answers: list[tuple[str, str | None]] = []

    async def start(self, session: SessionRecord) -> None:
        self.last = self.forgotten = 0
        self.report(m.KernelLaunched("dummy", None, None, ""))
        self.report(m.KernelReady(self.promises))

    async def adopt(self, session: SessionRecord, *, ready: bool) -> None:
        self.last = self.forgotten = session.heard
        self.report(m.KernelReady(session.promises, adopted=True))
        if session.promises.get(NOTHING_LOST):
            self.report(m.RollCall(frozenset(self.running), number=self._next()))

    def digested(self, number: int) -> None:
        self.forgotten = number

    def execute(self, execution_id: str, code: str, lane: str = MAIN) -> None:
        self.running.append(execution_id)

    def answer(self, execution_id: str, value: str | None) -> None:
        self.answers.append((execution_id, value))

    async def interrupt(self, execution_id: str, lane: str) -> None:
        self.finish(execution_id, {"ename": "KeyboardInterrupt", "evalue": "", "traceback": []})

    def probe(self, execution_id: str, lane: str) -> None:
        if execution_id not in self.running:
            self.report(m.ProbeAnswered(execution_id))

    async def kill(self, *, politely: bool) -> None:
        self.running.clear()
        self.report(m.KernelGone(-9))

    async def leave(self) -> None:
        pass

    def print(self, execution_id: str, text: str) -> None:
        content = json.dumps({"name": "stdout", "text": text}).encode()
        self.report(m.Published(execution_id, "stream", content, number=self._next()))

    def finish(self, execution_id: str, error: dict[str, object] | None = None) -> None:
        self.running.remove(execution_id)
        self.report(m.Replied(execution_id, "error" if error else "ok", error, number=self._next()))
        self.report(m.Idle(execution_id, number=self._next()))

    def _next(self) -> int:
        self.last += self.promises.get(NOTHING_LOST, False)
        return self.last
