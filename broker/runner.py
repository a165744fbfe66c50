"""The runner: the one task that drives a session, and the only writer of its events.

Its loop is the whole data flow: take what has come in, let the session handle it, append the events, and only then
touch the kernel; and only when they are on disk for good, tell the callers. What comes in meanwhile is the next
round's, so a flood of output is journalled in few large transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any

from .core import messages as m
from .core.errors import BrokerError, UnknownSession
from .core.events import Event
from .core.records import ExecutionRecord, SessionRecord
from .core.session import Session
from .journal import TURNS, Journal
from .journal_writer import Append, Committed
from .kernel.driver import KernelDriver, Report
from .steps import reached

log = logging.getLogger(__name__)

ROUND = 2000
"""Inputs handled in one round at most, so that callers are answered during a flood too."""
LEAVE_PATIENCE = 5.0
"""Seconds that a last round may take when the broker stops: the disk may refuse."""
LINGER = 0.02
"""Seconds that output may wait for more of it, where nobody's call waits: what comes together shares a transaction."""


class _Round:
    """What the inputs since the last append have led to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.effects: list[m.Effect] = []
        self.answers: list[tuple[asyncio.Future[Any], Any]] = []
        self.urgent = False

    def add(self, step: m.Step, answer: asyncio.Future[Any] | None) -> None:
        self.events += step.events
        self.effects += step.effects
        if answer:
            self.answers.append((answer, step.result))
        self.urgent = (
            self.urgent or bool(step.effects) or answer is not None or any(e.type in TURNS for e in step.events)
        )

    def fail(self, error: Exception) -> None:
        """Tell those who wait for an answer, and have none, that there will be none."""
        for answer, _ in self.answers:
            if not answer.done():
                answer.set_exception(error)


class Runner:
    """Drives ``session`` on a kernel that ``make_driver`` makes the driver of."""

    def __init__(self, session: Session, journal: Journal, make_driver: Callable[[Report], KernelDriver]) -> None:
        self.session = session
        self._journal = journal
        self._driver = make_driver(self.feed)
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[tuple[m.Input, asyncio.Future[Any] | None]] = deque()
        self._called = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._kept: SessionRecord | None = None
        """The session's record as the journal has it."""
        self._changed: dict[str, ExecutionRecord] = {}
        """The executions' records that changed since the last commit, be it without an event."""
        self._heard: list[int] = []
        """The numbers of what was heard from the kernel's outbox since the last commit."""
        self._starting: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._task = asyncio.ensure_future(self._run())

    def feed(self, input: m.Input) -> None:
        """Hand over an input that nobody waits for."""
        self._inbox.append((input, None))
        self._called.set()

    def submit(self, input: m.Input) -> asyncio.Future[Any]:
        """Hand over a caller's input, in the order of the calls.

        The future has the session's result once the events are on disk, or its :class:`BrokerError`.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.session.closed:
            # Nobody may be left to take it.
            name = self.session.record.name
            answer.set_exception(UnknownSession(f"session {name!r} was closed; use another, or create it again"))
            return answer
        self._inbox.append((input, answer))
        self._called.set()
        return answer

    def adopt(self, *, ready: bool) -> None:
        """Take back the kernel that the session's record names. ``ready``: it had got ready."""
        self._spawn(self._driver.adopt(self.session.record, ready=ready))

    async def leave(self) -> None:
        """Stop driving, when what has come in by now is dealt with. The kernel runs on."""
        self._leaving = True
        self._called.set()
        for task in self._starting:
            task.cancel()
        await asyncio.wait([self._task], timeout=LEAVE_PATIENCE)
        self._task.cancel()
        if self._timer:
            self._timer.cancel()
        await asyncio.gather(self._task, *self._starting, return_exceptions=True)

    async def closed(self) -> None:
        """Wait until the session is closed and nothing is left to do."""
        await asyncio.wait([self._task])

    def when_over(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` when the session is closed and nothing is left to do, or when it was left."""
        self._task.add_done_callback(lambda _: tell())

    async def _run(self) -> None:
        try:
            await self._take_turns()
        finally:
            await self._driver.leave()

    async def _take_turns(self) -> None:
        last = False
        while not last:
            await self._called.wait()
            last = self._leaving
            round = _Round()
            self._handle_inbox(round)
            reached("handled")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    while round.events and not round.urgent and not self._leaving:
                        await self._called.wait()
                        self._handle_inbox(round)
            try:
                await self._finish(round)
            except Exception as error:
                # A defect, too: whoever waits is told, and the session goes on.
                log.exception("session %s could not finish a round", self.session.record.session_id)
                round.fail(error)
            self._set_timer()
            last = last or (self.session.closed and not self._inbox)

    def _handle_inbox(self, round: _Round) -> None:
        now = m.Now(time.time(), self._loop.time())
        for _ in range(min(ROUND, len(self._inbox))):
            input, answer = self._inbox.popleft()
            try:
                self._recall(input)
                round.add(self._handle(input, now), answer)
            except BrokerError as error:
                if answer and not answer.done():
                    answer.set_exception(error)
            except Exception as error:
                # A defect. The others in this session must still be served, and the caller told.
                log.exception("session %s could not handle %s", self.session.record.session_id, type(input).__name__)
                if answer and not answer.done():
                    answer.set_exception(error)
        if not self._inbox and not self._leaving:
            self._called.clear()

    def _handle(self, input: m.Input, now: m.Now) -> m.Step:
        before = self.session.record.heard
        step = self.session.handle(input, now)
        if self.session.record.heard > before:
            self._heard.append(self.session.record.heard)
        self._changed.update((record.execution_id, record) for record in step.changed)
        return step

    async def _finish(self, round: _Round) -> None:
        """Append, and only then act and answer."""
        heard, append = self._heard, None
        # What was heard and makes no event is read again after a crash. That must not become much, either.
        if round.events or len(heard) >= ROUND:
            self._heard = []
            append = self._append(round.events)
            await append.written
            if heard:
                self._driver.digested(heard[-1])
        for effect in round.effects:
            await self._perform(effect)
        reached("acted")
        committed = await append.committed if append else Committed(self._journal.seq, 0)
        for answer, result in round.answers:
            if not answer.done():
                answer.set_result(committed if result is None else result)
        reached("answered")

    def _recall(self, input: m.Input) -> None:
        """Let the session know an execution again that it has long forgotten."""
        execution_id = getattr(input, "execution_id", None)
        if execution_id and self.session.find(execution_id) is None and not isinstance(input, m.Idle | m.Replied):
            record = self._changed.get(execution_id) or self._journal.execution(execution_id)
            if record and record.session_id == self.session.record.session_id:
                self.session.remember(record)

    def _append(self, events: list[Event]) -> Append:
        executions, self._changed = self._changed, {}
        session = self.session.record
        changed, self._kept = session != self._kept, copy(session)
        return self._journal.append(events, executions.values(), [session] if changed else ())

    async def _perform(self, effect: m.Effect) -> None:
        driver = self._driver
        match effect:
            case m.SendExecute(execution_id, code, lane):
                driver.execute(execution_id, code, lane)
            case m.SendInput(execution_id, value):
                driver.answer(execution_id, value)
            case m.SendInterrupt(execution_id, lane):
                await driver.interrupt(execution_id, lane)
            case m.Probe(execution_id, lane):
                driver.probe(execution_id, lane)
            case m.StartKernel() if not self._leaving:
                self._spawn(self._start())
            case m.KillKernel(politely):
                self._spawn(driver.kill(politely=politely))

    async def _start(self) -> None:
        try:
            await self._driver.start(self.session.record)
        except Exception as error:
            log.exception("session %s: its kernel could not be started", self.session.record.session_id)
            self.feed(m.KernelStartFailed(f"the broker failed to start it: {error!r}"))

    def _spawn(self, work: Any) -> None:
        """Do what takes long without keeping the session from anything else."""
        task = asyncio.ensure_future(work)
        self._starting.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("session %s: its driver failed", self.session.record.session_id, exc_info=error)

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        deadline = self.session.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self.feed, m.Tick())
