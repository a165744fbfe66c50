"""The journal: on a real SQLite file, with the disk refusing where that is the point."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from broker.core.events import Event, EventType
from broker.core.records import ExecutionRecord, SessionRecord
from broker.core.state import Run
from broker.journal import EVERYTHING, PAGE_BYTES, TAIL_BYTES, Journal, JournalError, Scope

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
