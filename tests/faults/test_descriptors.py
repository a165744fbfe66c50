"""Many kernels, and a broker that may open few files more."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable

import psutil

from ..running import CallFailed, text_of
from .reader import check_sequence
from .zygote import CheapBroker

KERNELS = 64
LINES = 300


async def test_probe(start_cheap: Callable[..., CheapBroker]) -> None:
    broker = start_cheap()
    me = psutil.Process(broker.pid)
    async with broker.connect() as wire:
        import time
        t = time.time()
        await asyncio.gather(*(wire.call("create_session", name=f"{i}") for i in range(8)))
        print(time.time() - t, me.num_fds())
        for spare in range(0, 16):
            resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (me.num_fds() + spare, 20000))
            t = time.time()
            try:
                s = await asyncio.wait_for(wire.call("create_session", name=f"x{spare}"), 8)
                print(spare, "ok", s["kernel_state"])
            except CallFailed as e:
                print(spare, time.time() - t, e.type, e.message, me.num_fds())
            except Exception as e:
                print(spare, time.time() - t, repr(e), broker.process.poll(), broker.log.read_text()[-6000:])
                raise
            for i in range(8):
                e = await asyncio.wait_for(wire.execute("print(1)", session=f"{i}", wait=None), 10)
                assert e["text"] == "1\n"
