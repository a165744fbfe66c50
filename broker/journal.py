"""The journal: every event there ever was, in one SQLite file, and the only source of truth.

An event is visible to readers when, and only when, it is committed: the write-ahead log is synchronised with the disk
before anybody hears of it. That takes a moment longer than writing it, and a kernel need not wait for it: see
:class:`~broker.journal_writer.Append`.

Beside the events stand the records (:mod:`broker.core.records`), their fold, written in the same transactions: what an
execution is can be told without reading all that it printed.

Readers are cursors. :meth:`Journal.read` returns what follows a seq, :meth:`Journal.changed` waits for more. The last
few megabytes are kept in memory, encoded once, for those that read along.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from .core.events import Event, EventType
from .core.records import ExecutionRecord, SessionRecord
from .journal_writer import Append, Batch, Committed, Stored, Writer, Written, why
from .steps import reached

T = TypeVar("T")

TAIL_BYTES = 8 * 2**20
PAGE_BYTES = 2**20
ENVELOPE = 200
"""About as many bytes as an event's fields take that every event has."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    closed INTEGER NOT NULL, record BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS executions (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, session INTEGER NOT NULL, owner TEXT NOT NULL,
    request_id TEXT, state TEXT NOT NULL, record BLOB NOT NULL, UNIQUE (owner, request_id)
);
CREATE INDEX IF NOT EXISTS executions_by_session ON executions (session);
CREATE INDEX IF NOT EXISTS executions_alive ON executions (state)
    WHERE state IN ('queued', 'running', 'awaiting_input');
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, session INTEGER NOT NULL, execution INTEGER, n INTEGER, time REAL NOT NULL,
    type TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_execution ON events (execution, seq) WHERE execution IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_by_session ON events (session, seq);
