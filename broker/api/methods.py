"""The methods of the wire API. Each turns parameters into a question to the broker, and its answer into a result."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from ..core import messages as m
from ..core.errors import InvalidParams, KernelStartFailed, NotWaiting, UnknownSession
from ..core.records import ExecutionRecord, SessionRecord
from ..core.state import Origin, Run
from ..core.stdin import split_lines
from ..journal import EVERYTHING, Scope
from ..service import Broker
from ..views.replies import Replies
from . import types as t

ALIVE = [run for run in Run if not run.ended]


class Connection(Protocol):
    """What a method can ask of the connection it was called over, where that can carry notifications."""

    def subscribe(self, scope: Scope, after: int) -> str: ...

    def unsubscribe(self, subscription: str) -> None: ...


class Caller(NamedTuple):
    """Who calls, and over what. HTTP has no connection that lasts."""

    owner: str
    connection: Connection | None = None


class Method(NamedTuple):
    name: str
    params: type[t.Params]
    result: type
    call: Callable[[Methods, Caller, Any], Awaitable[Any]]
    doc: str


METHODS: dict[str, Method] = {}


def method(call: Any) -> Any:
    """Make a coroutine function a method of the API: its annotations are what it takes and returns."""
    hints = typing.get_type_hints(call)
    name = call.__name__
    METHODS[name] = Method(name, hints["params"], hints["return"], call, inspect.getdoc(call) or "")
    return call


class Methods:
    """All of them, for one broker. ``handover_after`` is the default ``wait``, in seconds."""

    def __init__(self, broker: Broker, *, handover_after: float = 30.0) -> None:
        self._broker = broker
        self._replies = Replies(broker)
        self._handover_after = handover_after

    # Executions

    async def settled(self) -> None:
        """Wait until all that a result may tell is on disk for good."""
        await self._broker.journal.settled()

    @method
    async def execute(self, caller: Caller, params: t.ExecuteParams) -> t.Execution:
        """Run code. Returns when it is done, when it asks for input, or after ``wait`` seconds; it then runs on."""
        wait = self._wait(params.wait)
        execution_id, ours = await self._broker.submit(
            caller.owner,
            params.code,
            session=params.session,
            kernel=params.kernel,
            working_directory=params.working_directory,
            wait=wait,
            stdin=tuple(line for data in params.stdin for line in split_lines(data)),
            on_busy=params.on_busy,
            request_id=params.request_id,
            label=params.label,
        )
        if ours:
            # The session itself ends this wait: by its handover event, at the latest.
            try:
                record = await self._broker.until(caller.owner, execution_id, _handed_over, None)
            except asyncio.CancelledError:
                self._broker.waiter_gone(execution_id)
                raise
        else:
            record = await self._broker.until(caller.owner, execution_id, _asks, wait)
        if record.run is Run.LOST and record.error and record.error["ename"] == "KernelStartFailed":
            raise KernelStartFailed(record.error["evalue"], execution_id=execution_id)
        return await self._replies.execution(record, max_output=params.max_output)

    @method
    async def wait(self, caller: Caller, params: t.WaitParams) -> t.Execution:
        """Wait for the end of an execution, for its prompt, or with ``until="output"`` for output after a seq."""
        record = self._broker.record(caller.owner, params.execution_id)
        after = params.after or 0
        enough = _asks
        if params.until == "output":
            after = self._broker.journal.last_seq(record.execution_id) if params.after is None else after

            def enough(record: ExecutionRecord) -> bool:
                return _asks(record) or self._broker.journal.has_output(record.execution_id, after)

        turns = params.until == "done"
        record = await self._broker.until(
            caller.owner, params.execution_id, enough, self._wait(params.wait), turns=turns
        )
        return await self._replies.execution(record, max_output=params.max_output, after=after)

    @method
    async def get_execution(self, caller: Caller, params: t.ExecutionParams) -> t.Execution:
        """An execution as it stands."""
        return await self._replies.execution(self._broker.record(caller.owner, params.execution_id))

    @method
    async def list_executions(self, caller: Caller, params: t.ListExecutionsParams) -> t.Executions:
        """The caller's executions, oldest first: all, or those of one session or in one state."""
        session_id = None
        if params.session is not None:
            session_id = self._session(caller, params.session).session_id
        states = [params.state] if params.state else []
        records = await self._broker.journal.executions(caller.owner, session_id, states)
        return t.Executions(executions=[self._replies.summary(record) for record in records])

    @method
    async def list_async_executions(self, caller: Caller, params: t.NoParams) -> t.Executions:
        """The caller's detached executions that are not over."""
        records = await self._alive(caller)
        return t.Executions(executions=[self._replies.summary(record) for record in records if record.detached])

    @method
    async def get_async_log(self, caller: Caller, params: t.GetAsyncLogParams) -> t.LogPage:
        """The whole history of an execution, in pages: go on with ``after=seq`` until ``eof``."""
        record = self._broker.record(caller.owner, params.execution_id)
        scope = Scope(execution_id=record.execution_id)
        page = await self._broker.journal.read(scope, params.after, params.limit)
        return t.LogPage(events=[msgspec.Raw(line.wire) for line in page.lines], seq=page.seq, eof=page.eof)

    @method
    async def get_progress(self, caller: Caller, params: t.GetProgressParams) -> t.Progress:
        """What an execution printed since a time (ISO 8601) or after a seq."""
        if params.since is not None and params.after is not None:
            raise InvalidParams("since and after exclude each other; send one of them")
        record = self._broker.record(caller.owner, params.execution_id)
        after = params.after or 0
        if params.since is not None:
            after = self._broker.journal.seq_at(_moment(params.since))
        return await self._replies.progress(record, after, params.max_output)

    @method
    async def send_stdin(self, caller: Caller, params: t.SendStdinParams) -> t.StdinResult:
        """Give an execution lines of input: the open prompt gets the first, the next ones wait in order."""
        if params.data is None and not params.eof:
            raise InvalidParams('send data (a line; "" is the Enter key), or eof=true, or both')
        record = self._broker.record(caller.owner, params.execution_id)
        lines = () if params.data is None else split_lines(params.data)
        taken = await self._broker.tell(record, m.SendStdin(record.execution_id, lines, params.eof))
        if not isinstance(taken, m.StdinTaken):
            raise NotWaiting(f"execution {record.execution_id} is over ({record.run}) and reads no more input")
        return t.StdinResult(delivered=taken.delivered, queued=taken.queued)

    @method
    async def interrupt(self, caller: Caller, params: t.ExecutionParams) -> t.Execution:
        """Interrupt one execution and leave its kernel, and the others in it, alone."""
        before = self._broker.record(caller.owner, params.execution_id)
        record = await self._broker.interrupt(before)
        hint = None
        if not record.run.ended:
            hint = (
                "It was interrupted several times and runs on: it catches KeyboardInterrupt, or is in code that "
                "cannot be interrupted. kill ends it, at the price of the kernel's variables, and of all else that "
                "runs in that kernel."
            )
        elif before.run.ended:
            hint = f"It was over already ({record.run})."
        execution = await self._replies.execution(record, hint=hint)
        if not record.run.ended:
            execution.kernel_state = "preserved"
        return execution

    @method
    async def kill(self, caller: Caller, params: t.KillParams) -> t.Killed:
        """End an execution, or all of the caller's: by an interrupt, or else with its kernel and all else in it."""
        if params.execution_id is not None:
            records = [self._broker.record(caller.owner, params.execution_id)]
        else:
            records = await self._alive(caller)
            # The last first: what is queued must not begin when what runs before it ends.
            records.reverse()
        killed = await asyncio.gather(*(self._broker.kill(record) for record in records))
        return t.Killed(killed=[await self._replies.execution(record) for record in reversed(killed)])

    @method
    async def clear_history(self, caller: Caller, params: t.ClearHistoryParams) -> t.Cleared:
        """Drop the output stored so far for an execution. ``seq`` and ``n`` go on."""
        record = self._broker.record(caller.owner, params.execution_id)
        if not params.clear_history:
            return t.Cleared(cleared=0, seq=self._broker.journal.last_seq(record.execution_id))
        committed = await self._broker.clear_history(record)
        return t.Cleared(cleared=committed.cleared, seq=committed.seq)

    # Sessions

    @method
    async def create_session(self, caller: Caller, params: t.CreateSessionParams) -> t.Session:
        """Start a kernel under a name, and wait until it is ready."""
        record = await self._broker.create_session(caller.owner, **msgspec.structs.asdict(params))
        return self._replies.session(record)

    @method
    async def get_session(self, caller: Caller, params: t.SessionParams) -> t.Session:
        """A session, open or closed."""
        return self._replies.session(self._session(caller, params.session))

    @method
    async def restart_session(self, caller: Caller, params: t.SessionParams) -> t.Session:
        """Kill a session's kernel, with all that runs in it, and start a new one."""
        runner = self._broker.session(caller.owner, params.session)
        await self._broker.restart_session(runner)
        return self._replies.session(runner.session.record)

    @method
    async def close_session(self, caller: Caller, params: t.SessionParams) -> t.Session:
        """End a session, with all that runs in it, and its kernel. Its history stays."""
        runner = self._broker.session(caller.owner, params.session)
        await self._broker.close_session(runner)
        return self._replies.session(runner.session.record)

    @method
    async def list_sessions(self, caller: Caller, params: t.NoParams) -> t.Sessions:
        """The caller's open sessions."""
        records = [runner.session.record for runner in self._broker.runners]
        mine = [record for record in records if record.owner == caller.owner and record.closed_at is None]
        return t.Sessions(sessions=[self._replies.session(record) for record in mine])

    @method
    async def list_kernelspecs(self, caller: Caller, params: t.NoParams) -> t.Kernelspecs:
        """The kernels that a session can have."""
        specs = self._broker.kernelspecs()
        return t.Kernelspecs(
            kernelspecs=[
                t.Kernelspec(name=name, default=name == self._broker.default_kernel, **spec)
                for name, spec in sorted(specs.items())
            ]
        )

    # Events

    @method
    async def subscribe(self, caller: Caller, params: t.SubscribeParams) -> t.Subscription:
        """Have events sent as they happen, after a seq (null: from now). Needs the WebSocket."""
        if caller.connection is None:
            raise InvalidParams("subscribe needs the WebSocket; over HTTP, page with get_async_log")
        if params.execution_id is not None and params.session is not None:
            raise InvalidParams("execution_id and session exclude each other; send one of them, or neither")
        scope = EVERYTHING
        if params.execution_id is not None:
            scope = Scope(execution_id=self._broker.record(caller.owner, params.execution_id).execution_id)
        elif params.session is not None:
            scope = Scope(session_id=self._session(caller, params.session).session_id)
        after = self._broker.journal.seq if params.after is None else params.after
        return t.Subscription(subscription=caller.connection.subscribe(scope, after), seq=after)

    @method
    async def unsubscribe(self, caller: Caller, params: t.UnsubscribeParams) -> t.Unsubscribed:
        """End a subscription of this connection."""
        if caller.connection is None:
            raise InvalidParams("unsubscribe needs the WebSocket that the subscription was made over")
        caller.connection.unsubscribe(params.subscription)
        return t.Unsubscribed(subscription=params.subscription)

    # Not of the wire API

    async def notebook(self, caller: Caller, ref: str) -> tuple[str, str]:
        """A session as a notebook: a name for it, and its JSON.

        Raises:
            UnknownSession: the caller has no such session.
        """
        record = self._session(caller, ref)
        return record.session_id, await self._replies.notebook(record)

    # Small tools

    def _wait(self, wait: float | msgspec.UnsetType | None) -> float | None:
        return self._handover_after if isinstance(wait, msgspec.UnsetType) else wait

    async def _alive(self, caller: Caller) -> list[ExecutionRecord]:
        """The caller's executions that are not over. What another client of a kernel runs is not the caller's."""
        records = await self._broker.journal.executions(caller.owner, None, ALIVE)
        return [record for record in records if record.origin is Origin.API]

    def _session(self, caller: Caller, ref: str) -> SessionRecord:
        """A session, which may be closed if ``ref`` is an id."""
        try:
            return self._broker.session(caller.owner, ref).session.record
        except UnknownSession:
            record = self._broker.journal.session(ref)
            if record is None or record.owner != caller.owner:
                raise
            return record


def _handed_over(record: ExecutionRecord) -> bool:
    return record.detached


def _asks(record: ExecutionRecord) -> bool:
    return record.run is Run.AWAITING_INPUT


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidParams(f"since must be a time in ISO 8601, such as 2026-01-31T12:00:00Z; not {text!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
