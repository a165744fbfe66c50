"""What a case sees, and how it looks: waiting for files and answers, and counting lines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .peer import Refused, Result

Verdict = Literal["yes", "partly", "no", "not run"]
SOON = 10.0
"""Seconds in which an answer must come that nothing holds up."""


@dataclass
class Cell:
    """What was seen, and what to make of it: by a rule that is the same for all."""

    verdict: Verdict
    words: str
    brief: str


async def appears(path: Path, seconds: float = 60) -> None:
    """Wait for a file that code makes."""
    async with asyncio.timeout(seconds):
        while not made(path):  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)


def made(path: Path) -> bool:
    return path.exists()


def make(path: Path) -> None:
    path.touch()


async def soon(what: Awaitable[Result], seconds: float = SOON) -> Result | str:
    """A result, or the words for what came in its place."""
    try:
        return await asyncio.wait_for(what, seconds)
    except TimeoutError:
        return f"no answer in {seconds:g} s"
    except Refused as refused:
        return str(refused)


def numbered(text: str, word: str, count: int) -> tuple[int, bool]:
    """How many of the lines "word 0", "word 1", … are there, and whether once each and in order."""
    wanted = {f"{word} {i}" for i in range(count)}
    there = [line for line in text.splitlines() if line in wanted]
    return len(set(there)), there == [f"{word} {i}" for i in range(len(there))]


def of(found: int, all_: int, unit: str = "lines") -> str:
    return f"all {all_:,} {unit}" if found == all_ else f"{found:,} of {all_:,} {unit}"
