"""The journal by itself: killed at every step of an append, cut off at every byte, on a disk that is full."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.core.events import Event, EventType
from broker.journal import EVERYTHING, Journal
from broker.steps import JOURNAL, VARIABLE

from ..running import BrokerProcess, assert_whole, text_of
from . import ROUNDS, seeded
from .writer import SESSION

FRAME = 24 + 4096
"""Bytes of a frame in SQLite's write-ahead log: its header and a page."""
ROOT = Path(__file__).parents[2]


def start_writer(path: Path, most: int, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.writer", str(path), str(most)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env},
    )


def numbers(path: Path) -> list[int]:
    """The events' own numbers, read by nothing but SQLite. Their seqs and texts must be as they were appended."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT seq, n, body FROM events ORDER BY seq").fetchall()
    connection.close()
    for seq, n, body in rows:
        assert json.loads(body)["content"]["text"] == f"{n}\n" * 50
        assert seq == n
    return [n for _, n, _ in rows]


@pytest.mark.parametrize("step", JOURNAL)
def test_a_broker_killed_at_a_step_of_an_append_has_all_that_was_acknowledged(step: str, tmp_path: Path) -> None:
    path, rng = tmp_path / "journal.sqlite", seeded()
    acknowledged = 0
    for _ in range(25 * ROUNDS):
        writer = start_writer(path, 10**6, **{VARIABLE: f"{step}:{rng.randrange(1, 30)}"})
        said, _ = writer.communicate(timeout=60)
        assert writer.returncode == -signal.SIGKILL
        lines = said.splitlines(keepends=True)
        acknowledged = max([acknowledged, *(int(line) for line in lines if line.endswith("\n"))])
        found = numbers(path)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= acknowledged
        acknowledged = len(found)


def test_a_broker_killed_at_random_moments_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    path, rng = tmp_path / "journal.sqlite", seeded()
    for _ in range(35 * ROUNDS):
        writer = start_writer(path, 10**6)
        assert writer.stdout is not None
        last = 0
        for _ in range(rng.randrange(1, 200)):
            last = int(writer.stdout.readline())
        writer.kill()
        writer.wait()
        found = numbers(path)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= last


async def test_a_journal_cut_off_at_every_byte_of_its_tail_has_the_appends_before_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    sizes = []
    for n in range(1, 9):
        fields = {"msg_type": "stream", "content": {"name": "stdout", "text": f"{n}\n" * 50}}
        await journal.append([Event(EventType.OUTPUT, float(n), "s", fields)], (), [SESSION] if n == 1 else ())
        sizes.append((tmp_path / "journal.sqlite-wal").stat().st_size)
    saved = tmp_path / "saved"
    saved.mkdir()
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        shutil.copy(tmp_path / name, saved)
    await journal.close()
    database = (saved / "journal.sqlite").read_bytes()
    wal = (saved / "journal.sqlite-wal").read_bytes()
    cut = tmp_path / "cut"
    cut.mkdir()
    # Every byte of the last frame, and every sixteenth of the append that it ends, or all with FAULT_ROUNDS: with
    # SQLite alone, and the journal itself for a sample of them.
    start, last = sizes[-2], len(wal) - FRAME
    for size in (*range(start, last, 1 if ROUNDS > 1 else 16), *range(last, len(wal) + 1)):
        (cut / "journal.sqlite-shm").unlink(missing_ok=True)
        (cut / "journal.sqlite").write_bytes(database)
        (cut / "journal.sqlite-wal").write_bytes(wal[:size])
        whole = sum(size >= end for end in sizes)
        if size % 97 and size not in sizes:
            with sqlite3.connect(cut / "journal.sqlite") as connection:
                found = [seq for (seq,) in connection.execute("SELECT seq FROM events ORDER BY seq")]
            connection.close()
        else:
            again = Journal(cut / "journal.sqlite")
            found = [line.stored.seq for line in (await again.read(EVERYTHING, 0)).lines]
            assert (await again.append([Event(EventType.OUTPUT, 0.0, "s", {"n": 1})])).seq == len(found) + 1
            await again.close()
        assert found == list(range(1, whole + 1))


def test_a_write_that_fails_half_way_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writer = start_writer(path, 3000)
    assert writer.stdout is not None
    last = int(writer.stdout.readline())
    size = (tmp_path / "journal.sqlite-wal").stat().st_size
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    # Python ignores SIGXFSZ, so a write beyond the limit fails, as on a full disk.
    resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (size + 10_000, resource.RLIM_INFINITY))
    waited = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"])
    waited.wait()
    assert writer.poll() is None
    resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, unlimited)
    said, _ = writer.communicate(timeout=60)
    assert writer.returncode == 0
    found = numbers(path)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= max(last, *map(int, said.split()))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of six megabytes, three of them taken by a file that can go."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount a disk ({mounted.stderr.decode().strip()})")
    try:
        (disk / "filler").write_bytes(bytes(3 * 2**20))
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


async def test_on_a_full_disk_clients_are_told_and_when_there_is_space_all_is_there(
    small_disk: Path, start_broker: Callable[..., BrokerProcess]
) -> None:
    broker = start_broker("--pool-size=0", f"--data-dir={small_disk / 'data'}")
    code = "for i in range(60_000): print(i, 'x' * 100)"

    def is_status(stalled: bool) -> Callable[[dict[str, Any]], bool]:
        return lambda n: n["method"] == "broker_status" and (n["params"]["stalled"] is not None) == stalled

    async with broker.connect() as wire, broker.connect() as other:
        subscription = await wire.call("subscribe", after=0)
        running = wire.begin("execute", code=code, session="s", wait=None)
        told = await other.notified(is_status(True))
        assert "full" in told["params"]["stalled"]
        assert broker.request("api/broker/v1/health")[0] == 503
        (execution,) = (await other.call("list_executions"))["executions"]
        seen = [n["params"]["event"] for n in wire.notifications if n["method"] == "event"]
        # A connection that opens now is told, too; what is on disk can be read; what must be written waits.
        async with broker.connect() as late:
            await late.notified(is_status(True))
            assert text_of(await late.events(execution["execution_id"])).startswith("0 xxx")
            waiting = late.begin("execute", code="print('after')", session="t", wait=None)
            await asyncio.sleep(0.2)
            assert not waiting.done()
            (small_disk / "filler").unlink()
            await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=64m", small_disk], check=True)
            assert (await waiting)["text"] == "after\n"
        await other.notified(is_status(False))
        done = await running
        assert (done["state"], done["lines"]) == ("completed", 60_000)
        events = await other.events(done["execution_id"])
        assert_whole(events)
        assert text_of(events) == "".join(f"{i} {'x' * 100}\n" for i in range(60_000))
        by_seq = {event["seq"]: event for event in events}
        assert all(by_seq[event["seq"]] == event for event in seen if event["execution_id"] == done["execution_id"])
        assert subscription
        assert broker.request("api/broker/v1/health")[0] == 200
