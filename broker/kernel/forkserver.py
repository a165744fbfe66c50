"""Kernels that are forked from a process with everything imported, instead of started from nothing.

For each kind of Python kernel there is one template process (``kernels/python/template.py``, where the protocol and
what forked kernels share are described): started when it is first needed, and again when it has died or what is
installed has changed. A template is nobody's kernel, so it ends with the broker; its kernels do not.

A fork may fail for many reasons, none of which is the kernel's fault: :class:`CannotFork` is raised, nothing of the
kernel has run, and it is to be started as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 10.0
"""Seconds that a caller waits for its kernel at most."""
START = 60.0
"""Seconds that a template has to start. The first callers do without it, if it takes so long."""
RETRY_AFTER = 60.0
"""Seconds until a template is started again that could not."""
MOST = 4
"""How many templates there are at most; the least recently used one is ended for another."""
REPORT = 0.5
"""Seconds within which a template tells how a child of it has ended that is seen to have."""
LEAVE = 2.0
"""Seconds that a template has to end by itself."""
MARK = "JUPYTER_BROKER_KERNEL_ID"
READ_EARLY = re.compile(
    r"(PYTHON|LD_|LC_|MALLOC_|GLIBC_|OMP_|KMP_|OPENBLAS_|GOTO_|BLIS_|MKL_|NUMEXPR_|NPY_|NUMBA_|MPL|MATPLOTLIB|PYDEVD_|DEBUGPY_)"
    r"|(LANG|LANGUAGE|LOCPATH|HOME)$"
)
"""Variables that only a fresh interpreter reads, or a module when it is imported."""
OTHERWISE = re.compile(rf"{READ_EARLY.pattern}|JUPYTER_BROKER_|JPY_")
"""The broker's variables that a template has not: those of its kind instead, and none that say whose child it is."""


class CannotFork(Exception):
    """There is no forked kernel, and the reason. It can be started otherwise."""


@dataclass(frozen=True)
class Kind:
    """What one template is good for."""

    interpreter: tuple[str, ...]
    """The executable, and its options."""
    folder: Path
    """Where ``launch.py`` and ``template.py`` are."""
    modules: tuple[str, ...]
    """To import ahead."""
    env: tuple[tuple[str, str], ...]
    """The variables that are read early."""


