"""A session, a clock one can turn, and a kernel that is only inputs: what the tests of the core play with."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec

from broker.core import messages as m
from broker.core.events import Event, EventType
from broker.core.records import ExecutionRecord, SessionRecord
from broker.core.session import Session


class World:
    """Feeds a session and keeps what it says."""

    def __init__(
        self, session: Session | None = None, *, ready: bool = True, promises: dict[str, bool] | None = None
    ) -> None:
        record = SessionRecord(
            session_id="s", name="default", owner="me", kernel="python3", working_directory="/", created_at=0.0
        )
        self.session = session or Session(record)
        self.now = 1000.0
        self.events: list[Event] = []
        self.effects: list[m.Effect] = []
        self.promises = promises or {}
        self.number = 0
        """Of the last message in the kernel's outbox."""
        self._ids = itertools.count(1)
        if ready and session is None:
            self.feed(m.EnsureKernel())
            self.start_kernel()
            self.effects.clear()

    def feed(self, input: m.Input | m.FromKernel) -> Any:
        step = self.session.handle(input, m.Now(wall=self.now, loop=self.now))
        self.events += step.events
        self.effects += step.effects
        return step.result

    def start_kernel(self) -> None:
        self.feed(m.KernelLaunched("k", 42, 1.0, "/k.json"))
        self.number = 0
        self.feed(m.KernelReady(self.promises))

    def submit(self, code: str = "1", *, wait: float | None = 30.0, stdin: tuple[str, ...] = (), **options: Any) -> str:
        record = ExecutionRecord(
            execution_id=f"x{next(self._ids)}", session_id="s", owner="me", created_at=self.now, **options
        )
        result: str = self.feed(m.Submit(record, code, wait, stdin))
        return result

    def print(self, id: str | None, text: str) -> None:
        self.feed(m.Published(id, "stream", json.dumps({"name": "stdout", "text": text}).encode()))

    def say(self, input: m.FromKernel) -> m.FromKernel:
        """Have the kernel put something into its outbox, and the session hear it."""
        self.number += 1
        said: m.FromKernel = msgspec.structs.replace(input, number=self.number)
        self.feed(said)
        return said

    def finish(self, id: str, error: dict[str, Any] | None = None) -> None:
        self.feed(m.Replied(id, "error" if error else "ok", error))
        self.feed(m.Idle(id))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, from one deadline to the next."""
        end = self.now + seconds
        while (due := self.session.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.feed(m.Tick())
        self.now = end

    def record(self, id: str) -> ExecutionRecord:
        record = self.session.find(id)
        assert record is not None
        return record

    def said(self, type: EventType, id: str | None = None) -> list[dict[str, Any]]:
        """The fields of all events of a type, of one execution if so asked."""
        return [e.fields for e in self.events if e.type is type and id in (None, e.execution_id)]

    def did(self, kind: type[m.Effect]) -> list[Any]:
        """The effects of a kind, which are then forgotten."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def sent(self) -> list[tuple[str, str]]:
        """Which executions the kernel was sent, in which lanes, since this was asked last."""
        return [(effect.execution_id, effect.lane) for effect in self.did(m.SendExecute)]

    def restored(self, *, promises: dict[str, bool] | None = None) -> World:
        """The same session in the next broker, before it has its kernel back: all that it has is the records."""
        record, executions = msgspec.json.decode(self.snapshot(), type=tuple[SessionRecord, list[ExecutionRecord]])
        again = World(Session(record, [(each, "code") for each in executions]), promises=promises or self.promises)
        again.now, again.number, again._ids = self.now + 10, self.number, self._ids
        again.feed(m.Restored())
        return again

    def snapshot(self) -> bytes:
        """All that is on record of the session and its live executions."""
        return msgspec.json.encode([self.session.record, [self.record(id) for id in self.session.live]])


RAISED = {"ename": "ValueError", "evalue": "no", "traceback": []}
STOPPED = {"ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
