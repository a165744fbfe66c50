"""Whose the data directory is: a server that starts takes it over from a broker that runs alone."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from ..discovery import END_PATIENCE, DataDirectoryInUse, DataDirectoryLock, end_broker, read_info

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.1
"""Seconds between two looks at a broker that is just starting, or ending, and says nothing."""


async def take_over(data_dir: Path) -> DataDirectoryLock:
    """Hold the data directory; a broker alone that has it is ended. Its kernels run on, to be taken back.

    Raises:
        DataDirectoryInUse: another Jupyter Server has it, or a broker that does not end.
        OSError: the directory cannot be made or written.
    """
    lock = DataDirectoryLock(data_dir)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + END_PATIENCE
    while True:
        try:
            lock.acquire()
            return lock
        except DataDirectoryInUse:
            info = read_info(data_dir)
            if loop.time() > give_up or (info and info.in_server):
                raise
        if info:
            log.info("taking over from the broker at %s (pid %d)", info.url, info.pid)
            await end_broker(info)
        else:
            # Another process is to write a file, or to end: there is no one event to wait for.
            await asyncio.sleep(LOOK_AGAIN)
