"""Kernels that are ready before anybody asks for one.

A few of each kernelspec that is in use. Each is for one session, ever; it is told its working directory when it is
taken, and ends with the broker if it never is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import KernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from .ears import OutboxEar, Said
from .launcher import keeps_outbox
from .outbox import OWN
from .processes import bury, provisioner_of, start
from .sockets import Sockets

log = logging.getLogger(__name__)

HOME = os.path.expanduser("~")
QUIET = 0.3
"""Seconds without a kernel being taken before another one is started."""
POOLED = {"JUPYTER_BROKER_POOLED": "1"}
"""Tells a kernel that it is nobody's yet."""


PLACING = 5.0
"""Seconds that a kernel has to take its place. Another one is started instead of one that does not."""


class Ready:
    """A kernel that is ready, and all that it has said."""

    def __init__(self, km: KernelManager) -> None:
        self.km = km
        outbox = provisioner_of(km).outbox
        assert outbox is not None
        self.said: list[Said] = []
        self.ear = OutboxEar(outbox, self._hear)
        self.sockets = Sockets(km)
        self._heard = asyncio.Event()

    def _hear(self, message: Said) -> bool:
        self.said.append(message)
        self._heard.set()
        return False

    async def until(self, msg_type: str, patience: float) -> bool:
        """Wait until it says something that is for the broker alone; False if it says something else, or ends."""
        ended = asyncio.ensure_future(provisioner_of(self.km).ended())
        said = asyncio.ensure_future(self._until_said())
        try:
            await asyncio.wait({ended, said}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            return said.done() and not ended.done() and said.result() == msg_type
        finally:
            ended.cancel()
            said.cancel()

    async def _until_said(self) -> str:
        heard = len(self.said)
        while True:
            for message in self.said[heard:]:
                if message.channel == OWN:
                    return message.msg_type
            self._heard.clear()
            await self._heard.wait()

    def close(self) -> None:
        self.ear.close()
        self.sockets.close()


class Pool:
    """Keeps ``size`` kernels ready of each kernelspec that :meth:`want` or :meth:`take` has named.

    ``start_timeout`` is in seconds.
    """

    def __init__(self, manager: AsyncMultiKernelManager, size: int, start_timeout: float = 60.0) -> None:
        self._manager = manager
        self._size = size
        self._start_timeout = start_timeout
        self._ready: dict[str, list[Ready]] = {}
        self._taken = asyncio.Event()
        self._filling = asyncio.ensure_future(self._fill())

    def want(self, kernel: str) -> None:
        """Keep kernels of this kernelspec ready from now on, if they are our own."""
        if self._size > 0 and kernel not in self._ready and self._is_own(kernel):
            self._ready[kernel] = []
            self._taken.set()

    async def take(self, kernel: str, working_directory: str) -> Ready | None:
        """A kernel that is ready, in its place, for good; None if there is none."""
        self.want(kernel)
        waiting = self._ready.get(kernel, [])
        while waiting:
            ready = waiting.pop(0)
            self._taken.set()
            ready.sockets.send("control", "configure_request", {"cwd": working_directory})
            if await ready.until("configured", PLACING):
                return ready
            await self._discard(ready)
        return None

    async def close(self) -> None:
        """End the kernels that nobody has taken."""
        self._filling.cancel()
        await asyncio.gather(self._filling, return_exceptions=True)
        await asyncio.gather(*(self._discard(ready) for waiting in self._ready.values() for ready in waiting))
        self._ready.clear()

    def _is_own(self, kernel: str) -> bool:
        assert self._manager.kernel_spec_manager is not None
        try:
            spec = self._manager.kernel_spec_manager.get_kernel_spec(kernel)
        except NoSuchKernel:
            return False
        return keeps_outbox(spec.argv, spec)

    async def _fill(self) -> None:
        while True:
            kernel = next((name for name, waiting in self._ready.items() if len(waiting) < self._size), None)
            self._taken.clear()
            if kernel is None:
                await self._taken.wait()
                continue
            with contextlib.suppress(TimeoutError):
                # Whoever takes one will want the processor for a moment.
                await asyncio.wait_for(self._taken.wait(), QUIET)
                continue
            try:
                self._ready[kernel].append(await self._make(kernel))
            except Exception as error:
                log.warning("no kernel %r is kept ready: %s", kernel, error)
                waiting = self._ready.pop(kernel)
                while waiting:
                    await self._discard(waiting.pop())

    async def _make(self, kernel: str) -> Ready:
        ready = Ready(await start(self._manager, kernel, str(uuid.uuid4()), cwd=HOME, env=POOLED))
        try:
            if await ready.until("hello", self._start_timeout):
                return ready
            raise RuntimeError("it ended, took too long, or its ipykernel is too old")
        except BaseException:
            await self._discard(ready)
            raise

    async def _discard(self, ready: Ready) -> None:
        await provisioner_of(ready.km).kill()
        ready.close()
        provisioner_of(ready.km).drop_outbox()
        await bury(self._manager, ready.km)
