"""The journal: on a real SQLite file, with the disk refusing where that is the point."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.core.events import Event, EventType
from broker.core.records import ExecutionRecord, SessionRecord
from broker.core.state import Run
from broker.journal import EVERYTHING, PAGE_BYTES, TAIL_BYTES, Journal, JournalError, Scope
from broker.journal_writer import AT_ONCE, _delays

SESSION = SessionRecord(session_id="s", name="n", owner="me", kernel="k", working_directory="/", created_at=0.0)


def execution(id: str, **fields: object) -> ExecutionRecord:
    return ExecutionRecord(execution_id=id, session_id="s", owner="me", created_at=0.0, **fields)  # type: ignore[arg-type]


def output(id: str, n: int, text: str, *, at: float = 0.0) -> Event:
    content = msgspec.Raw(json.dumps({"name": "stdout", "text": text}).encode())
    return Event(EventType.OUTPUT, at or time.time(), "s", {"msg_type": "stream", "content": content}, id, n)


def texts(page: object) -> list[str]:
    return [json.loads(line.wire)["content"]["text"] for line in page.lines]  # type: ignore[attr-defined]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.append([], [execution("a"), execution("b")], [SESSION])
    yield journal
    await journal.close()


async def test_what_is_appended_is_read_in_order_by_all_and_by_one(journal: Journal) -> None:
    await journal.append([output("a", 1, "1"), output("b", 1, "2"), output("a", 2, "3")])
    assert texts(await journal.read(EVERYTHING, 0)) == ["1", "2", "3"]
    assert texts(await journal.read(Scope(execution_id="a"), 0)) == ["1", "3"]
    assert texts(await journal.read(Scope(session_id="s"), 1)) == ["2", "3"]
    assert texts(await journal.read(Scope(session_id="other"), 0)) == []


async def test_an_event_is_read_when_it_is_on_disk_and_not_before(journal: Journal, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite") as other:
        other.execute("BEGIN IMMEDIATE")
        committed = journal.append([output("a", 1, "x")])
        await asyncio.sleep(0)
        assert (await journal.read(EVERYTHING, 0)).lines == ()
        assert not committed.written.done()
        assert not committed.committed.done()
        other.rollback()
    other.close()
    assert (await committed).seq == 1
    assert texts(await journal.read(EVERYTHING, 0)) == ["x"]


@pytest.mark.parametrize("from_disk", [False, True])
async def test_pages_go_on_from_their_cursor_until_the_end(journal: Journal, from_disk: bool) -> None:
    await journal.append([output("a", n, str(n)) for n in range(1, 26)])
    if from_disk:
        journal._tail.clear()
    found, after, pages = [], 0, 0
    while True:
        page = await journal.read(Scope(execution_id="a"), after, 10)
        found += texts(page)
        after, pages = page.seq, pages + 1
        if page.eof:
            break
    assert found == [str(n) for n in range(1, 26)]
    assert pages == 3


@pytest.mark.parametrize("from_disk", [False, True])
async def test_a_page_is_bounded_in_bytes_but_never_empty(journal: Journal, from_disk: bool) -> None:
    await journal.append([output("a", n, "x" * PAGE_BYTES) for n in (1, 2)])
    if from_disk:
        journal._tail.clear()
    page = await journal.read(EVERYTHING, 0)
    assert len(page.lines) == 1
    assert not page.eof
    assert len((await journal.read(EVERYTHING, page.seq)).lines) == 1


async def test_memory_and_disk_say_the_same_to_the_byte(journal: Journal) -> None:
    await journal.append([output("a", n, f"{n} ü \u2028") for n in range(1, 50)])
    from_memory = [line.wire for line in (await journal.read(EVERYTHING, 3)).lines]
    journal._tail.clear()
    assert [line.wire for line in (await journal.read(EVERYTHING, 3)).lines] == from_memory


async def test_the_memory_it_keeps_is_bounded_and_nothing_is_missing(journal: Journal) -> None:
    rounds = 3 * TAIL_BYTES // 100_000
    for n in range(1, rounds + 1):
        await journal.append([output("a", n, "x" * 100_000)])
    assert journal._tail_bytes <= TAIL_BYTES + 200_000
    after, count = 0, 0
    while True:
        page = await journal.read(EVERYTHING, after)
        count, after = count + len(page.lines), page.seq
        if page.eof:
            break
    assert count == rounds


async def test_who_waits_is_woken_by_what_it_waits_for(journal: Journal) -> None:
    waiting_a = asyncio.ensure_future(journal.changed(Scope(execution_id="a"), journal.seq))
    waiting_b = asyncio.ensure_future(journal.changed(Scope(execution_id="b"), journal.seq))
    await asyncio.sleep(0)
    await journal.append([output("a", 1, "x")])
    await asyncio.wait_for(waiting_a, 10)
    assert not waiting_b.done()
    waiting_b.cancel()
    await asyncio.wait([waiting_b])
    assert not journal._waiting, "who gave up leaves nothing behind"


async def test_nobody_waits_for_what_is_there_already(journal: Journal) -> None:
    await journal.append([output("a", 1, "x")])
    await asyncio.wait_for(journal.changed(Scope(execution_id="b"), 0), 1)


async def test_clearing_drops_the_output_so_far_and_seq_goes_on(journal: Journal) -> None:
    await journal.append([output("a", 1, "old"), output("b", 1, "kept")])
    committed = await journal.append([Event(EventType.HISTORY_CLEARED, 0.0, "s", {}, "a", 2), output("a", 3, "new")])
    assert committed.cleared == 1
    for _ in ("memory", "disk"):
        page = await journal.read(Scope(execution_id="a"), 0)
        assert [line.stored.seq for line in page.lines] == [3, 4]
        assert texts(await journal.read(Scope(execution_id="b"), 0)) == ["kept"]
        journal._tail.clear()


async def test_seq_and_records_outlive_the_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.append([output("a", 1, "x")], [execution("a", run=Run.RUNNING, request_id="r")], [SESSION])
    await journal.close()
    again = Journal(tmp_path / "journal.sqlite")
    assert again.seq == 1
    assert [record.execution_id for record in again.executions_alive()] == ["a"]
    assert again.execution_of_request("me", "r") == again.execution("a")
    assert again.execution_of_request("you", "r") is None
    await again.append([output("a", 2, "y")])
    assert texts(await again.read(EVERYTHING, 0)) == ["x", "y"]
    await again.close()


async def test_the_last_event_before_a_moment_is_found(journal: Journal) -> None:
    await journal.append([output("a", n, str(n), at=float(n * 10)) for n in range(1, 100)])
    assert journal.seq_at(5.0) == 0
    assert journal.seq_at(10.0) == 1
    assert journal.seq_at(455.0) == 45
    assert journal.seq_at(1e9) == 99


async def test_a_disk_that_refuses_delays_and_loses_nothing(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    await journal.append([output("a", 1, "before")])
    (pages,) = journal._reader.execute("PRAGMA page_count").fetchone()
    # What a full disk says, from SQLite itself; the limit belongs to the connection.
    await asyncio.to_thread(journal._connection.execute, f"PRAGMA max_page_count = {pages}")
    committed = journal.append([output("a", n, "x" * 50_000) for n in range(2, 12)])
    while journal.stalled is None:
        await asyncio.wait({committed.committed}, timeout=0.05)
    assert not committed.written.done()
    assert texts(await journal.read(EVERYTHING, 0)) == ["before"]
    # Between two attempts nobody uses the connection for long; SQLite itself serialises its users.
    journal._connection.execute("PRAGMA max_page_count = 1000000")
    assert (await asyncio.wait_for(committed.committed, 30)).seq == 11
    assert journal.stalled is None
    assert len((await journal.read(EVERYTHING, 0)).lines) == 11
    assert "trying again" in caplog.text


class Refusing:
    """Stands in for the writer's connection: ``statement`` is refused with ``error`` while there is one."""

    def __init__(self, journal: Journal, statement: str, error: Exception | None) -> None:
        self._connection, self.statement, self.error = journal._connection, statement, error
        self.refused: asyncio.Queue[str] = asyncio.Queue()
        self.go_on = threading.Event()
        self.go_on.set()
        self._loop = asyncio.get_running_loop()
        journal.writer._connection = journal.writer._keys._connection = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> Any:
        if (error := self.error) and statement == self.statement:
            self._loop.call_soon_threadsafe(self.refused.put_nowait, statement)
            self.go_on.wait()
            raise error
        return self._connection.execute(statement, *values)


