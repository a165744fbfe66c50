"""Writing to the journal: transactions, and the synchronisation with the disk that makes them last.

One transaction at a time. A small one is made at once, by whoever appends, if nobody else is at it: that saves a short
execution two changes of thread. All others are made by a thread, and whatever was appended while it was at work goes
into its next one (group commit). The thread also synchronises the write-ahead log with the disk, and copies it into
the database when it has grown.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .core.events import EventType
from .core.records import ExecutionRecord, SessionRecord
from .steps import reached

log = logging.getLogger(__name__)

RETRY_AFTER = 0.05
"""Seconds until the second attempt to write to a disk that refuses; each following one comes after twice that,"""
RETRY_WITHIN = 1.0
"""but not after more than this."""

AT_ONCE = 8
"""Events in a transaction at most that is made where it was appended."""
LOG_BYTES = 16 * 2**20
"""About as many bytes are written before the log is copied into the database,"""
OVERHEAD = 16_384
"""where a transaction takes about so many beside its events."""
DAMAGED = ". The file is damaged: stop the broker, and put back a copy, or move it away to begin anew"
BUSY_TIMEOUT = 60_000
"""Milliseconds that the thread waits for another process which writes; the loop does not wait at all."""


class _GivenUp(Exception):
    """The writer is to end, and the disk still refuses."""


class Stored(msgspec.Struct, frozen=True):
    """An event in its place. ``time`` is in seconds since the epoch; ``body`` is a JSON object."""

    seq: int
    n: int | None
    execution_id: str | None
    session_id: str
    time: float
    type: str
    body: bytes

    def encode(self) -> bytes:
        """The event as the wire API has it: one JSON object."""
        head = b'{"seq":%d,"n":%s,"execution_id":%s,"session_id":"%s","time":"%s","type":"%s"' % (
            self.seq,
            b"null" if self.n is None else b"%d" % self.n,
            b"null" if self.execution_id is None else b'"%s"' % self.execution_id.encode(),
            self.session_id.encode(),
            iso(self.time).encode(),
            self.type.encode(),
        )
        return head + (b"}" if self.body == b"{}" else b"," + self.body[1:])


class Committed(NamedTuple):
    """What became of an append: the seq of its last event, and how many events it cleared away."""

    seq: int
    cleared: int


class Append(NamedTuple):
    """An append under way."""

    written: asyncio.Future[None]
    """Done when it survives this process, however that ends: the kernel may be told."""
    committed: asyncio.Future[Committed]
    """Done when it survives the machine: others may be told. Until then it is not to be read."""

    def __await__(self) -> Generator[Any, None, Committed]:
        return self.committed.__await__()


class Batch(NamedTuple):
    events: list[Stored]
    executions: list[tuple[str, ExecutionRecord, bytes]]
    sessions: list[tuple[SessionRecord, bytes]]
    append: Append


class Written(NamedTuple):
    """A batch that is in the log, and how many events it has cleared away."""

    batch: Batch
    cleared: int


class Writer:
    """The only one that writes to the file at ``path``, over ``connection``.

    It belongs to the event loop that made it. Both are called there, in the order in which batches were appended:
    ``written`` with one that can be read from now on, ``synchronised`` with those that are on disk for good.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        written: Callable[[Batch], object],
        synchronised: Callable[[list[Written]], object],
    ) -> None:
        self._connection = connection
        self._written = written
        self._synchronised = synchronised
        self._loop = asyncio.get_running_loop()
        # SQLite keeps this file for as long as a connection is open.
        self._log = os.open(f"{path}-wal", os.O_RDWR)
        self._keys = _Keys(connection)
        self._queue: queue.SimpleQueue[Batch | Written | None] = queue.SimpleQueue()
        self._using = threading.Lock()
        """Held by the one that uses the connection."""
        self._queued = self._inserted = 0
        """How many batches were left to the thread, and how many of them it has inserted."""
        self._transactions = self._settled = 0
        """How many transactions can be read, and how many of them are synchronised with the disk."""
        self._since_copy = 0
        self._settling: list[asyncio.Future[None]] = []
        self.stalled: str | None = None
        """Why nothing can be written at present, None if it can."""
        self.stalled_since: float | None = None
        """When that began, in seconds since the epoch."""
        self.on_stalled: Callable[[], object] = lambda: None
        """Called when it begins, and when it is over."""
        self._closing = threading.Event()
        connection.execute("PRAGMA busy_timeout = 0")
        self._thread = threading.Thread(target=self._run, name="journal-write", daemon=True)
        self._thread.start()

    def append(self, batch: Batch) -> None:
        """Write a batch, now or soon."""
        if len(batch.events) <= AT_ONCE and self._queued == self._inserted and self._using.acquire(blocking=False):
            try:
                (written,) = self._transact([batch])
            except sqlite3.Error:
                self._roll_back()  # the thread will try again, for as long as it takes
            else:
                # The disk begins while the others are told.
                self._queue.put(written)
                self._say_written([batch])
                return
            finally:
                self._using.release()
        self._queued += 1
        self._queue.put(batch)

    async def settled(self) -> None:
        """Wait until what can be read by now is on disk for good."""
        wanted = self._transactions
        # Fewer, should one of them fail after all; never more, or those who write on would be waited for, too.
        while self._settled < min(wanted, self._transactions):
            self._settling.append(self._loop.create_future())
            await self._settling[-1]

    async def close(self) -> None:
        """Write what was appended, if the disk takes it, and end."""
        self._closing.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        os.close(self._log)

    # In the thread

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            items = [first]
            stop = False
            while not self._queue.empty():
                if (more := self._queue.get()) is None:
                    stop = True
                    break
                items.append(more)
            try:
                self._finish(items)
            except _GivenUp:
                log.error("the journal is closed without what the disk refused; none of it was acknowledged")
                return
            except RuntimeError:  # the loop is closed: nobody is left to be told
                return
            if stop:
                return

    def _finish(self, items: list[Batch | Written]) -> None:
        # Those that are written came first: nothing is written at once while anything is queued.
        written = [item for item in items if isinstance(item, Written)]
        batches = [item for item in items if isinstance(item, Batch)]
        if batches:
            try:
                written += self._write(batches)
            except sqlite3.Error as error:
                # What is written already need not wait until the rest is.
                self._settle(written)
                written = self._insist(batches, error)
            self._loop.call_soon_threadsafe(self._say_written, batches)
        self._settle(written)
        if self._since_copy > LOG_BYTES:
            self._copy_log()

    def _write(self, batches: list[Batch]) -> list[Written]:
        with self._using:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            try:
                written = self._transact(batches)
            except sqlite3.Error:
                self._roll_back()
                raise
            finally:
                self._connection.execute("PRAGMA busy_timeout = 0")
            self._inserted += len(batches)
            return written

    def _insist(self, batches: list[Batch], error: sqlite3.Error) -> list[Written]:
        for delay in _delays():
            self._refused(why(error), delay)
            try:
                return self._write(batches)
            except sqlite3.Error as again:
                error = again
        raise AssertionError("it is tried for ever")

    def _settle(self, written: list[Written]) -> None:
        with self._using:  # or a commit that is just being made would be among them
            covered = self._transactions
        self._synchronise()
        self._loop.call_soon_threadsafe(self._say_synchronised, written, covered)
        for item in written:
            self._since_copy += OVERHEAD + sum(len(event.body) for event in item.batch.events)

    def _synchronise(self) -> None:
        try:
            os.fdatasync(self._log)
        except OSError as error:
            delays = _delays()
            self._refused(str(error), next(delays))
            # A second attempt would succeed and prove nothing: what the system could not write, it has given up.
            # Copied into the database it is written anew.
            while reason := self._copy_log("FULL"):
                self._refused(reason, next(delays))
        reached("committed")

    def _copy_log(self, how: str = "PASSIVE") -> str | None:
        """Copy the log into the database and synchronise that. Returns why not all of it is."""
        self._since_copy = 0
        try:
            with self._using:
                busy, frames, copied = self._connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        except sqlite3.Error as error:
            return why(error)
        return "the log is in use" if busy or copied < frames else None

    def _refused(self, reason: str, delay: float) -> None:
        """Wait until the next attempt, having said why there must be one."""
        self._loop.call_soon_threadsafe(self._stall, reason)
        if self._closing.is_set():
            raise _GivenUp
        self._closing.wait(delay)

    # By whoever holds the connection

    def _transact(self, batches: Sequence[Batch]) -> list[Written]:
        self._connection.execute("BEGIN IMMEDIATE")
        reached("begun")
        written = [Written(batch, self._insert(batch)) for batch in batches]
        reached("inserted")
        self._transactions += 1
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._transactions -= 1
            raise
        reached("written")
        return written

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # then so does BEGIN, and it is tried again
                self._connection.execute("ROLLBACK")
        self._keys.forget()

    def _insert(self, batch: Batch) -> int:
        writer, keys, cleared = self._connection, self._keys, 0
        writer.executemany(
            "INSERT INTO sessions (id, owner, name, closed, record) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, closed = excluded.closed, record = excluded.record",
            ((r.session_id, r.owner, r.name, r.closed_at is not None, blob) for r, blob in batch.sessions),
        )
        writer.executemany(
            "INSERT INTO executions (id, session, owner, request_id, state, record) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state, record = excluded.record",
            (
                (r.execution_id, keys.session(session_id), r.owner, r.request_id, r.run, blob)
                for session_id, r, blob in batch.executions
            ),
        )
        rows: list[tuple[object, ...]] = []
        for event in batch.events:
            execution = keys.execution(event.execution_id) if event.execution_id else None
            row: tuple[object, ...] = (
                event.seq,
                keys.session(event.session_id),
                execution,
                event.n,
                event.time,
                event.type,
                event.body,
            )
            rows.append(row)
            if event.type == EventType.HISTORY_CLEARED:
                self._insert_events(rows)
                rows = []
                cleared += writer.execute(
                    "DELETE FROM events WHERE execution = ? AND type = 'output' AND seq < ?", (execution, event.seq)
                ).rowcount
        self._insert_events(rows)
        return cleared

    def _insert_events(self, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    # On the loop

    def _say_written(self, batches: list[Batch]) -> None:
        for batch in batches:
            if not batch.append.written.done():
                batch.append.written.set_result(None)
            self._written(batch)

    def _say_synchronised(self, written: list[Written], covered: int) -> None:
        self._settled = covered
        self._synchronised(written)
        self._stall(None)
        reached("told")

    def _stall(self, reason: str | None) -> None:
        before, self.stalled = self.stalled, reason
        # They look again: the transaction that they wait for may be none.
        settling, self._settling = self._settling, []
        for waiter in settling:
            if not waiter.done():
                waiter.set_result(None)
        if reason and not before:
            self.stalled_since = time.time()
            log.error("the journal cannot be written (%s); trying again until it can", reason)
            self.on_stalled()
        elif before and not reason:
            self.stalled_since = None
            log.warning("the journal can be written again")
            self.on_stalled()


def why(error: sqlite3.Error) -> str:
    """An error, and what to do about it where that is not plain."""
    damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT
    return f"{error}{DAMAGED if damaged else ''}"


def _delays() -> Iterator[float]:
    """Seconds to wait after each attempt that has failed."""
    delay = RETRY_AFTER
    while True:
        yield delay
        delay = min(2 * delay, RETRY_WITHIN)


class _Keys:
    """The integer keys of ids: what the big table has in place of long texts."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.forget()

    def forget(self) -> None:
        """A transaction was rolled back: keys that it made are not there."""
        self.execution = functools.lru_cache(10_000)(functools.partial(self._find, "executions"))
        self.session = functools.lru_cache(10_000)(functools.partial(self._find, "sessions"))

    def _find(self, table: str, id: str) -> int:
        (key,) = self._connection.execute(f"SELECT key FROM {table} WHERE id = ?", (id,)).fetchone()
        return int(key)


def iso(moment: float) -> str:
    """A time in seconds since the epoch as ISO 8601, in UTC, to the microsecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
