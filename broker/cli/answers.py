"""Answers to the prompts of an execution, from this process's stdin: a terminal, a pipe or a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
from collections.abc import Iterator
from typing import Any, Self, TextIO

CHUNK = 65536


class Answers:
    """Lines of stdin, one when it is asked for. Nothing is read before."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self.is_terminal = os.isatty(descriptor)

    @classmethod
    def from_stdin(cls) -> Self | None:
        """Those of this process's stdin; None if it was started without one."""
        # Python sets it to None when the descriptor was closed.
        stdin: TextIO | None = sys.stdin
        return None if stdin is None else cls(stdin.fileno())

    async def read(self, *, password: bool = False) -> str | None:
        """The next line without its end; None at the end of input. Cancelling it leaves what was not read.

        ``password``: a terminal does not show what is typed.
        """
        with self._unseen() if password and self.is_terminal else contextlib.nullcontext():
            while b"\n" not in self._buffer:
                chunk = await self._read_chunk()
                if not chunk:
                    break
                self._buffer += chunk
        line, end, self._buffer = self._buffer.partition(b"\n")
        if not line and not end:
            return None
        return line.removesuffix(b"\r").decode(errors="surrogateescape").encode(errors="replace").decode()

    async def _read_chunk(self) -> bytes:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()

        def wake() -> None:
            if not readable.done():
                readable.set_result(None)

        try:
            loop.add_reader(self._descriptor, wake)
        except PermissionError:
            # A regular file cannot be polled, and need not be: it never blocks.
            return os.read(self._descriptor, CHUNK)
        try:
            await readable
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, CHUNK)

    @contextlib.contextmanager
    def _unseen(self) -> Iterator[None]:
        before = termios.tcgetattr(self._descriptor)
        hidden: list[Any] = [*before]
        hidden[3] &= ~termios.ECHO
        # TCSAFLUSH drops what was typed before it could be known to be a password, as getpass does.
        termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, hidden)
        try:
            yield
        finally:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)
