"""Who holds a data directory, where its broker listens, and what starting one does when it goes wrong."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from broker import discovery
from broker.discovery import BrokerInfo, BrokerStartFailed, DataDirectoryInUse, DataDirectoryLock
from broker.kernel.manager import kernel_directory


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv(discovery.DATA_DIR_VARIABLE, raising=False)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def info_of(pid: int, data_dir: Path, **changes: str) -> BrokerInfo:
    fields = {"url": "http://127.0.0.1:8890/", "token": "secret", "started_at": datetime.now(UTC).isoformat()}
    return BrokerInfo(pid=pid, data_dir=str(discovery.resolve_data_dir(data_dir)), **(fields | changes))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_data_directory_is_jupyters_own_unless_the_environment_or_the_caller_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert discovery.resolve_data_dir() == tmp_path / "jupyter" / "broker"
    monkeypatch.setenv(discovery.DATA_DIR_VARIABLE, str(tmp_path / "from environment"))
    assert discovery.resolve_data_dir() == tmp_path / "from environment"
    assert discovery.resolve_data_dir(tmp_path / "x" / ".." / "given") == tmp_path / "given"


class TestLock:
    def test_a_second_broker_is_told_who_holds_the_directory_and_where_it_listens(self, tmp_path: Path) -> None:
        first, second = DataDirectoryLock(tmp_path / "data"), DataDirectoryLock(tmp_path / "data")
        first.acquire()
        with pytest.raises(DataDirectoryInUse, match=f"pid {os.getpid()}"):
            second.acquire()
        first.publish("http://127.0.0.1:9999/")
        with pytest.raises(DataDirectoryInUse, match=r"http://127\.0\.0\.1:9999/.*jupyter broker stop"):
            second.acquire()
        first.release()
        second.acquire()
        second.release()

    def test_the_lock_is_gone_with_a_broker_that_is_killed(self, tmp_path: Path) -> None:
        code = (
            "import sys, time; from broker.discovery import DataDirectoryLock\n"
            f"lock = DataDirectoryLock({str(tmp_path)!r}); lock.acquire(); print('held', flush=True); sys.stdin.read()"
        )
        holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(DataDirectoryInUse, match=f"pid {holder.pid}"):
                DataDirectoryLock(tmp_path).acquire()
            holder.kill()
        lock = DataDirectoryLock(tmp_path)
        lock.acquire()
        lock.release()

    @pytest.mark.usefixtures("open_umask")
    def test_the_directory_and_its_lock_are_for_the_owner_only(self, tmp_path: Path) -> None:
        directory = tmp_path / "data"
        directory.mkdir(mode=0o777)
        lock = DataDirectoryLock(directory)
        lock.acquire()
        assert mode(directory) == 0o700
        assert mode(directory / "broker.lock") == 0o600
        lock.release()

    def test_publishing_without_the_lock_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError):
            DataDirectoryLock(tmp_path).publish("http://127.0.0.1:1/")


class TestInfo:
    def test_what_is_written_is_read_by_whoever_means_the_same_directory(self, tmp_path: Path) -> None:
        info = info_of(os.getpid(), tmp_path / "data")
        discovery.write_info(info)
        (tmp_path / "link").symlink_to(tmp_path / "data")
        assert discovery.read_info(tmp_path / "data") == info
        assert discovery.read_info(tmp_path / "link") == info
        assert discovery.read_info(tmp_path / "other") is None
        discovery.remove_info(tmp_path / "link")
        assert discovery.read_info(tmp_path / "data") is None
        discovery.remove_info(tmp_path / "data")

    @pytest.mark.usefixtures("open_umask")
    def test_the_token_is_for_the_owner_only(self, tmp_path: Path) -> None:
        discovery.write_info(info_of(os.getpid(), tmp_path))
        (file,) = (tmp_path / "runtime").iterdir()
        assert mode(file) == 0o600
        assert mode(tmp_path / "runtime") == 0o700

    def test_a_dead_broker_is_none(self, tmp_path: Path) -> None:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with process:
            discovery.write_info(info_of(process.pid, tmp_path))
            assert discovery.read_info(tmp_path) is not None
            process.kill()
        assert discovery.read_info(tmp_path) is None

    def test_a_process_that_got_a_dead_brokers_number_is_not_taken_for_it(self, tmp_path: Path) -> None:
        born = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
        discovery.write_info(info_of(os.getpid(), tmp_path, started_at=(born - timedelta(hours=1)).isoformat()))
        assert discovery.read_info(tmp_path) is None

    def test_a_file_that_is_not_ours_to_read_as_json_is_none(self, tmp_path: Path) -> None:
        discovery.write_info(info_of(os.getpid(), tmp_path))
        (file,) = (tmp_path / "runtime").iterdir()
        file.write_text('{"url": ')
        assert discovery.read_info(tmp_path) is None


SOURCE = str(Path(discovery.__file__).parents[1])
FAKE_BROKER = """#!{python}
import os, sys
options = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[4:] if "=" in argument)
{body}
"""
LISTENS = f"""
import json, time
sys.path.insert(0, {SOURCE!r})
from broker import discovery
from datetime import UTC, datetime
discovery.write_info(discovery.BrokerInfo(url="http://127.0.0.1:1/", token="t", pid=os.getpid(),
    data_dir=options["data-dir"], started_at=datetime.now(UTC).isoformat()))
