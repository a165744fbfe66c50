"""A line on a terminal that says how long nothing has been printed, and is gone before something is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TextIO

from .quantities import duration
from .rendering import ERASE_LINE

QUIET = 2.0
"""Seconds without output after which the line appears."""
EVERY = 1.0


class ElapsedLine:
    """Shown on stderr, and only if that is a terminal.

    ``may_show`` says whether the cursor is where a line can be written; ``what`` says what is going on.
    """

    def __init__(self, may_show: Callable[[], bool], what: Callable[[], str], stream: TextIO = sys.stderr) -> None:
        self._may_show = may_show
        self._what = what
        self._stream = stream
        self._shown = False
        self._clock = asyncio.get_running_loop().time
        self._began = self._last_output = self._clock()

    def restart(self) -> None:
        """What is going on begins now."""
        self._began = self._clock()

    def output_comes(self) -> None:
        """Make room."""
        self._last_output = self._clock()
        self.erase()

    def erase(self) -> None:
        if self._shown:
            self._shown = False
            self._stream.write(ERASE_LINE)
            self._stream.flush()

    async def keep(self) -> None:
        """Show the line when it is time, and keep it up to date, until cancelled."""
        if not self._stream.isatty():
            return
        while True:
            await asyncio.sleep(EVERY)
            now = self._clock()
            if now - self._last_output < QUIET or not self._may_show():
                self.erase()
                continue
            self._shown = True
            text = f"{self._what()} {duration(now - self._began)}, quiet for {duration(now - self._last_output)}"
            self._stream.write(f"{ERASE_LINE}\x1b[2m{text} · Ctrl-C detaches\x1b[0m")
            self._stream.flush()