FULL = sqlite3.OperationalError("database or disk is full")


def many(first: int) -> list[Event]:
    """More than are written where they are appended."""
    return [output("a", n, "x") for n in range(first, first + AT_ONCE + 1)]


async def test_that_it_is_stalled_is_said_once_and_once_that_it_is_over(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Refusing(journal, "BEGIN IMMEDIATE", FULL)
    told: list[tuple[str | None, int, bool]] = []
    writer = journal.writer
    writer.on_stalled = lambda: told.append((writer.stalled, journal.pending, writer.stalled_since is not None))
    appended = journal.append([output("a", n, "x") for n in (1, 2)])
    for _ in range(4):
        await asyncio.wait_for(disk.refused.get(), 10)
    disk.error = None
    await asyncio.wait_for(appended.committed, 10)
    assert told == [(str(FULL), 2, True), (None, 0, False)]
    assert [record.getMessage()[:29] for record in caplog.records] == [
        "the journal cannot be written",
        "the journal can be written ag",
    ]


def test_it_is_tried_again_soon_and_then_every_second() -> None:
    assert list(itertools.islice(_delays(), 7)) == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


async def test_the_loop_does_not_wait_for_another_process_that_writes(journal: Journal, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite") as other:
        other.execute("BEGIN IMMEDIATE")
        before = time.monotonic()
        appended = journal.append([output("a", 1, "x")])
        assert time.monotonic() - before < 5
        other.rollback()
    other.close()
    await asyncio.wait_for(appended.committed, 10)


async def test_who_only_reads_does_not_wait_for_a_commit_that_failed(journal: Journal) -> None:
    disk = Refusing(journal, "COMMIT", FULL)
    disk.go_on.clear()
    appended = journal.append(many(1))
    await asyncio.wait_for(disk.refused.get(), 10)
    # What is read now may be of the transaction that is just being committed.
    settled = asyncio.ensure_future(journal.settled())
    await asyncio.sleep(0)
    assert not settled.done()
    disk.go_on.set()
    await asyncio.wait_for(settled, 10)
    assert not appended.committed.done()
    disk.error = None
    await asyncio.wait_for(appended.committed, 10)


async def test_what_is_written_does_not_wait_for_what_cannot_be(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, real = threading.Event(), os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (hold.wait(), real(descriptor)))
    first = journal.append(many(1))
    await first.written
    # While the thread is at the first, this one is written at once, and comes to it together with the last.
    second = journal.append([output("a", 20, "x")])
    assert second.written.done()
    disk = Refusing(journal, "BEGIN IMMEDIATE", FULL)
    last = journal.append(many(21))
    hold.set()
    await asyncio.wait_for(second.committed, 10)
    await asyncio.wait_for(journal.settled(), 10)
    assert not last.written.done()
    disk.error = None
    await asyncio.wait_for(last.committed, 10)


async def test_what_could_not_be_synchronised_is_told_once_it_is_in_the_database(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def fdatasync(descriptor: int) -> None:
        attempts.append(descriptor)
        if len(attempts) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    broken = sqlite3.OperationalError("disk I/O error")
    disk = Refusing(journal, "PRAGMA wal_checkpoint(FULL)", broken)
    appended = journal.append([output("a", 1, "x")])
    await asyncio.wait_for(disk.refused.get(), 10)
    await asyncio.wait_for(disk.refused.get(), 10)
    assert journal.stalled
    assert appended.written.done()
    assert not appended.committed.done()
    assert len(attempts) == 1
    disk.error = None
    await asyncio.wait_for(appended.committed, 10)
    shutil.copy(tmp_path / "journal.sqlite", tmp_path / "alone.sqlite")
    with sqlite3.connect(tmp_path / "alone.sqlite") as alone:
        assert alone.execute("SELECT count(*) FROM events").fetchone() == (1,)
    alone.close()


async def test_it_can_be_closed_while_the_disk_refuses(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.append([output("a", 1, "told")], [execution("a")], [SESSION])
    disk = Refusing(journal, "COMMIT", FULL)
    appended = journal.append([output("a", 2, "not told")])
    await asyncio.wait_for(disk.refused.get(), 10)
    await asyncio.wait_for(journal.close(), 10)
    assert not appended.written.done()
    again = Journal(tmp_path / "journal.sqlite")
    assert texts(await again.read(EVERYTHING, 0)) == ["told"]
    await again.close()


async def test_that_it_is_damaged_is_said_in_words(journal: Journal) -> None:
    malformed = sqlite3.DatabaseError("database disk image is malformed")
    malformed.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    disk = Refusing(journal, "COMMIT", malformed)
    stalled = asyncio.Event()
    journal.writer.on_stalled = stalled.set
    appended = journal.append([output("a", 1, "x")])
    await asyncio.wait_for(stalled.wait(), 10)
    assert journal.stalled
    assert "put back a copy" in journal.stalled
    disk.error = None
    await asyncio.wait_for(appended.committed, 10)


async def test_one_that_is_there_is_opened_without_a_write(tmp_path: Path) -> None:
    await Journal(tmp_path / "journal.sqlite").close()
    again = Journal(tmp_path / "journal.sqlite")
    assert (tmp_path / "journal.sqlite-wal").stat().st_size == 0
    await again.close()


async def test_a_file_that_is_damaged_is_refused_in_words(journal: Journal, tmp_path: Path) -> None:
    await journal.append([output("a", n, "x" * 1000) for n in range(1, 100)])
    journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database = (tmp_path / "journal.sqlite").read_bytes()
    (tmp_path / "damaged").write_bytes(database[:4096] + bytes(byte ^ 0xFF for byte in database[4096:]))
    with pytest.raises(JournalError, match="damaged"):
        Journal(tmp_path / "damaged")


async def test_its_file_is_for_its_owner_only(journal: Journal, tmp_path: Path) -> None:
    await journal.append([output("a", 1, "x")])
    for file in tmp_path.iterdir():  # noqa: ASYNC240
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_what_is_no_journal_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is not a database, and it is long enough to be sure of that" * 100)
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path / "text")


async def test_a_later_schema_is_refused_in_words(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "later") as later:
        later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(JournalError, match="upgrade"):
        Journal(tmp_path / "later")


async def test_who_waits_for_the_disk_does_not_wait_for_those_who_write_on(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronise = os.fdatasync

    def slowly(descriptor: int) -> None:
        time.sleep(0.02)
        synchronise(descriptor)

    async def write_on() -> None:
        for n in itertools.count(1):
            journal.append([output("a", n, "x")])
            await asyncio.sleep(0.002)

    monkeypatch.setattr(os, "fdatasync", slowly)
    writing = asyncio.ensure_future(write_on())
    try:
        await asyncio.sleep(0.01)
        await asyncio.wait_for(journal.settled(), 5)
    finally:
        writing.cancel()