class ForkedProcess:
    """A forked kernel, as far as a provisioner uses ``subprocess.Popen``: a session leader, and no child of ours.

    Until ``poll`` or ``wait`` has returned its end, its pid is nobody else's, as long as its template lives.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, server: ForkServer) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """As in ``Popen``: None until the end has been seen, and 0 where nobody knows how it ended."""
        self.exit_status: int | None = None
        """The exit code, or minus a signal's number. None where nobody knows."""
        self.told = asyncio.Event()
        """``exit_status`` is what it will stay."""
        self._server = server
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._on_gone)

    def poll(self) -> int | None:
        if self.returncode is None and _is_readable(self._pidfd, 0):
            if not self.told.is_set():
                self._server.listen_for(self.told)
            self.returncode = self.exit_status or 0
            self._server.seen(self)
            self._close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Blocks; see ``ended``."""
        while (code := self.poll()) is None:
            if not _is_readable(self._pidfd, timeout):
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
        return code

    async def ended(self) -> int | None:
        """Wait for the end of the process, however long it takes. Returns ``exit_status``."""
        await self._gone.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.told.wait(), REPORT)
        self.poll()
        return self.exit_status

    def send_signal(self, signum: int) -> None:
        """Does nothing once it has ended, as with ``Popen``."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def tell(self, status: int | None) -> None:
        """From its template: how it ended; None if that will never be known."""
        self.exit_status = status
        self.told.set()

    def _on_gone(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._gone.set()

    def _close(self) -> None:
        if self._pidfd >= 0:
            if not self._loop.is_closed():
                self._on_gone()
            os.close(self._pidfd)
            self._pidfd = -1

    def __del__(self) -> None:
        if getattr(self, "_pidfd", -1) >= 0:
            os.close(self._pidfd)


class ForkServer:
    """One template process, and what it is asked for."""

    def __init__(self, kind: Kind) -> None:
        self.children: dict[int, ForkedProcess] = {}
        """Those whose end nobody has seen yet."""
        self.failed_modules: dict[str, str] = {}
        """Modules that could not be imported ahead, and why."""
        self.has_started = False
        self.broken: str | None = None
        """Why it forks no more."""
        self._loop = asyncio.get_running_loop()
        self._retry_at = self._loop.time() + RETRY_AFTER
        self._settled = asyncio.Event()
        self._over = asyncio.Event()
        self._answers: dict[int, asyncio.Future[ForkedProcess]] = {}
        self._last_id = 0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        env = {name: value for name, value in os.environ.items() if not OTHERWISE.match(name)}
        with theirs:
            fd = theirs.fileno()
            try:
                self._process = subprocess.Popen(
                    [*kind.interpreter, str(kind.folder / "template.py"), str(fd), *kind.modules],
                    # The mark last, and with room: template.py writes a kernel's in its place.
                    env={**env, **dict(kind.env), MARK: "-" * 64},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                    pass_fds=[fd],
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                self._socket.close()
                self._log.close()
                raise CannotFork(f"cannot start {kind.interpreter[0]}: {error}") from error
        self.pid = self._process.pid
        self._loop.add_reader(self._socket, self._read)
        self._timer = self._loop.call_later(START, self.abandon, "its template took too long to start")
        self._reaped = asyncio.ensure_future(self._reap())

    @property
    def is_hopeless(self) -> bool:
        """It could not start, and that is not long ago."""
        return self.broken is not None and not self.has_started and self._loop.time() < self._retry_at

    async def ready(self, deadline: float) -> None:
        """Wait until it has started."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._settled.wait()
        except TimeoutError:
            raise CannotFork("its template is still starting") from None
        if self.broken is not None:
            raise CannotFork(self.broken)

    async def fork(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str, fds: Sequence[int], deadline: float
    ) -> ForkedProcess:
        """Have a kernel forked that runs ``launch.py`` with these arguments, the first of which is its path."""
        self._last_id = id = self._last_id + 1
        self._answers[id] = future = asyncio.Future[ForkedProcess](loop=self._loop)
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                file.write(json.dumps({"argv": [*argv], "env": {**env}, "cwd": cwd}).encode())
                socket.send_fds(self._socket, [_packet(fork=id)], [file.fileno(), *fds])
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            self._answers.pop(id)
            self.abandon("its template did not answer in time")
            # Until it is gone it may fork, and the answer may be on its way.
            await self._over.wait()
            raise CannotFork("its template did not answer in time") from None
        except OSError as error:
            raise CannotFork(f"its template cannot be asked: {error}") from error
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                child = future.result()
                child.kill()
                self.children.pop(child.pid, None)
                if child.told.is_set():
                    self._let_reap(child.pid)
            raise
        finally:
            self._answers.pop(id, None)

    def abandon(self, reason: str) -> None:
        """Let it fork no more, and end it. Its children live on."""
        self._break(reason)
        self._process.kill()

    async def end(self) -> None:
        """The same, in peace."""
        self._break("its template was ended")
        self._let_end()
        try:
            await asyncio.wait_for(self._over.wait(), LEAVE)
        except TimeoutError:
            self._process.kill()
        await asyncio.shield(self._reaped)

    def seen(self, child: ForkedProcess) -> None:
        """Its end is known to its owner, who sends it no more signals: its pid may be another's from now on."""
        self.children.pop(child.pid, None)
        self._let_reap(child.pid)
        if self.broken is not None and not self.children:
            self._let_end()

    def _let_end(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def listen_for(self, told: asyncio.Event) -> None:
        """Read, blocking for a moment, until this is set."""
        while not told.is_set() and not self._over.is_set() and _is_readable(self._socket.fileno(), REPORT):
            self._read()

    def _let_reap(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(_packet(reap=pid))

    def _read(self) -> None:
        while not self._over.is_set():
            try:
                data = self._socket.recv(65_536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._hear(json.loads(data))
            else:
                self._lose()

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"id": id, "pid": pid}:
                self._take(self._answers.get(id), pid)
            case {"id": id, **answer}:
                if "stale" in answer:
                    self._break("what is installed has changed")
                self._refuse(self._answers.get(id), answer.get("error") or self.broken)
            case {"exited": pid, "status": status}:
                if child := self.children.get(pid):
                    child.tell(status)
                else:
                    self._let_reap(pid)
            case {"ready": _, "failed": failed}:
                self.failed_modules = failed
                self.has_started = True
                self._timer.cancel()
                self._settled.set()
            case {"error": reason}:
                self._break(f"its template cannot start: {reason}")

    def _take(self, answer: asyncio.Future[ForkedProcess] | None, pid: int) -> None:
        """There is a child. One that nobody waits for any more is killed."""
        if answer is not None and not answer.done():
            try:
                child = self.children[pid] = ForkedProcess(pid, self)
                answer.set_result(child)
                return
            except OSError as error:
                self._refuse(answer, str(error))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _refuse(self, answer: asyncio.Future[ForkedProcess] | None, reason: str | None) -> None:
        if answer is not None and not answer.done():
            answer.set_exception(CannotFork(reason))

    def _break(self, reason: str) -> None:
        self.broken = self.broken or reason
        self._timer.cancel()
        self._settled.set()

    def _lose(self) -> None:
        """The template is no more."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._over.set()
        self._break("its template died" + self._last_words())
        for answer in self._answers.values():
            self._refuse(answer, self.broken)
        for child in self.children.values():
            if not child.told.is_set():
                child.tell(None)

    def _last_words(self) -> str:
        with self._log:
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 1000))
            lines = self._log.read().decode("utf-8", "replace").splitlines()
        return f": {lines[-1]}" if lines else ""

    async def _reap(self) -> None:
        """Wait for its end, and see to it that it comes."""
        await self._over.wait()
        try:
            await asyncio.to_thread(self._process.wait, LEAVE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


class ForkServers:
    """All templates. ``modules`` are to be imported ahead beside the kernel; none of them may run threads."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self.modules = tuple(modules)
        self.servers: dict[Kind, ForkServer] = {}
        """The most recently used one last."""
        self._retired: list[ForkServer] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def fork(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int,
        stderr: int,
    ) -> ForkedProcess:
        """Start ``command``, which runs our ``launch.py``, as ``subprocess.Popen`` would in a session of its own."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        kind, argv = self._kind(command, env)
        directory = str(Path.cwd() / (cwd or ""))
        with contextlib.ExitStack() as opened:
            if stdin == subprocess.DEVNULL:
                stdin = os.open(os.devnull, os.O_RDONLY)
                opened.callback(os.close, stdin)
            fds = [stdin, stdout, stderr]
            server = self._server(kind)
            try:
                await server.ready(deadline)
                return await server.fork(argv, env, directory, fds, deadline)
            except CannotFork:
                if server.broken is None or not server.has_started or asyncio.get_running_loop().time() >= deadline:
                    raise
            # It was stale, or had died; that happens to one, but not to two.
            server = self._server(kind)
            await server.ready(deadline)
            return await server.fork(argv, env, directory, fds, deadline)

    async def prepare(self, command: Sequence[str], env: Mapping[str, str]) -> ForkServer:
        """Start the template for such a command ahead of the first kernel."""
        server = self._server(self._kind(command, env)[0])
        await server.ready(asyncio.get_running_loop().time() + START)
        return server

    async def close(self) -> None:
        """End all templates. Their children live on."""
        self._closed = True
        while self.servers:
            self._end(self.servers.popitem()[1])
        while self._retired:
            self._end(self._retired.pop())
        await asyncio.gather(*self._ending)

    def _kind(self, command: Sequence[str], env: Mapping[str, str]) -> tuple[Kind, list[str]]:
        """Which template it takes, and ``sys.argv`` of the kernel."""
        if not hasattr(os, "pidfd_open"):
            raise CannotFork("this system, or this build of Python, has no pidfd")
        at = next((at for at, part in enumerate(command) if os.path.basename(part) == "launch.py"), 0)
        folder = Path(command[at]).parent
        executable = shutil.which(command[0], path=env.get("PATH"))
        if not at or not folder.is_absolute() or not (folder / "template.py").exists():
            raise CannotFork("it is not started by our launch.py")
        if executable is None or not os.path.isabs(executable):
            raise CannotFork(f"{command[0]} is not in PATH")
        if not all(map(os.path.isabs, env.get("PYTHONPATH", "/").split(os.pathsep))):
            raise CannotFork("its PYTHONPATH depends on the working directory")
        early = tuple(sorted((name, value) for name, value in env.items() if READ_EARLY.match(name)))
        return Kind((executable, *command[1:at]), folder, self.modules, early), list(command[at:])

    def _server(self, kind: Kind) -> ForkServer:
        if self._closed:
            raise CannotFork("the broker stops")
        server = self.servers.pop(kind, None)
        if server is not None and server.broken is not None and not server.is_hopeless:
            self._retire(server)
            server = None
        self.servers[kind] = server = server or ForkServer(kind)
        while len(self.servers) > MOST:
            self._end(self.servers.pop(next(iter(self.servers))))
        return server

    def _retire(self, server: ForkServer) -> None:
        """Keep one that forks no more for a while, to hear from it how its children end."""
        self._retired = [retired for retired in self._retired if retired.children]
        if server.children:
            self._retired.append(server)
        else:
            self._end(server)
        while len(self._retired) > MOST:
            self._end(self._retired.pop(0))

    def _end(self, server: ForkServer) -> None:
        task = asyncio.ensure_future(server.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _packet(**message: Any) -> bytes:
    return json.dumps(message).encode()


def _is_readable(fd: int, timeout: float | None) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else timeout * 1000))
