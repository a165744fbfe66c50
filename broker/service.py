"""The broker: its sessions, and everything a method can ask of them.

It knows nothing of how requests arrive (that is :mod:`broker.api`) nor of how a kernel is spoken to (that is
:mod:`broker.kernel`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from .core import messages as m
from .core.errors import (
    IdempotencyConflict,
    InvalidParams,
    KernelStartFailed,
    LimitReached,
    UnknownExecution,
    UnknownKernelspec,
    UnknownSession,
    WorkingDirectoryMissing,
)
from .core.records import ExecutionRecord, SessionRecord, title_of
from .core.session import INTERRUPT_PATIENCE, Session
from .core.state import Run
from .core.turns import Waits
from .ids import looks_like_session_id, new_id, new_session_id
from .journal import Journal, Scope
from .journal_writer import Committed
from .kernel.driver import KernelDriver, Report
from .runner import Runner

log = logging.getLogger(__name__)


class SessionNotebooks(Protocol):
    """Who keeps sessions as notebooks, if anybody does: see :mod:`broker.notebooks`."""

    def path_of(self, session_id: str) -> str | None:
        """Where a session's notebook is; None if it has none."""

    def came_from(self, execution_id: str, client: str) -> None:
        """Another client's execution came from this one."""


class Broker:
    """All sessions of one journal.

    ``make_driver`` makes a session's kernel driver, ``kernelspecs`` returns the names of those installed, and
    ``default_kernel`` is the one for sessions that name none.
    """

    def __init__(
        self,
        journal: Journal,
        make_driver: Callable[[Report], KernelDriver],
        kernelspecs: Callable[[], dict[str, dict[str, str]]],
        *,
        default_kernel: str,
        max_sessions: int = 1000,
    ) -> None:
        self.journal = journal
        self.kernelspecs = kernelspecs
        self.default_kernel = default_kernel
        self.notebooks: SessionNotebooks | None = None
        self._make_driver = make_driver
        self._max_sessions = max_sessions
        self._runners: dict[str, Runner] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._requests: dict[tuple[str, str], tuple[ExecutionRecord, asyncio.Future[Any]]] = {}
        """Requests whose execution is not on disk yet."""

    # Sessions

    def restore(self) -> None:
        """Take up the sessions of the broker before: their kernels, their queues, their prompts."""
        alive: dict[str, list[ExecutionRecord]] = {}
        for record in self.journal.executions_alive():
            alive.setdefault(record.session_id, []).append(record)
        for session in self.journal.sessions():
            unfinished = [
                (record, self.journal.code(record.execution_id)) for record in alive.pop(session.session_id, [])
            ]
            state = session.kernel_state
            runner = self._drive(Session(session, unfinished))
            runner.feed(m.Restored())
            if state in ("starting", "ready"):
                runner.adopt(ready=state == "ready")

    def _drive(self, session: Session) -> Runner:
        record = session.record
        runner = Runner(session, self.journal, self._make_driver)
        self._runners[record.session_id] = runner
        self._names[record.owner, record.name] = record.session_id
        runner.when_over(lambda: self._forget(record))
        return runner

    def _forget(self, record: SessionRecord) -> None:
        if record.closed_at is None:
            return  # the broker stops, and the next one takes it up
        self._runners.pop(record.session_id, None)
        if self._names.get((record.owner, record.name)) == record.session_id:
            del self._names[record.owner, record.name]

    def session(self, owner: str, ref: str) -> Runner:
        """The open session with this id or name.

        Raises:
            UnknownSession: there is none.
        """
        runner = self._runners.get(self._names.get((owner, ref), ref))
        if runner is None or runner.session.record.owner != owner or runner.session.closed:
            raise UnknownSession(
                f"there is no open session {ref!r}; list_sessions has those there are, create_session makes one"
            )
        return runner

    @property
    def runners(self) -> list[Runner]:
        return list(self._runners.values())

    def runner(self, session_id: str) -> Runner | None:
        """The runner of an open session."""
        return self._runners.get(session_id)

    def open_session(
        self,
        owner: str,
        *,
        name: str | None = None,
        kernel: str | None = None,
        working_directory: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Runner:
        """A new session, without a kernel yet.

        Raises:
            UnknownKernelspec, WorkingDirectoryMissing, LimitReached: see there.
            InvalidParams: the name is another session's, or has the shape of an id.
        """
        kernel = kernel or self.default_kernel
        installed = self.kernelspecs()
        if kernel not in installed:
            raise UnknownKernelspec(
                f"there is no kernelspec {kernel!r}; installed are {', '.join(sorted(installed)) or 'none'}",
                installed=sorted(installed),
            )
        directory = _absolute(working_directory or ".")
        if not os.path.isdir(directory):
            raise WorkingDirectoryMissing(f"{directory} is not a directory; create it, or name another")
        if len(self._runners) >= self._max_sessions:
            raise LimitReached(f"{self._max_sessions} sessions are open; close one with close_session")
        session_id = new_session_id()
        name = name or session_id
        namesake = self._runners.get(self._names.get((owner, name), ""))
        if namesake and not namesake.session.closed:
            raise InvalidParams(f"session {name!r} exists already; use it, or choose another name")
        record = SessionRecord(
            session_id=session_id,
            name=name,
            owner=owner,
            kernel=kernel,
            working_directory=directory,
            env=env or {},
            created_at=time.time(),
        )
        return self._drive(Session(record))

    async def create_session(self, owner: str, **options: object) -> SessionRecord:
        """Open a session, and wait until its kernel is ready.

        Raises:
            KernelStartFailed: it did not get ready. The session is closed again.
        """
        name = options.get("name")
        if isinstance(name, str) and looks_like_session_id(name):
            raise InvalidParams("a session's name must not look like an id; choose another")
        runner = self.open_session(owner, **options)  # type: ignore[arg-type]
        try:
            await self._until_ready(runner)
        except KernelStartFailed:
            await self.close_session(runner)
            raise
        return runner.session.record

    async def restart_session(self, runner: Runner) -> None:
        await runner.submit(m.Restart())
        await self._until_ready(runner)

    async def _until_ready(self, runner: Runner) -> None:
        record = runner.session.record
        seq = self.journal.seq
        await runner.submit(m.EnsureKernel())
        while not runner.session.ready or runner.session.stopping:
            if runner.session.closed:
                raise UnknownSession(f"session {record.name!r} was closed before its kernel was ready")
            if record.kernel_state == "none":
                raise KernelStartFailed(record.start_error or "the kernel did not start")
            await self.journal.changed(Scope(session_id=record.session_id), seq)
            seq = self.journal.seq
        # It is known here before it is on disk. What is asked next is answered when all before it is.
        await runner.submit(m.EnsureKernel())

    async def close_session(self, runner: Runner) -> None:
        """End a session with its executions and its kernel. Its history stays."""
        await runner.submit(m.Close())
        await runner.closed()

    # Executions

    def record(self, owner: str, execution_id: str) -> ExecutionRecord:
        """An execution as it is on disk.

        Raises:
            UnknownExecution: there is none of this owner.
        """
        record = self.journal.execution(execution_id)
        if record is None or record.owner != owner:
            raise UnknownExecution(
                f"there is no execution {execution_id!r}; list_executions has those there are",
                execution_id=execution_id,
            )
        return record

    async def submit(
        self,
        owner: str,
        code: str,
        *,
        session: str,
        kernel: str | None,
        working_directory: str | None,
        wait: float | None,
        stdin: tuple[str, ...],
        on_busy: str,
        request_id: str | None,
        label: str | None,
    ) -> tuple[str, bool]:
        """Queue code. Returns the execution's id, and whether this call made it: not if ``request_id`` came before.

        There is no await before the session has the request, so requests are taken in the order of the calls.
        """
        digest = hashlib.sha256(msgspec.json.encode([code, session])).hexdigest() if request_id else None
        if request_id and (known := await self._same_request(owner, request_id, digest)):
            return known, False
        runner = self._session_for(owner, session, kernel, working_directory)
        record = ExecutionRecord(
            execution_id=new_id(),
            session_id=runner.session.record.session_id,
            owner=owner,
            title=title_of(label or code),
            label=label,
            request_id=request_id,
            request_digest=digest,
            on_busy=on_busy,
            created_at=time.time(),
        )
        queued = runner.submit(m.Submit(record, code, wait, stdin))
        if request_id:
            # Until it is on disk, and even if this caller is cut off before.
            self._requests[owner, request_id] = record, queued
            queued.add_done_callback(lambda _: self._requests.pop((owner, request_id)))
        try:
            await asyncio.shield(queued)
        except asyncio.CancelledError:
            runner.feed(m.WaiterGone(record.execution_id))
            raise
        return record.execution_id, True

    async def _same_request(self, owner: str, request_id: str, digest: str | None) -> str | None:
        """The execution that this request has made before, if it has.

        Raises:
            IdempotencyConflict: its id came with other code.
        """
        record, queued = self._requests.get((owner, request_id)) or (None, None)
        record = record or self.journal.execution_of_request(owner, request_id)
        if record is None:
            return None
        if record.request_digest != digest:
            raise IdempotencyConflict(
                f"request_id {request_id!r} was used for other code, as execution {record.execution_id}; "
                "make a new one for each request",
                execution_id=record.execution_id,
            )
        if queued:
            await asyncio.shield(queued)
        return record.execution_id

    def _session_for(self, owner: str, ref: str, kernel: str | None, working_directory: str | None) -> Runner:
        try:
            runner = self.session(owner, ref)
        except UnknownSession:
            if looks_like_session_id(ref):
                raise
            return self.open_session(owner, name=ref, kernel=kernel, working_directory=working_directory)
        record = runner.session.record
        if kernel not in (None, record.kernel):
            raise InvalidParams(
                f"session {record.name!r} runs kernel {record.kernel!r}; leave kernel out, or use another session"
            )
        if working_directory is not None and _absolute(working_directory) != record.working_directory:
            if not os.path.isdir(_absolute(working_directory)):
                raise WorkingDirectoryMissing(f"{working_directory} is not a directory; create it, or name another")
            raise InvalidParams(
                f"session {record.name!r} was started in {record.working_directory}; leave working_directory out, "
                "change it in the code (os.chdir), or use another session"
            )
        return runner

    def runner_of(self, record: ExecutionRecord) -> Runner | None:
        """The runner of an execution's session, None if that is closed."""
        runner = self._runners.get(record.session_id)
        return runner if runner and not runner.session.closed else None

    async def tell(self, record: ExecutionRecord, input: m.Input) -> object:
        """Give an execution's session an input about it; None if the session is closed and all in it is over."""
        runner = self.runner_of(record)
        return await runner.submit(input) if runner else None

    def waiter_gone(self, execution_id: str) -> None:
        """Nobody awaits this execution any more: the connection that did is closed."""
        record = self.journal.execution(execution_id)
        if record and (runner := self.runner_of(record)):
            runner.feed(m.WaiterGone(execution_id))

    async def until(
        self,
        owner: str,
        execution_id: str,
        enough: Callable[[ExecutionRecord], bool],
        wait: float | None,
        *,
        turns: bool = True,
    ) -> ExecutionRecord:
        """Wait until ``enough`` holds of an execution's record, or ``wait`` seconds are over, or it is over.

        With ``turns`` it is only looked at when its state may have changed, not for each line that it prints.
        """
        scope = Scope(execution_id, turns=turns)
        deadline = None if wait is None else asyncio.get_running_loop().time() + wait
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    seq = self.journal.seq
                    record = self.record(owner, execution_id)
                    if record.run.ended or enough(record):
                        return record
                    await self.journal.changed(scope, seq)
        except TimeoutError:
            return self.record(owner, execution_id)

    async def interrupt(self, record: ExecutionRecord) -> ExecutionRecord:
        """Interrupt one execution, and see for some seconds whether that ends it."""
        if not record.run.ended:
            await self.tell(record, m.Interrupt(record.execution_id))
        return await self.until(record.owner, record.execution_id, lambda _: False, INTERRUPT_PATIENCE + 1)

    async def kill(self, record: ExecutionRecord) -> ExecutionRecord:
        """Interrupt an execution, and kill its kernel, with all that runs there, if that does not end it."""
        if not record.run.ended:
            await self.tell(record, m.Kill(record.execution_id))
        return await self.until(record.owner, record.execution_id, lambda _: False, None)

    async def clear_history(self, record: ExecutionRecord) -> Committed:
        runner = self.runner_of(record)
        if runner is None:
            raise UnknownSession(
                f"the session of execution {record.execution_id} is closed; what it has is kept as it is"
            )
        committed: Committed = await runner.submit(m.ClearHistory(record.execution_id))
        return committed

    def place(self, record: ExecutionRecord) -> tuple[int, str | None] | None:
        """Where a queued execution stands, and behind which; None if it is not queued."""
        runner = self.runner_of(record)
        return runner.session.place(record.execution_id) if runner and record.run is Run.QUEUED else None

    def waits(self, record: ExecutionRecord) -> Waits | None:
        """What a queued execution waits for; None if it is not queued."""
        runner = self.runner_of(record)
        return runner.session.waits(record.execution_id) if runner and record.run is Run.QUEUED else None

    async def stop(self) -> None:
        """Let go of every kernel. They run on."""
        await asyncio.gather(*(runner.leave() for runner in self._runners.values()))
        self._runners.clear()


def _absolute(directory: str) -> str:
    return os.path.abspath(os.path.expanduser(directory))
