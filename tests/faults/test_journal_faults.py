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
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.core.events import Event, EventType
from broker.core.records import ExecutionRecord
from broker.journal import Journal
from broker.steps import JOURNAL, VARIABLE

from ..running import BrokerProcess, assert_whole, text_of
from . import ROUNDS, seeded
from .writer import SESSION

ROOT = Path(__file__).parents[2]
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def numbered(n: int) -> dict[str, Any]:
    return {"msg_type": "stream", "content": {"name": "stdout", "text": f"{n}\n" * 50}}


def start_writer(path: Path, most: int, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.writer", str(path), str(most)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
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
    for _ in range(12 * ROUNDS):
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
    for _ in range(20 * ROUNDS):
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


async def write_appends(path: Path, count: int) -> list[int]:
    """Append one event after another, and return the size of the log after each."""
    with sqlite3.connect(path) as connection:
        # Small pages, so that appends are few bytes and each can be tried. It takes a table to fix their size.
        connection.executescript("PRAGMA page_size = 512; CREATE TABLE it (is_so); DROP TABLE it")
    connection.close()
    journal = Journal(path)
    execution = ExecutionRecord(execution_id="e", session_id="s", owner="me", created_at=0.0)
    sizes = []
    for n in range(1, count + 1):
        execution.n = n
        event = Event(EventType.OUTPUT, float(n), "s", numbered(n), "e", n)
        await journal.append([event], [execution], [SESSION] if n == 1 else ())
        sizes.append(os.stat(f"{path}-wal").st_size)
    shutil.copy(path, f"{path}.saved")
    shutil.copy(f"{path}-wal", f"{path}.saved-wal")
    await journal.close()
    return sizes


async def append_one(path: Path) -> int:
    """Open a journal, check that it goes on after what is in it, and return how much that was."""
    journal = Journal(path)
    found = journal.seq
    assert (await journal.append([Event(EventType.OUTPUT, 0.0, "s", numbered(0))])).seq == found + 1
    await journal.close()
    return found


def test_a_journal_cut_off_at_every_byte_of_its_tail_has_the_appends_before_it(tmp_path: Path) -> None:
    sizes = asyncio.run(write_appends(tmp_path / "journal.sqlite", 8))
    database, wal = ((tmp_path / f"journal.sqlite.saved{end}").read_bytes() for end in ("", "-wal"))
    # In memory, where there is such a place: these files are written anew for every byte of the last two appends.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        cut, log, index = (Path(directory, f"journal.sqlite{end}") for end in ("", "-wal", "-shm"))
        for size in range(sizes[-3], len(wal) + 1):
            index.unlink(missing_ok=True)
            cut.write_bytes(database)
            log.write_bytes(wal[:size])
            whole = sum(end <= size for end in sizes)
            # With SQLite alone; with the journal itself around the end of an append, and at some bytes between.
            if size % 101 and not {size, size + 1} & set(sizes):
                assert numbers(cut) == list(range(1, whole + 1))
            else:
                assert asyncio.run(append_one(cut)) == whole


def test_a_write_that_fails_half_way_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writer = start_writer(path, 3000)
    assert writer.stdout is not None
    assert writer.stderr is not None
    last = int(writer.stdout.readline())
    size = (tmp_path / "journal.sqlite-wal").stat().st_size
    # Python ignores SIGXFSZ, so a write beyond the limit fails, as on a full disk.
    resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (size + 10_000, resource.RLIM_INFINITY))
    assert "cannot be written" in writer.stderr.readline()
    resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, UNLIMITED)
    said, logged = writer.communicate(timeout=60)
    assert writer.returncode == 0
    assert "can be written again" in logged
    found = numbers(path)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= max(last, *map(int, said.split()))


class SmallDisk:
    """A disk of six megabytes, three of them taken by a file that can go."""

    name = "tmpfs"
    says = "full"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "none", directory]
        mounted = subprocess.run(mount, check=False, capture_output=True)
        if mounted.returncode:
            pytest.skip(f"this user may not mount a disk ({mounted.stderr.decode().strip()})")
        (directory / "filler").write_bytes(bytes(3 * 2**20))

    def fill(self, broker: BrokerProcess) -> None:
        """It fills by itself."""

    def make_space(self, broker: BrokerProcess) -> None:
        (self.directory / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", self.directory], check=True)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", self.directory], check=False)


class SmallFiles:
    """For who may not mount one: a disk that takes no more than so many bytes of a file."""

    name = "file-size-limit"
    says = "I/O error"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def fill(self, broker: BrokerProcess) -> None:
        size = (self.directory / "data" / "journal.sqlite-wal").stat().st_size
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size + 2**19, resource.RLIM_INFINITY))

    def make_space(self, broker: BrokerProcess) -> None:
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, UNLIMITED)

    def remove(self) -> None:
        pass


Disk = SmallDisk | SmallFiles


@pytest.fixture(params=[SmallDisk, SmallFiles], ids=lambda disk: disk.name)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    directory = tmp_path / "disk"
    directory.mkdir()
    disk = request.param(directory)
    try:
        yield disk
    finally:
        disk.remove()


def is_status(stalled: bool) -> Callable[[dict[str, Any]], bool]:
    return lambda n: n["method"] == "broker_status" and (n["params"]["stalled"] is not None) == stalled


async def test_on_a_full_disk_clients_are_told_and_when_there_is_space_all_is_there(
    disk: Disk, start_broker: Callable[..., BrokerProcess]
) -> None:
    broker = start_broker("--pool-size=0", f"--data-dir={disk.directory / 'data'}")
    code = "for i in range(60_000): print(i, 'x' * 100)"
    async with broker.connect() as wire, broker.connect() as other:
        await wire.call("create_session", name="s")
        disk.fill(broker)
        await wire.call("subscribe", after=0)
        running = wire.begin("execute", code=code, session="s", wait=None)
        told = await other.notified(is_status(True))
        assert disk.says in told["params"]["stalled"]
        status, _, health = await asyncio.to_thread(broker.request, "api/broker/v1/health")
        assert status == 503
        assert disk.says in json.loads(health)["reason"]
        _, _, metrics = await asyncio.to_thread(broker.request, "metrics")
        assert b"jupyter_broker_journal_stalled 1" in metrics
        (execution,) = (await other.call("list_executions"))["executions"]
        seen = [n["params"]["event"] for n in wire.notifications if n["method"] == "event"]
        # A connection that opens now is told, too; what is on disk can be read; what must be written waits.
        async with broker.connect() as late:
            await late.notified(is_status(True))
            assert text_of(await late.events(execution["execution_id"])).startswith("0 xxx")
            waiting = late.begin("execute", code="print('after')", session="t", wait=None)
            # Answered in the order in which they are made, but for what must wait.
            await late.call("list_sessions")
            assert not waiting.done()
            await asyncio.to_thread(disk.make_space, broker)
            assert (await waiting)["text"] == "after\n"
        await other.notified(is_status(False))
        done = await running
        assert (done["state"], done["lines"]) == ("completed", 60_000)
        events = await other.events(done["execution_id"])
        assert_whole(events)
        assert text_of(events) == "".join(f"{i} {'x' * 100}\n" for i in range(60_000))
        by_seq = {event["seq"]: event for event in events}
        mine = [event for event in seen if event["execution_id"] == done["execution_id"]]
        assert mine == [by_seq[event["seq"]] for event in mine]
        assert (await asyncio.to_thread(broker.request, "api/broker/v1/health"))[0] == 200
