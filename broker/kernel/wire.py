"""The messaging protocol's wire format, as far as a broker needs it, and sockets that are read as fast as they fill.

See the messaging spec, "The Wire Protocol". Of an incoming message only the headers are decoded; its content frame goes
to the journal as it came.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import zmq
from jupyter_client.session import Session as JupyterSession

DELIMITER = b"<IDS|MSG>"
NOTHING = (b"{}", b"")
"""Metadata that say nothing."""
POLLIN = int(zmq.POLLIN)
"""As a plain number: the arithmetic of enums shows in a flood."""
DRAIN_AT_ONCE = 200
"""Messages read in one go before the loop may do something else."""


class Header(msgspec.Struct, frozen=True):
    msg_id: str = ""
    msg_type: str = ""


class Message(msgspec.Struct, frozen=True):
    """A message whose content is still the frame it came in: valid JSON in valid UTF-8."""

    header: Header
    parent_id: str
    content: bytes
    extra: dict[str, Any] = {}
    """What :func:`mended` and :func:`beside` say."""


class InvalidMessage(Exception):
    """It is not signed with the kernel's key, or is no message at all."""


_header = msgspec.json.Decoder(Header)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def unpack(frames: list[bytes], session: JupyterSession) -> Message:
    """Read a message.

    Raises:
        InvalidMessage: see there.
    """
    try:
        start = frames.index(DELIMITER) + 1
        signature, header, parent, metadata, content = frames[start : start + 5]
        if session.auth is not None and session.sign([header, parent, metadata, content]) != signature:
            raise InvalidMessage("the signature is wrong")
        valid, extra = mended(content)
        extra |= beside(metadata, frames[start + 5 :])
        return Message(_header.decode(header), _header.decode(parent).msg_id, valid, extra)
    except ValueError as error:
        raise InvalidMessage(str(error)) from error


def beside(metadata: bytes, buffers: list[bytes]) -> dict[str, Any]:
    """What a message has beside its content, if anything: ``metadata``; ``buffers``, encoded in base64."""
    found: dict[str, Any] = {}
    if metadata not in NOTHING:
        found["metadata"] = msgspec.Raw(mended(metadata)[0])
    if buffers:
        found["buffers"] = [base64.b64encode(buffer).decode() for buffer in buffers]
    return found


def mended(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """See :func:`mend`; and, where it had to change anything, a field that has the frame as it was sent.

    Of what no parser takes, for it is no JSON or nested too deep, that field is all there is.
    """
    try:
        valid = mend(content)
    except (ValueError, RecursionError):
        valid = b"{}"
    return valid, {} if valid is content else {"content_base64": base64.b64encode(content).decode()}


def mend(content: bytes) -> bytes:
    """Return ``content`` if it is JSON in UTF-8 that every parser takes, else the nearest that is.

    A kernel may send bytes that are no UTF-8, and halves of surrogate pairs: so Python sends what a program could not
    decode. They become U+FFFD.

    Raises:
        ValueError: it is not JSON at all.
        RecursionError: it is nested too deep.
    """
    try:
        content.decode()
        if b"\\ud" in content or b"\\uD" in content:
            msgspec.json.decode(content)
        else:
            _object.decode(content)
    except (UnicodeDecodeError, msgspec.DecodeError):
        value = json.loads(content.decode("utf-8", "surrogateescape"))
        text = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
        return text.decode("utf-16", "replace").encode()
    return content


class Channel:
    """A ZeroMQ socket on the event loop. Messages are read as they come and given to ``received``, if there is one.

    It reads by itself rather than through :mod:`zmq.asyncio`: a thousand small messages then cost one turn of the loop,
    not a thousand. ZeroMQ's descriptor is edge-triggered (``zmq_getsockopt(3)``, ``ZMQ_FD``), so the socket is looked
    at again after every send.
    """

    def __init__(self, socket: zmq.Socket[bytes], received: Callable[[list[bytes]], None] | None) -> None:
        self._socket = socket
        self.received = received
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.Handle | None = None
        self._loop.add_reader(socket.fileno(), self._readable)
        self._look_again()

    def send(self, frames: list[bytes]) -> None:
        """Send at once. What a kernel that is gone does not take is dropped: its end is reported anyway."""
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        self._look_again()

    def drain(self) -> None:
        """Read whatever has arrived."""
        while self._read(DRAIN_AT_ONCE):
            pass

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        if self._again:
            self._again.cancel()
        self._socket.close(linger=0)

    def _look_again(self) -> None:
        if self._again is None and not self._socket.closed:
            self._again = self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        self._again = None
        if not self._socket.closed and self._read(DRAIN_AT_ONCE):
            self._look_again()

    def _read(self, most: int) -> bool:
        """Read at most so many messages; say whether there may be more."""
        for _ in range(most):
            # Asked first, for the exception that an empty socket raises costs more.
            if self._socket.closed or not int(self._socket.get(zmq.EVENTS)) & POLLIN:
                return False
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            if self.received:
                self.received(frames)
        return True
