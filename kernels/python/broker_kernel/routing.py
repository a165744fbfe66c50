"""Which shell takes a request: cells of one client run one after the other, those of different clients side by side.

A request that names its subshell goes there. Of the others, as every client but the broker sends them, a client's
follow each other in one shell for as long as it has any under way; and the first of them goes to the main shell if
nothing is under way there, or else to a *guest* lane beside it. So nobody waits for another's cell: whoever opens a
kernel that is busy is answered, and a person's cell runs beside an agent's.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import zmq

from .wire import Session

GUEST = "guest-"
"""How the id of a lane for other clients begins."""
MAX_GUESTS = 16
"""So many guest lanes there are at most. Each is a thread; what finds none waits for the main shell."""
DELIMITER = b"<IDS|MSG>"


class Request(NamedTuple):
    """A message on the shell channel, taken apart no further than is needed here ("The Wire Protocol")."""

    idents: list[bytes]
    signature: bytes
    packed: bytes
    """The header as sent."""
    header: dict[str, Any]
    rest: list[Any]
    """Parent header, metadata, content, and buffers."""

    @classmethod
    def read(cls, frames: Sequence[Any], session: Session) -> Request:
        """Raises ValueError: it is none, or not signed as it should be. Nothing will ever be under way of it."""
        heads = [bytes(frame) for frame in frames[: _delimiter(frames) + 3]]
        *idents, _, signature, packed = heads
        header, rest = json.loads(packed), list(frames[len(heads) :])
        if not isinstance(header, dict) or len(rest) < 3 or signature in session.digest_history:
            raise ValueError("no message, or one that came before")
        if not hmac.compare_digest(session.sign([packed, *map(bytes, rest[:3])]), signature):
            raise ValueError("invalid signature")
        return cls(idents, signature, packed, header, rest)

    def to(self, lane: str, session: Session) -> tuple[list[Any], bytes]:
        """The same request with a subshell named in its header, and that header."""
        packed = session.pack({**self.header, "subshell_id": lane})
        signature = session.sign([packed, *map(bytes, self.rest[:3])])
        return [*map(zmq.Frame, [*self.idents, DELIMITER, signature, packed]), *self.rest], packed


def packed_header(frames: Sequence[Any]) -> bytes:
    """The header of a message, as sent."""
    return bytes(frames[_delimiter(frames) + 2])


def _delimiter(frames: Sequence[Any]) -> int:
    return next((index for index, frame in enumerate(frames) if bytes(frame) == DELIMITER), len(frames))


class Routing:
    """Knows what is under way in the main shell and in the guest lanes. Called from their threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._clients: dict[str | None, list[str]] = {None: []}
        """The clients of the requests that are under way in each lane; the main shell's is None."""
        self._under_way: dict[bytes, tuple[str | None, str]] = {}

    def choose(self, client: str) -> str | None:
        """The lane for a client's request; None is the main shell. :meth:`begin` it there."""
        with self._lock:
            lanes = self._clients
            own = [lane for lane, clients in lanes.items() if client in clients]
            free = [lane for lane, clients in lanes.items() if not clients]
            if own or free:
                return (own or free)[0]
            return f"{GUEST}{len(lanes)}" if len(lanes) <= MAX_GUESTS else None

    def begin(self, lane: str | None, client: str, packed_header: bytes) -> None:
        """A request is on its way to a lane."""
        with self._lock:
            self._clients.setdefault(lane, []).append(client)
            self._under_way[packed_header] = lane, client

    def end(self, packed_header: bytes) -> None:
        """It is dealt with."""
        with self._lock:
            if found := self._under_way.pop(packed_header, None):
                lane, client = found
                self._clients[lane].remove(client)
