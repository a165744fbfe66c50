"""How commands find the broker: who holds a data directory, where it listens, and how to start one.

A data directory has one broker. Two files say so. ``<data directory>/broker.lock`` is locked for as long as a broker
lives, so that a second one cannot start; the kernel drops that lock however the broker ends. A file in the Jupyter
runtime directory, readable by its owner only, has the broker's address and its token, so that no command needs flags.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import psutil
from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir

DATA_DIR_VARIABLE = "JUPYTER_BROKER_DATA_DIR"
IDLE_EXIT = 600
"""Seconds without session, execution or client after which a broker started in the background ends."""
RACE_PATIENCE = 10.0
"""Seconds in which a broker that holds the data directory must have said where it listens."""
LOG_TAIL = 2000
"""Characters of the log that a failed start shows."""
MAX_LOG = 2**20
"""Bytes above which the log of former brokers is put aside when the next one starts."""
END_PATIENCE = 60.0
"""Seconds that a broker may take to end."""
CLOCK_TOLERANCE = 300.0
"""Seconds by which the wall clock may have been set forward while a broker ran."""


class DiscoveryError(Exception):
    """The base of this module's errors."""


class DataDirectoryInUse(DiscoveryError):
    """Another broker has the data directory. The message says which, and what to do."""


class BrokerStartFailed(DiscoveryError):
    """A broker started in the background never listened. The message ends with what it logged."""


class BrokerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker listens. ``url`` ends in "/"; ``started_at`` is ISO 8601 with its offset from UTC.

    ``in_server``: its process is a Jupyter Server, which does more than be a broker.
    """

    url: str
    token: str
    pid: int
    data_dir: str
    started_at: str
    in_server: bool = False


class _Holder(msgspec.Struct, frozen=True):
    """What the lock file says."""

    pid: int
    url: str | None = None


def resolve_data_dir(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The data directory meant: as given, else from the environment, else in Jupyter's own. Absolute, no links."""
    chosen = data_dir or os.environ.get(DATA_DIR_VARIABLE) or Path(jupyter_data_dir(), "broker")
    return Path(chosen).expanduser().resolve()


class DataDirectoryLock:
    """A broker's hold on its data directory. The directory is made if it is missing, for its owner only."""

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        self.data_dir = resolve_data_dir(data_dir)
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; it is dropped by :meth:`release`, or with this process.

        Raises:
            DataDirectoryInUse: another broker has it.
            OSError: the directory cannot be made or written.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except FileExistsError:
            raise NotADirectoryError(f"{self.data_dir} is a file; name a directory with --data-dir") from None
        self.data_dir.chmod(0o700)
        descriptor = os.open(_lock_path(self.data_dir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DataDirectoryInUse(_in_use(self.data_dir)) from None
        os.fchmod(descriptor, 0o600)
        self._descriptor = descriptor
        self._write(_Holder(os.getpid()))

    def publish(self, url: str) -> None:
        """Say in the lock file where this broker listens. For :class:`DataDirectoryInUse`'s message only."""
        self._write(_Holder(os.getpid(), url))

    def release(self) -> None:
        """Give the directory up. Does nothing if it is not held."""
        if self._descriptor is not None:
            # The file stays: whoever opened it before it was unlinked would lock a file that nobody else sees.
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, holder: _Holder) -> None:
        if self._descriptor is None:
            raise RuntimeError("the data directory is not locked")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, msgspec.json.encode(holder), 0)


def write_info(info: BrokerInfo) -> None:
    """Make a broker known to every command of this user. Replaces what an earlier broker left."""
    path = _info_path(Path(info.data_dir))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.json.encode(info))
    temporary.replace(path)


def read_info(data_dir: str | os.PathLike[str] | None = None) -> BrokerInfo | None:
    """The broker of a data directory; None if there is none, or only the file of one that has died."""
    path = _info_path(resolve_data_dir(data_dir))
    try:
        info = msgspec.json.decode(path.read_bytes(), type=BrokerInfo)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return info if _is_alive(info) else None


def remove_info(data_dir: str | os.PathLike[str] | None = None) -> None:
    """Take back :func:`write_info`. A file that is gone already is no error."""
    _info_path(resolve_data_dir(data_dir)).unlink(missing_ok=True)