print(json.dumps([sys.argv[1:], os.getcwd(), os.getsid(0) == os.getpid()]), flush=True)
os.write(int(options["ready-fd"]), b"\\n")
os.close(int(options["ready-fd"]))
time.sleep(600)
"""


class TestStartInBackground:
    """With a program that is called as ``python -m broker serve`` is, and does as each test needs."""

    def fake(self, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "python"
        program.write_text(FAKE_BROKER.format(python=sys.executable, body=body))
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))

    def test_it_returns_when_the_broker_listens_and_leaves_it_in_a_session_of_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fake(LISTENS, tmp_path, monkeypatch)
        info = discovery.start_in_background(tmp_path / "data", ["--handover-after=5"])
        try:
            assert info == discovery.read_info(tmp_path / "data")
            log = tmp_path / "data" / "broker.log"
            arguments, directory, leads_session = json.loads(log.read_text())
            assert arguments[:3] == ["-m", "broker", "serve"]
            assert {"--port=0", "--exit-when-idle=600", "--handover-after=5"} < set(arguments)
            assert directory == "/"
            assert leads_session
            assert mode(log) == 0o600
            assert mode(tmp_path / "data") == 0o700
        finally:
            os.kill(info.pid, signal.SIGKILL)
            os.waitpid(info.pid, 0)

    def test_a_broker_that_ends_before_it_listens_raises_with_what_it_logged_and_not_what_another_did(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fake("print('no such luck', file=sys.stderr); sys.exit(7)", tmp_path, monkeypatch)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "broker.log").write_text("of yesterday\n")
        with pytest.raises(BrokerStartFailed, match=r"status 7(.|\n)*no such luck") as raised:
            discovery.start_in_background(tmp_path / "data")
        assert "yesterday" not in str(raised.value)

    def test_the_log_of_former_brokers_is_put_aside_when_it_is_long(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fake("sys.exit('new')", tmp_path, monkeypatch)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "broker.log").write_text("old\n" * 2**19)
        with pytest.raises(BrokerStartFailed):
            discovery.start_in_background(tmp_path / "data")
        assert (tmp_path / "data" / "broker.log").read_text() == "new\n"
        assert (tmp_path / "data" / "broker.log.1").read_text().startswith("old")

    def test_when_another_was_quicker_its_address_is_awaited_and_returned(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fake("sys.exit('in use')", tmp_path, monkeypatch)
        lock = DataDirectoryLock(tmp_path / "data")
        lock.acquire()
        asked = threading.Event()
        read_info = discovery.read_info

        def read(data_dir: Path) -> BrokerInfo | None:
            asked.set()
            return read_info(data_dir)

        monkeypatch.setattr(discovery, "read_info", read)
        info = info_of(os.getpid(), tmp_path / "data")
        other = threading.Thread(target=lambda: (asked.wait(30), discovery.write_info(info)))
        other.start()
        assert discovery.start_in_background(tmp_path / "data") == info
        other.join()
        lock.release()

    def test_when_the_one_in_the_way_was_about_to_end_it_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = "DataDirectoryLock(options['data-dir']).acquire()"
        header = f"sys.path.insert(0, {SOURCE!r})\nfrom broker.discovery import DataDirectoryLock\n"
        self.fake(header + body + LISTENS, tmp_path, monkeypatch)
        lock = DataDirectoryLock(tmp_path / "data")
        lock.acquire()
        asked = threading.Event()
        read_info = discovery.read_info

        def read(data_dir: Path) -> BrokerInfo | None:
            asked.set()
            return read_info(data_dir)

        monkeypatch.setattr(discovery, "read_info", read)
        other = threading.Thread(target=lambda: (asked.wait(30), lock.release()))
        other.start()
        info = discovery.start_in_background(tmp_path / "data")
        other.join()
        os.kill(info.pid, signal.SIGKILL)
        os.waitpid(info.pid, 0)

    def test_one_in_the_way_that_never_says_where_it_listens_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fake("sys.exit('in use')", tmp_path, monkeypatch)
        monkeypatch.setattr(discovery, "RACE_PATIENCE", 0.2)
        lock = DataDirectoryLock(tmp_path / "data")
        lock.acquire()
        with pytest.raises(BrokerStartFailed, match=f"pid {os.getpid()}"):
            discovery.start_in_background(tmp_path / "data")
        lock.release()


def test_kernels_sockets_have_short_paths_wherever_the_directories_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    directory = kernel_directory(tmp_path)
    try:
        assert len(os.fsencode(directory / "kernel-00000000-0000-0000-0000-000000000000-ipc-5")) <= 107
        assert mode(directory) == 0o700
    finally:
        directory.rmdir()
