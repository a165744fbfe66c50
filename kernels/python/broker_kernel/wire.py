"""What the kernel sends: into the outbox first, then over its sockets to those who listen there.

Each message on IOPub carries its number in the outbox, in a frame before ``<IDS|MSG>``, where the messaging protocol
has routing prefixes that clients ignore ("The Wire Protocol").
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from threading import get_ident
from typing import Any

import zmq
from ipykernel.iostream import BackgroundSocket, IOPubThread
from jupyter_client.session import Session as StockSession
from jupyter_client.session import json_packer

from .outbox import IOPUB, OWN, SHELL, STDIN, Outbox

BROKER = b"broker-"
"""How the identity of a reader of the outbox begins. A reply need not reach it twice."""
QUIET = frozenset({"busy", "execute_reply"})
"""What nobody acts on before the next message, which follows at once."""

EMPTY = b"{}"


def record_head(header: dict[str, Any], parent: dict[str, Any] | None, metadata: bytes = EMPTY) -> list[bytes]:
    """The frames of a record before its content."""
    kind: bytes = header["msg_type"].encode()
    if metadata != EMPTY:
        kind += b"\0" + metadata
    return [kind, (parent or {}).get("msg_id", "").encode(), header["msg_id"].encode()]


def pack(content: Any) -> bytes:
    """Encode as JSON. A lone surrogate is escaped, and a byte that was no UTF-8 becomes that byte again."""
    try:
        data: bytes = json_packer(content)
    except UnicodeEncodeError:
        data = json.dumps(content, default=str).encode()
    return data


class Session(StockSession):  # type: ignore[misc]
    """Sends from any thread."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check_pid = False
        self.pack = pack
        self._counter = itertools.count()
        self.outbox = Outbox(None)

    @property
    def msg_id(self) -> str:
        """Unique, also where two threads ask at once."""
        return f"{self.session}_{os.getpid()}_{next(self._counter)}"

    def send(
        self,
        stream: Any,
        msg_or_type: dict[str, Any] | str,
        content: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
        ident: bytes | list[bytes] | None = None,
        buffers: list[Any] | None = None,
        track: bool = False,
        header: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Put a message into the outbox, and send it. See the class that this extends."""
        if isinstance(msg_or_type, str):
            msg: dict[str, Any] = self.msg(msg_or_type, content, parent=parent, header=header, metadata=metadata)
        else:
            msg = msg_or_type
        msg_type = msg["header"]["msg_type"]
        buffers = buffers or msg.get("buffers") or []
        packed = self.pack(msg["content"])
        idents = [ident] if isinstance(ident, bytes) else list(ident or ())
        published = isinstance(stream, (BackgroundSocket, IOPubThread))
        to_broker = self.outbox.is_kept and bool(idents) and idents[0].startswith(BROKER)

        def pass_on(number: int) -> None:
            if published:
                pub: OutboxThread = getattr(stream, "io_thread", stream)
                if pub.watched or self.outbox.in_child:
                    pub.send_multipart(frames([*idents, b"%d" % number]))
            elif not to_broker:
                stream.send_multipart(frames(idents), copy=True)

        def frames(idents: list[bytes]) -> list[bytes]:
            return [*self.serialize({**msg, "content": packed}, idents), *buffers]

        if published:
            channel = IOPUB
        elif msg_type == "input_request":
            channel = STDIN
        elif to_broker:
            channel = SHELL
        else:
            pass_on(0)
            return msg
        quiet = msg_type in QUIET or msg["content"].get("execution_state") in QUIET
        metadata = self.pack(msg["metadata"]) if published and msg.get("metadata") else EMPTY
        head = record_head(msg["header"], msg.get("parent_header"), metadata)
        self.outbox.append(
            channel,
            [*head, packed, *map(bytes, buffers)],
            wake=not quiet,
            passed_on=pass_on,
        )
        return msg

    def relay(self, pub: OutboxThread, frames: list[bytes]) -> None:
        """Publish a message that a child of the kernel has packed."""
        idents, (_, header, parent, metadata, content, *buffers) = self.feed_identities(frames)
        head = record_head(self.unpack(header), self.unpack(parent), metadata)

        def pass_on(number: int) -> None:
            if pub.watched:
                pub.send_multipart([*idents[:1], b"%d" % number, *frames[len(idents) :]])

        self.outbox.append(IOPUB, [*head, content, *buffers], passed_on=pass_on)

    def tell(self, msg_type: str, content: dict[str, Any]) -> None:
        """Tell the broker, and nobody else."""
        self.outbox.append(OWN, [msg_type.encode(), b"", b"", self.pack(content)])

    def publish_text(
        self, pub: OutboxThread, parent: dict[str, Any], name: str, text: str, epoch: int, offset: int
    ) -> None:
        """Publish a ``stream`` message, made of text up to that place (see :mod:`broker_kernel.text`)."""
        msg = self.msg("stream", {"name": name, "text": text}, parent=parent)
        packed = self.pack(msg["content"])

        def pass_on(number: int) -> None:
            if pub.watched:
                topic = b"stream." + name.encode()
                pub.send_multipart(self.serialize({**msg, "content": packed}, [topic, b"%d" % number]))

        head = record_head(msg["header"], msg["parent_header"])
        self.outbox.append(IOPUB, [*head, packed], epoch=epoch, offset=offset, passed_on=pass_on)


class OutboxThread(IOPubThread):  # type: ignore[misc]
    """The thread that owns the IOPub socket, and knows whether anybody listens to it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._topics: set[bytes] = set()
        super().__init__(*args, **kwargs)

    @property
    def watched(self) -> bool:
        """Whether anybody has subscribed. Who does so now has missed what was sent before, as ever with PUB/SUB."""
        return bool(self._topics)

    def _handle_subscription(self, frames: list[bytes]) -> None:
        for frame in frames:
            (self._topics.add if frame[:1] == b"\1" else self._topics.discard)(frame[1:])
        super()._handle_subscription(frames)

    def _handle_pipe_msg(self, msg: list[bytes]) -> None:
        """A child that the kernel forked publishes something."""
        if self._pipe_flag and msg[0] == self._pipe_uuid:
            self.session.relay(self, msg[1:])

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call something in this thread after a while."""
        loop = self.io_loop.asyncio_loop
        try:
            loop.call_soon_threadsafe(loop.call_later, seconds, call)
        except RuntimeError:  # the loop is closed: the interpreter ends, and sends what is left by itself
            pass

    def schedule(self, f: Callable[[], object]) -> None:
        """Call something in this thread: at once, if this is it, for its pipe to itself could fill up."""
        if self.thread.ident == get_ident():
            f()
        else:
            super().schedule(f)


def lift_limits(socket: zmq.Socket[Any]) -> None:
    """Let nothing be dropped for a subscriber that reads slowly. Before the socket is bound."""
    socket.set_hwm(0)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