async def end_broker(info: BrokerInfo) -> bool:
    """Have a broker's process end, and wait for that; False if it took too long. Its kernels run on."""
    try:
        process = os.pidfd_open(info.pid)
    except ProcessLookupError:
        return True
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        await asyncio.wait_for(ended.wait(), END_PATIENCE)
    except TimeoutError:
        return False
    except ProcessLookupError:
        pass
    finally:
        loop.remove_reader(process)
        os.close(process)
    return True


def start_in_background(data_dir: str | os.PathLike[str] | None = None, extra_args: Sequence[str] = ()) -> BrokerInfo:
    """Start a broker of its own session, and return once it listens. It ends by itself when it has been idle.

    Where two callers do so at once, one broker wins and both get it.

    Raises:
        BrokerStartFailed: it ended before it listened.
        OSError: the data directory cannot be made or written.
    """
    directory = resolve_data_dir(data_dir)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        held = _is_held(directory)
        log, log_start = _open_log(directory)
        try:
            process, listens = _spawn(directory, log, extra_args)
        finally:
            os.close(log)
        if listens and (info := read_info(directory)):
            return info
        if listens:
            how = "said that it listens, but not where"
            break
        how = f"ended with status {process.wait()} before it listened"
        if info := _winner(directory):
            return info
        if not held:
            break
        # What held the directory was about to end: now it has.
    said = _log_since(directory, log_start)
    raise BrokerStartFailed(f"the broker for {directory} {how}" + (f"; it logged:\n{said}" if said else ""))


def _spawn(directory: Path, log: int, extra_args: Sequence[str]) -> tuple[subprocess.Popen[bytes], bool]:
    """Start a broker, and wait until it says that it listens, or ends: then the second value is False."""
    ready, ready_child = os.pipe()
    with open(ready, "rb", buffering=0) as pipe:
        try:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "broker", "serve", "--port=0", f"--exit-when-idle={IDLE_EXIT}"),
                    *(f"--data-dir={directory}", f"--ready-fd={ready_child}", *extra_args),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=(ready_child,),
                start_new_session=True,
            )
        finally:
            os.close(ready_child)
        return process, bool(pipe.read(1))


def _winner(directory: Path) -> BrokerInfo | None:
    """The broker that was quicker, once it has said where it listens; None if there is none, or it has ended.

    Raises:
        BrokerStartFailed: it has the directory, and does not say.
    """
    patience = time.monotonic() + RACE_PATIENCE
    while True:
        if info := read_info(directory):
            return info
        if not _is_held(directory):
            return None
        if time.monotonic() > patience:
            raise BrokerStartFailed(_in_use(directory))
        # Another process writes the file that is awaited, and may die instead: there is no one event to wait for.
        time.sleep(0.05)


def _open_log(directory: Path) -> tuple[int, int]:
    """The log, to be appended to, and its size."""
    path = _log_path(directory)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > MAX_LOG:
            path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return descriptor, os.fstat(descriptor).st_size


def _log_since(directory: Path, start: int) -> str:
    with _log_path(directory).open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace").strip()[-LOG_TAIL:]


def _is_alive(info: BrokerInfo) -> bool:
    try:
        process = psutil.Process(info.pid)
        # A process that began after the broker did is another one, which got its number.
        born = process.create_time()
        zombie = process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
    return not zombie and born <= datetime.fromisoformat(info.started_at).timestamp() + CLOCK_TOLERANCE


def _in_use(data_dir: Path) -> str:
    holder = _holder(data_dir)
    info = read_info(data_dir)
    if info and info.in_server:
        return f"{data_dir} is in use by the Jupyter Server at {info.url} (pid {info.pid}); use the broker in that one"
    who = f"a broker with pid {holder.pid}" if holder else "a broker that is just starting"
    where = f", which listens on {holder.url}" if holder and holder.url else ""
    return (
        f"{data_dir} is in use by {who}{where}; use that one, end it with `jupyter broker stop`, "
        "or give another --data-dir"
    )


def _is_held(data_dir: Path) -> bool:
    holder = _holder(data_dir)
    return holder is not None and psutil.pid_exists(holder.pid)


def _holder(data_dir: Path) -> _Holder | None:
    try:
        return msgspec.json.decode(_lock_path(data_dir).read_bytes(), type=_Holder)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _lock_path(data_dir: Path) -> Path:
    return data_dir / "broker.lock"


def _log_path(data_dir: Path) -> Path:
    return data_dir / "broker.log"


def _info_path(data_dir: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(jupyter_runtime_dir(), f"jupyter-broker-{digest}.json")
