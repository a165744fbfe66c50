"""Kernel processes that outlive the broker, and can be taken back by the next one.

See "Kernel Provisioning" in the documentation of jupyter_client. It differs from the standard provisioner in this: the
kernel is independent of its parent, its own standard streams go to a file, a kernel that is no child of this process
can be watched and ended, the end of a process is an event instead of something to poll for, and what a kernel has
started ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

KERNEL_ID_VARIABLE = "JUPYTER_BROKER_KERNEL_ID"
"""Marks, in its environment, every process that a kernel starts, however far it goes from its parent."""
POLL = 0.2
"""Seconds between two looks at a process, where the system has no pidfd."""


class BrokerProvisioner(LocalProvisioner):
    """Starts a kernel that is nobody's child in spirit, or takes back one that is nobody's child in fact."""

    pid: int | None = None
    pid_created: float | None = None
    adopted = False
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

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        env = dict(kwargs.pop("env", None) or os.environ)
        env[KERNEL_ID_VARIABLE] = self.kernel_id
        kwargs = await super().pre_launch(env=env, **kwargs)
        kwargs["independent"] = True
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        # A stream whose reader has died blocks a kernel for ever; a file has no reader.
        log = os.open(self.log_file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            kwargs.update(stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            info = await super().launch_kernel(cmd, **kwargs)
        finally:
            os.close(log)
        self.adopted = False
        self.exit_status = None
        with contextlib.suppress(psutil.Error):
            self.pid_created = psutil.Process(self.pid).create_time()
        return info

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
                self.exit_status = status
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