"""
SCHEMA_VERSION = 1


class JournalError(Exception):
    """The journal cannot be opened."""


class Line:
    """An event of a page. It is encoded once, when the first asks for it, however many read it."""

    __slots__ = ("_wire", "stored")

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self._wire: bytes | None = None

    @property
    def wire(self) -> bytes:
        """See :meth:`Stored.encode`."""
        if self._wire is None:
            self._wire = self.stored.encode()
        return self._wire

    @property
    def size(self) -> int:
        """About as many bytes as it takes, encoded."""
        return len(self.stored.body) + ENVELOPE


class Page(NamedTuple):
    """Some events in order, and the cursor after them. ``eof``: there was nothing more."""

    lines: Sequence[Line]
    seq: int
    eof: bool


class Scope(NamedTuple):
    """Whose events: one execution's, one session's, or all. ``turns``: only those that may end a wait."""

    execution_id: str | None = None
    session_id: str | None = None
    turns: bool = False


EVERYTHING = Scope()
TURNS = frozenset({EventType.EXECUTION_FINISHED, EventType.INPUT_REQUEST, EventType.HANDOVER})


class Journal:
    """One file. Belongs to the event loop that made it; every method is called there.

    Raises:
        JournalError: the file is not a journal, or was written by a later version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            connection = self._connect()
            self._prepare(connection)
            # The last event is never one of those that a clearing drops, so no seq is given twice.
            (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        except sqlite3.DatabaseError as error:
            raise JournalError(
                f"{path} cannot be used as a journal: {why(error)}; move it away, or use another data directory"
            ) from error
        self._connection = connection
        self._reader = self._connect(readonly=True)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="journal-read")
        self._local = threading.local()
        self._of_threads: list[sqlite3.Connection] = []
        self._assigned = self.seq = last
        self._owners: dict[str, str] = {}
        self._tail: list[Line] = []
        self._tail_bytes = 0
        self._waiting: defaultdict[Scope, list[asyncio.Future[None]]] = defaultdict(list)
        self.writer = Writer(path, connection, self._written, self._committed)

    def _connect(self, *, readonly: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=60)
        if readonly:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            # SQLite synchronises the log before it is copied into the database; after each transaction, we do.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise JournalError(f"{self._path} was written by a later jupyter-broker (schema {version}); upgrade")
        connection.executescript(SCHEMA)
        if version < SCHEMA_VERSION:  # or it would be written to a disk that may be full
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @property
    def stalled(self) -> str | None:
        """Why nothing can be written at present, None if it can."""
        return self.writer.stalled

    @property
    def pending(self) -> int:
        """How many events were appended and are not on disk yet."""
        return int(self._assigned - self.seq)

    async def close(self) -> None:
        """Write what was appended, then close. Nobody may append or read any more."""
        await self.writer.close()
        self._readers.shutdown()
        for reader in (self._reader, *self._of_threads):
            reader.close()
        self._connection.close()

    # Appending

    def append(
        self,
        events: Iterable[Event],
        executions: Iterable[ExecutionRecord] = (),
        sessions: Iterable[SessionRecord] = (),
    ) -> Append:
        """Append events, and the records as they are after them.

        A disk that refuses delays it; it never fails, and nothing is dropped.
        """
        stored = []
        for event in events:
            self._assigned += 1
            body = msgspec.json.encode(event.fields)
            stored.append(
                Stored(self._assigned, event.n, event.execution_id, event.session_id, event.time, event.type, body)
            )
        append = Append(self._loop.create_future(), self._loop.create_future())
        self.writer.append(
            Batch(
                stored,
                [(record.session_id, record, msgspec.json.encode(record)) for record in executions],
                [(record, msgspec.json.encode(record)) for record in sessions],
                append,
            )
        )
        reached("appended")
        return append

    async def settled(self) -> None:
        """Wait until what was read by now, of records too, survives the machine: before others are told of it."""
        await self.writer.settled()

    def _written(self, batch: Batch) -> None:
        for event in batch.events:
            if event.execution_id and event.type in TURNS:
                self._wake(Scope(event.execution_id, turns=True))

    def _committed(self, written: list[Written]) -> None:
        touched: set[Scope] = set()
        for batch, cleared in written:
            for event in batch.events:
                touched.add(Scope(session_id=event.session_id))
                if event.execution_id:
                    touched.add(Scope(event.execution_id))
                self._keep(event)
            if batch.events:
                touched.add(EVERYTHING)
                self.seq = batch.events[-1].seq
            if not batch.append.committed.done():
                batch.append.committed.set_result(Committed(self.seq, cleared))
        for scope in touched:
            self._wake(scope)

    def _wake(self, scope: Scope) -> None:
        for waiter in self._waiting.pop(scope, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _keep(self, event: Stored) -> None:
        if event.type == EventType.HISTORY_CLEARED:
            # What was cleared must not be read from memory either; the disk has what is left.
            self._tail.clear()
            self._tail_bytes = 0
        line = Line(event)
        self._tail.append(line)
        self._tail_bytes += line.size
        if self._tail_bytes > TAIL_BYTES:
            half = len(self._tail) // 2
            self._tail_bytes -= sum(line.size for line in self._tail[:half])
            del self._tail[:half]

    # Reading events

    async def read(
        self, scope: Scope, after: int, limit: int = 1000, *, types: Sequence[str] = (), until: int | None = None
    ) -> Page:
        """The events of ``scope`` with a seq above ``after``, in order: at most ``limit``, or about a megabyte.

        ``until`` is the last seq to return. ``types`` names the only types wanted; none means all.
        """
        until = self.seq if until is None else min(until, self.seq)
        if after >= until:
            return Page((), max(after, 0), True)
        if self._tail and after >= self._tail[0].stored.seq - 1:
            return self._read_tail(scope, after, limit, types, until)
        return await self.in_thread(functools.partial(read_page, scope, after, limit, types, until))

    def _read_tail(self, scope: Scope, after: int, limit: int, types: Sequence[str], until: int) -> Page:
        lines: list[Line] = []
        size = 0
        # Seqs in the tail have no holes, so an event's place in it is known.
        for index in range(after + 1 - self._tail[0].stored.seq, len(self._tail)):
            line = self._tail[index]
            if line.stored.seq > until:
                break
            if not _matches(line.stored, scope, types):
                continue
            if len(lines) >= limit or (lines and size + line.size > PAGE_BYTES):
                return Page(lines, lines[-1].stored.seq, False)
            lines.append(line)
            size += line.size
        return Page(lines, until, True)

    async def changed(self, scope: Scope, after: int) -> None:
        """Wait until something of ``scope`` is committed; at once if anything at all was, after ``after``.

        With ``turns``, until it can be read. Whoever tells of it waits for :meth:`settled` first, and prepares what to
        say while the disk is at it.
        """
        if self.seq > after:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        waiters = self._waiting[scope]
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters and self._waiting.get(scope) is waiters:
                    del self._waiting[scope]

    def here(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Let ``read`` have a read-only connection, on the loop: for what takes no time."""
        return read(self._reader)

    async def in_thread(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Let ``read`` have a read-only connection, in a thread: for what may take long."""

        def call() -> T:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect(readonly=True)
                self._of_threads.append(connection)
            return read(connection)

        return await self._loop.run_in_executor(self._readers, call)

    # Reading records: each a look-up by an index, so none leaves the loop

    def execution(self, execution_id: str) -> ExecutionRecord | None:
        row = self._reader.execute("SELECT record FROM executions WHERE id = ?", (execution_id,)).fetchone()
        return _EXECUTION.decode(row[0]) if row else None

    def code(self, execution_id: str) -> str:
        """What an execution was given to run."""
        row = self._reader.execute(
            "SELECT body FROM events WHERE execution = (SELECT key FROM executions WHERE id = ?) AND n = 1",
            (execution_id,),
        ).fetchone()
        return _CODE.decode(row[0]).code if row else ""

    def execution_of_request(self, owner: str, request_id: str) -> ExecutionRecord | None:
        row = self._reader.execute(
            "SELECT record FROM executions WHERE owner = ? AND request_id = ?", (owner, request_id)
        ).fetchone()
        return _EXECUTION.decode(row[0]) if row else None

    def executions_alive(self) -> list[ExecutionRecord]:
        """Every execution that is not over, the oldest first."""
        rows = self._reader.execute(
            "SELECT record FROM executions WHERE state IN ('queued', 'running', 'awaiting_input') ORDER BY key"
        )
        return [_EXECUTION.decode(blob) for (blob,) in rows]

    async def executions(self, owner: str, session_id: str | None, states: Sequence[str]) -> list[ExecutionRecord]:
        """An owner's executions, the oldest first; those of one session, in some states, if so asked."""
        query, values = "SELECT record FROM executions WHERE owner = ?", [owner]
        if session_id is not None:
            query += " AND session = (SELECT key FROM sessions WHERE id = ?)"
            values.append(session_id)
        if states:
            query += f" AND state IN ({', '.join('?' * len(states))})"
            values.extend(states)
        blobs = await self.in_thread(lambda c: c.execute(query + " ORDER BY key", values).fetchall())
        return [_EXECUTION.decode(blob) for (blob,) in blobs]

    def session(self, session_id: str) -> SessionRecord | None:
        row = self._reader.execute("SELECT record FROM sessions WHERE id = ?", (session_id,)).fetchone()
        return _SESSION.decode(row[0]) if row else None

    def owner(self, session_id: str) -> str | None:
        """Whose session it is."""
        if session_id not in self._owners and (record := self.session(session_id)):
            self._owners[session_id] = record.owner
        return self._owners.get(session_id)

    def sessions(self, *, closed: bool = False) -> list[SessionRecord]:
        """The open sessions, or those that were closed; the oldest first."""
        rows = self._reader.execute("SELECT record FROM sessions WHERE closed = ? ORDER BY key", (closed,))
        return [_SESSION.decode(blob) for (blob,) in rows]

    def counts(self, session_id: str) -> dict[str, int]:
        """How many executions of a session are in each state."""
        rows = self._reader.execute(
            "SELECT state, count(*) FROM executions WHERE session = (SELECT key FROM sessions WHERE id = ?)"
            " GROUP BY state",
            (session_id,),
        )
        return dict(rows.fetchall())

    def has_output(self, execution_id: str, after: int) -> bool:
        """Whether an execution has output with a seq above ``after``."""
        return self.here(lambda c: any(select(c, Scope(execution_id), after=after, types=[EventType.OUTPUT], limit=1)))

    def last_seq(self, execution_id: str) -> int:
        """The seq of an execution's last event."""
        (seq,) = self._reader.execute(
            "SELECT max(seq) FROM events WHERE execution = (SELECT key FROM executions WHERE id = ?)", (execution_id,)
        ).fetchone()
        return seq or 0

    def seq_at(self, moment: float) -> int:
        """The seq of the last event at or before ``moment``, in seconds since the epoch; 0 if there is none."""
        # Events are written in the order of their times (to within a step of the clock), so this is a bisection.
        low, high = 0, self.seq
        while low < high:
            middle = (low + high + 1) // 2
            row = self._reader.execute(
                "SELECT seq, time FROM events WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT 1", (middle, high)
            ).fetchone()
            if row is None or row[1] > moment:
                high = middle - 1
            else:
                low = row[0]
        return low


def read_page(
    scope: Scope, after: int, limit: int, types: Sequence[str], until: int, connection: sqlite3.Connection
) -> Page:
    """The page that :meth:`Journal.read` returns, read from the disk."""
    lines: list[Line] = []
    size = 0
    for stored in select(connection, scope, after=after, until=until, types=types, limit=limit + 1):
        line = Line(stored)
        if len(lines) >= limit or (lines and size + line.size > PAGE_BYTES):
            return Page(lines, lines[-1].stored.seq, False)
        lines.append(line)
        size += line.size
    return Page(lines, until, True)


def select(
    connection: sqlite3.Connection,
    scope: Scope,
    *,
    after: int = 0,
    until: int = 2**62,
    types: Sequence[str] = (),
    limit: int = -1,
    backward: bool = False,
) -> Iterable[Stored]:
    """The events of ``scope`` with ``after < seq <= until``, lazily, from the first on or from the last back."""
    where, values = ["e.seq > ?", "e.seq <= ?"], [after, until]
    parameters: list[object] = [*values]
    if scope.execution_id is not None:
        where.append("e.execution = (SELECT key FROM executions WHERE id = ?)")
        parameters.append(scope.execution_id)
    if scope.session_id is not None:
        where.append("e.session = (SELECT key FROM sessions WHERE id = ?)")
        parameters.append(scope.session_id)
    if types:
        where.append(f"e.type IN ({', '.join('?' * len(types))})")
        parameters.extend(types)
    order = "DESC" if backward else "ASC"
    rows = connection.execute(
        "SELECT e.seq, e.n, x.id, s.id, e.time, e.type, e.body FROM events e"
        " CROSS JOIN sessions s ON s.key = e.session LEFT JOIN executions x ON x.key = e.execution"
        f" WHERE {' AND '.join(where)} ORDER BY e.seq {order} LIMIT ?",
        (*parameters, limit),
    )
    return (Stored(*row) for row in rows)


def touched(connection: sqlite3.Connection, after: int, until: int) -> list[tuple[str, str | None]]:
    """Which sessions, and which executions of theirs, have events with ``after < seq <= until``, the first first."""
    rows = connection.execute(
        "SELECT s.id, x.id FROM (SELECT session, execution, min(seq) AS first FROM events"
        " WHERE seq > ? AND seq <= ? GROUP BY session, execution) e"
        " JOIN sessions s ON s.key = e.session LEFT JOIN executions x ON x.key = e.execution ORDER BY e.first",
        (after, until),
    )
    return rows.fetchall()


def characters_printed(connection: sqlite3.Connection, scope: Scope, after: int, until: int) -> int:
    """How many characters of stream output an execution printed with ``after < seq <= until``."""
    (count,) = connection.execute(
        "SELECT coalesce(sum(length(json_extract(body, '$.content.text'))), 0) FROM events"
        " WHERE execution = (SELECT key FROM executions WHERE id = ?) AND seq > ? AND seq <= ? AND type = 'output'",
        (scope.execution_id, after, until),
    ).fetchone()
    return int(count)


def _matches(event: Stored, scope: Scope, types: Sequence[str]) -> bool:
    return (
        (scope.execution_id is None or scope.execution_id == event.execution_id)
        and (scope.session_id is None or scope.session_id == event.session_id)
        and (not types or event.type in types)
    )


class _Code(msgspec.Struct):
    code: str = ""


_CODE = msgspec.json.Decoder(_Code)
_EXECUTION = msgspec.json.Decoder(ExecutionRecord)
_SESSION = msgspec.json.Decoder(SessionRecord)
