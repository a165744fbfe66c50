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
from typing import NamedTuple

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import KernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from .ears import OutboxEar, Said
from .launcher import own_command
from .outbox import OWN
from .processes import bury, provisioner_of, start

log = logging.getLogger(__name__)

HOME = os.path.expanduser("~")
QUIET = 0.3
"""Seconds without a kernel being taken before another one is started."""
POOLED = {"JUPYTER_BROKER_POOLED": "1"}
"""Tells a kernel that it is nobody's yet."""


class Ready(NamedTuple):
    """A kernel that has said hello, and all that it has said."""

    km: KernelManager
    ear: OutboxEar
    said: list[Said]


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

    def take(self, kernel: str) -> Ready | None:
        """A kernel that is ready, for good; None if there is none."""
        self.want(kernel)
        self._taken.set()
        waiting = self._ready.get(kernel, [])
        while waiting:
            ready = waiting.pop(0)
            process = provisioner_of(ready.km).process
            if process is not None and process.poll() is None:
                return ready
            asyncio.ensure_future(self._discard(ready))  # noqa: RUF006 (it is quick, and nobody waits for it)
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
        return own_command(spec.argv, spec) is not None

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
                del self._ready[kernel]

    async def _make(self, kernel: str) -> Ready:
        km = await start(self._manager, kernel, str(uuid.uuid4()), cwd=HOME, env=POOLED)
        outbox = provisioner_of(km).outbox
        assert outbox is not None
        said: list[Said] = []
        greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def listen(message: Said) -> bool:
            said.append(message)
            if message.channel == OWN and not greeted.done():
                greeted.set_result(None)
            return False

        ready = Ready(km, OutboxEar(outbox, listen), said)
        try:
            await asyncio.wait_for(greeted, self._start_timeout)
            if said[-1].msg_type != "hello":
                raise RuntimeError("its ipykernel is too old")
        except BaseException:
            await self._discard(ready)
            raise
        return ready

    async def _discard(self, ready: Ready) -> None:
        await provisioner_of(ready.km).kill()
        ready.ear.close()
        provisioner_of(ready.km).drop_outbox()
        await bury(self._manager, ready.km)
