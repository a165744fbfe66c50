"""Kernel processes that outlive the broker, and can be taken back by the next one.

See "Kernel Provisioning" in the documentation of jupyter_client. It differs from the standard provisioner in this: the
kernel is independent of its parent, its own standard streams go to a file, a kernel that is no child of this process
can be watched and ended, the end of a process is an event instead of something to poll for, and what a kernel has
started ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Bool, Unicode
from traitlets import List as ListTrait

from .forkserver import CannotFork, ForkServers
from .launcher import keeps_outbox, own_command
from .outbox import Outbox

log = logging.getLogger(__name__)

OUTBOX_VARIABLE = "JUPYTER_BROKER_OUTBOX"
"""Tells our own kernel where its outbox is."""
KERNEL_ID_VARIABLE = "JUPYTER_BROKER_KERNEL_ID"
"""Marks, in its environment, every process that a kernel starts, however far it goes from its parent."""
POLL = 0.2
"""Seconds between two looks at a process, where the system has no pidfd."""


_forks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ...], ForkServers]] = (
    weakref.WeakKeyDictionary()
)


def fork_servers(modules: list[str]) -> ForkServers:
    """Those of this event loop that have these modules imported."""
    of_loop = _forks.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault(tuple(modules), ForkServers(modules))


async def end_fork_servers() -> None:
    """End those of this event loop. What they have forked lives on."""
    for servers in _forks.pop(asyncio.get_running_loop(), {}).values():
        await servers.close()


class BrokerProvisioner(LocalProvisioner):
    """Starts a kernel that is nobody's child in spirit, or takes back one that is nobody's child in fact."""

    keep_outbox = Bool(False, help="Have our own kernels write down what they send, for a broker to read.").tag(
        config=True
    )
    fork = Bool(True, help="Fork Python kernels from a process with the imports done, where that is possible.").tag(
        config=True
    )
    preload = ListTrait(Unicode(), help="Modules that forked kernels have imported already.").tag(config=True)

    pid: int | None = None
    pid_created: float | None = None
    adopted = False
    outbox: Outbox | None = None
    """The kernel's, if it is one of our own."""
    exit_status: int | None = None
    """How the process ended: its exit code, or minus a signal's number. None where that cannot be known."""

    @property
    def has_process(self) -> bool:
        return self.process is not None or (self.adopted and self._process() is not None)

    @property
    def log_file(self) -> str:
        """Where the kernel's own standard streams go."""
        manager: Any = self.parent
        return str(os.path.splitext(manager.connection_file)[0]) + ".log"

    @property
    def _outbox_directory(self) -> Path:
        return Path(self.log_file).with_suffix(".outbox")

    def find_outbox(self, after: int) -> None:
        """Open the outbox of a kernel that was started before, to be read from the record after ``after`` on."""
        if (self._outbox_directory / "wake").exists():
            self.outbox = Outbox(self._outbox_directory, after)

    def drop_outbox(self) -> None:
        """Delete the outbox, if there is one: it is of no use any more."""
        if self.outbox is not None:
            self.outbox.remove()
            self.outbox = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        env = dict(kwargs.pop("env", None) or os.environ)
        env[KERNEL_ID_VARIABLE] = self.kernel_id
        kwargs = await super().pre_launch(env=env, **kwargs)
        kwargs["independent"] = True
        self.drop_outbox()
        if (command := own_command(kwargs["cmd"], self.kernel_spec)) is not None:
            kwargs["cmd"] = command
        if self.keep_outbox and keeps_outbox(kwargs["cmd"], self.kernel_spec):
            self.outbox = Outbox.create(self._outbox_directory)
            kwargs["env"][OUTBOX_VARIABLE] = str(self._outbox_directory)
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        # A stream whose reader has died blocks a kernel for ever; a file has no reader.
        log_file = os.open(self.log_file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            self.process = await self._fork(cmd, log_file, **kwargs)
            if self.process is None:
                kwargs.update(stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file)
                await super().launch_kernel(cmd, **kwargs)
        except BaseException:
            self.drop_outbox()
            raise
        finally:
            os.close(log_file)
        assert self.process is not None
        self.pid = self.pgid = self.process.pid
        self.adopted = False
        self.exit_status = None
        with contextlib.suppress(psutil.Error):
            self.pid_created = psutil.Process(self.pid).create_time()
        return self.connection_info

    async def _fork(
        self, cmd: list[str], log_file: int, *, env: dict[str, str], cwd: str | None = None, **_: Any
    ) -> Any:
        """The forked kernel; None if it must be started from nothing."""
        if not self.fork or own_command(cmd, self.kernel_spec) is None:
            return None
        try:
            return await fork_servers(self.preload).fork(cmd, env=env, cwd=cwd, stdout=log_file, stderr=log_file)
        except CannotFork as error:
            log.info("the kernel is started from nothing: %s", error)
            return None

    def adopt(self, pid: int | None, pid_created: float | None, connection_info: KernelConnectionInfo) -> bool:
        """Take the running process ``pid``; False if it is no more, or if that number is another's by now."""
        self.pid, self.pgid, self.pid_created = pid, pid, pid_created
        self.connection_info = connection_info
        self.adopted = True
        return self._process() is not None

    async def poll(self) -> int | None:
        if self.process is not None:
            status: int | None = self.process.poll()
            if status is not None:
                self.exit_status = getattr(self.process, "exit_status", status)
            return status
        return None if self.adopted and self._process() else 0

    async def wait(self) -> int | None:
        await self.ended()
        self.process = None
        self.adopted = False
        return self.exit_status or 0

    async def ended(self) -> None:
        """Wait for the end of the process, however long it takes."""
        pid = self.pid
        if pid is None or await self.poll() is not None:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except (AttributeError, OSError):
            while await self.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(POLL)
            return
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        await self.poll()

    async def send_signal(self, signum: int) -> None:
        if self.adopted and self.process is None:
            if process := self._process():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signum)
            return
        await super().send_signal(signum)

    async def kill(self, restart: bool = False) -> None:
        """Kill the process with all that it has started, also what has left its process group."""
        process = self._process()
        # Stopped, it can start nothing new while the rest is looked for.
        with contextlib.suppress(psutil.Error):
            if process:
                process.suspend()
        for descendant in list(self._descendants(process)):
            with contextlib.suppress(psutil.Error):
                descendant.kill()
        with contextlib.suppress(psutil.Error):
            if process:
                process.kill()

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGTERM)

    def _process(self) -> psutil.Process | None:
        if self.pid is None:
            return None
        try:
            process = psutil.Process(self.pid)
            created = process.create_time()
            running = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        same = self.pid_created is None or abs(created - self.pid_created) < 1
        return process if running and same else None

    def _descendants(self, process: psutil.Process | None) -> Iterator[psutil.Process]:
        seen = set()
        if process:
            seen.add(process.pid)
            with contextlib.suppress(psutil.Error):
                for child in process.children(recursive=True):
                    seen.add(child.pid)
                    yield child
        for other in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if other.pid not in seen and other.environ().get(KERNEL_ID_VARIABLE) == self.kernel_id:
                    yield other
