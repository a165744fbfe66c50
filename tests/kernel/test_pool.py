"""What the pool does with its kernels when one more cannot be made."""

from __future__ import annotations

import asyncio
from typing import Any

from broker.kernel.pool import Pool


class OneAtMost(Pool):
    """Makes one kernel, which is no more than a name, and fails to make another."""

    def __init__(self) -> None:
        super().__init__(None, 2)  # type: ignore[arg-type]
        self.made: list[Any] = []
        self.discarded: asyncio.Queue[Any] = asyncio.Queue()

    def _is_own(self, kernel: str) -> bool:
        return True

    async def _make(self, kernel: str) -> Any:
        if self.made:
            raise OSError("there is no room for another")
        self.made.append("the first")
        return "the first"

    async def _discard(self, ready: Any) -> None:
        self.discarded.put_nowait(ready)


async def test_those_that_are_ready_are_not_left_behind_when_no_more_can_be_made() -> None:
    pool = OneAtMost()
    pool.want("kernel")
    assert await asyncio.wait_for(pool.discarded.get(), 20) == "the first"
    await pool.close()
    assert pool.discarded.empty()
