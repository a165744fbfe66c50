"""What a case can ask of a peer. An adapter does each in the way that its peer's documentation offers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from .installs import Installs

STARTING = 120.0
"""Seconds in which a peer must have started."""


class Refused(Exception):
    """The peer answered, and the answer is not what was asked for. The message is the peer's, made short."""


class NoSuchCall(Refused):
    """The peer offers no call for it."""


@dataclass
class Run:
    """Code that was given to a peer, and by what it is named from then on."""

    name: str
    answer: asyncio.Future[Any] | None = None
    """The peer's answer to the call that gave it the code, where that is still to come."""
    given_to: object = None
    """The server that was given the code, where one that comes after it is asked in another way."""


@dataclass
class Result:
    """How a run ended, and what a client has of its output."""

    text: str
    error: str | None = None
    """What the peer says went wrong: an exception's name, a state, or its own words."""


class Peer(ABC):
    """One way of running code, with directories and a kernel of its own: each case gets a new one."""

    name: ClassVar[str]
    language: ClassVar[Literal["python", "javascript"]] = "python"
    patience: ClassVar[float] = 3
    """Seconds after which :meth:`call` is to give control back: the fewest that the peer can be set to, or 3."""
    settable: ClassVar[bool] = True
    """Whether those seconds can be set at all."""
    beside: ClassVar[str | None] = None
    """What :meth:`begin` is, where it is something else than :meth:`call`."""
    key: ClassVar[str | None] = None
    """What carries an idempotency key, if anything does."""
    driven: ClassVar[dict[str, str]]
    """How each thing is asked of it, for people to read and to judge."""

    def __init__(self, installs: Installs) -> None:
        self.installs = installs
        # Not under a long path: those of Unix sockets must be short.
        self.root = Path(tempfile.mkdtemp(prefix="jc-"))

    @abstractmethod
    async def start(self) -> None:
        """Start it, a kernel too, and connect a client."""

    @abstractmethod
    async def stop(self) -> None:
        """End all that it started."""

    def next_name(self) -> str:
        """What the next run will be named, where code must know its own name; else nothing."""
        return ""

    @abstractmethod
    async def call(self, code: str) -> Run:
        """Give it code with its ordinary call, and return when that gives control back, after ``patience`` or late.

        Raises:
            Refused: the answer is an error, and the run is not the caller's any more.
        """

    @abstractmethod
    async def begin(self, code: str, *, key: str | None = None, queue: bool = False) -> Run:
        """Give it code that is to run on for as long as it likes; return when it can be named.

        ``key`` is the call's idempotency key, given where there is a place for one. ``queue``: not beside another.
        """

    @abstractmethod
    async def so_far(self, run: Run) -> str:
        """What it has printed up to now."""

    @abstractmethod
    async def result(self, run: Run) -> Result:
        """Await its end; all that it printed."""

    async def again(self, run: Run) -> Result:
        """Ask for the same result once more."""
        return await self.result(run)

    async def asked(self, run: Run) -> None:
        """Return when it is known that the code asks for input."""
        raise NoSuchCall("no call tells of a prompt")

    async def send(self, run: Run, line: str) -> None:
        """Answer a prompt, or send a line ahead of one."""
        raise NoSuchCall("no call sends input")

    @abstractmethod
    async def interrupt(self, run: Run) -> None:
        """Interrupt this run, by what offers that or comes nearest to it."""

    @abstractmethod
    async def leave(self) -> None:
        """The client goes, as a crash goes: no farewell."""

    @abstractmethod
    async def come_back(self) -> None:
        """A client comes in its place."""

    @abstractmethod
    async def kill(self) -> None:
        """SIGKILL for what the client talks to."""

    @abstractmethod
    async def revive(self) -> None:
        """Start it again on the same directories, and connect."""

    @classmethod
    @abstractmethod
    def installed(cls, installs: Installs) -> str:
        """Install it, if it is not, and return its version.

        Raises:
            NotInstalled: it cannot be had here.
        """

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, installs: Installs) -> AsyncIterator[Peer]:
        """One that is started, for one case; everything of it is gone after that."""
        peer = cls(installs)
        try:
            async with asyncio.timeout(STARTING):
                await peer.start()
            yield peer
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(peer.stop(), 30)
            shutil.rmtree(peer.root, ignore_errors=True)
