"""How many files this process may still open. A kernel that would take the last of them is not started.

Those that run, and their clients, could not go on without any: a segment of an outbox is opened, a client connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncIterator

KERNEL = 20
"""So many a kernel's start takes at once; what stays open are twelve, most of them ZeroMQ's."""
KEPT = 32
"""So many are kept for those that run already."""
_OPEN = next((path for path in ("/proc/self/fd", "/dev/fd") if os.path.isdir(path)), None)
_starting: set[asyncio.Future[None]] = set()


class TooManyOpenFiles(Exception):
    """There are too few descriptors left for another kernel."""


@contextlib.asynccontextmanager
async def enough() -> AsyncIterator[None]:
    """While a kernel is started: others may have to start first, for what a start takes is known when it is over.

    Raises:
        TooManyOpenFiles: see there.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    while _OPEN and limit != resource.RLIM_INFINITY:
        used = len(os.listdir(_OPEN))
        if used + (len(_starting) + 1) * KERNEL + KEPT <= limit:
            break
        if not _starting:
            raise TooManyOpenFiles(
                f"the broker has {used} of the {limit} files open that it may have, and needs {KERNEL} for a kernel, "
                f"and {KEPT} for those that run; close a session, or start the broker with a higher limit (ulimit -n)"
            )
        await asyncio.wait(_starting, return_when=asyncio.FIRST_COMPLETED)
    started = asyncio.get_running_loop().create_future()
    _starting.add(started)
    try:
        yield
    finally:
        _starting.discard(started)
        # Not before the kernel's sockets are open, which whoever has started it makes at once.
        started.get_loop().call_soon(started.set_result, None)
