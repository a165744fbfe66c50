"""A kernel that does what it is told: for tests of what stands above a driver, and as the shortest example of one."""

from __future__ import annotations

import json

from ..core import messages as m
from ..core.lanes import MAIN
from ..core.records import SessionRecord
from .driver import KernelDriver, Report


class DummyDriver(KernelDriver):
    """Starts at once and runs nothing by itself; call :meth:`print` and :meth:`finish` for an execution."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.running: list[str] = []
        self.answers: list[tuple[str, str | None]] = []

    async def start(self, session: SessionRecord) -> None:
        self.report(m.KernelLaunched("dummy", None, None, ""))
        self.report(m.KernelReady({}))

    async def adopt(self, session: SessionRecord, *, ready: bool) -> None:
        self.report(m.KernelReady(session.promises, adopted=True))

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
        self.report(m.Published(execution_id, "stream", content))

    def finish(self, execution_id: str, error: dict[str, object] | None = None) -> None:
        self.running.remove(execution_id)
        self.report(m.Replied(execution_id, "error" if error else "ok", error))
        self.report(m.Idle(execution_id))
