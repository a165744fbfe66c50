"""The sockets to one kernel process.

They are ours because jupyter_client's asynchronous client writes through a shadow of the socket that it reads from,
where a reply can get stuck; because IOPub needs its receive limit lifted before it connects (ZeroMQ drops silently at
its high-water mark, 1,000 messages by default); and because shell and stdin must share one ZMQ identity, the same
before and after a restart of the broker, for the kernel to find its way back to us.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import zmq
from jupyter_client.manager import KernelManager
from jupyter_client.session import Session as JupyterSession
from jupyter_client.session import msg_header

from ..core.lanes import MAIN
from .wire import DELIMITER, Channel

LAST_WORDS = 1.0
"""Seconds at most until a dead kernel's sockets must have given all they had."""

Received = Callable[[list[bytes]], None]


class Sockets:
    """What is sent goes through them; what comes goes to those who listen, and is dropped where nobody does."""

    def __init__(self, km: KernelManager) -> None:
        self._km = km
        identity = f"broker-{km.kernel_id}"
        self.session = JupyterSession(key=km.session.key, session=identity, digest_history_size=0)
        # The manager's context makes sockets for zmq.asyncio, which read behind one's back.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.shadow(km.context)
        self._iopub: Channel | None = None
        self._monitored: zmq.Socket[bytes] | None = None
        self._silent = asyncio.Event()
        self._channels = {
            "shell": Channel(self._connect(zmq.DEALER, "shell"), None),
            "stdin": Channel(self._connect(zmq.DEALER, "stdin"), None),
            "control": Channel(self._connect(zmq.DEALER, "control"), None),
        }

    def listen(self, on_iopub: Received, on_shell: Received, on_stdin: Received) -> None:
        """Hear what the kernel says from now on, on all channels."""
        self._channels["shell"].received, self._channels["stdin"].received = on_shell, on_stdin
        self._monitored = iopub = self._connect(zmq.SUB, "iopub")
        monitor = iopub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._channels["monitor"] = Channel(monitor, lambda _: self._silent.set())
        self._channels["iopub"] = self._iopub = Channel(iopub, on_iopub)

    def drain_iopub(self) -> None:
        """Read what has arrived on IOPub by now."""
        if self._iopub:
            self._iopub.drain()

    def send(
        self,
        channel: str,
        msg_type: str,
        content: dict[str, Any],
        *,
        msg_id: str | None = None,
        parent_id: str | None = None,
        lane: str = MAIN,
    ) -> None:
        """Send a message over ``channel``, to a ``lane`` of the shell."""
        header = msg_header(msg_id or uuid.uuid4().hex, msg_type, self.session.username, self.session.session)
        if lane != MAIN:
            header["subshell_id"] = lane
        parent = {"msg_id": parent_id} if parent_id else {}
        parts = [msgspec.json.encode(part) for part in (header, parent, {}, content)]
        self._channels[channel].send([DELIMITER, self.session.sign(parts), *parts])

    async def last_words(self) -> None:
        """Read what a process that is gone has still sent: all of it is there once its connection is seen to end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._silent.wait(), LAST_WORDS)
        for name in ("iopub", "shell", "stdin"):
            self._channels[name].drain()

    def close(self) -> None:
        if self._monitored is not None:
            self._monitored.disable_monitor()
        for channel in self._channels.values():
            channel.close()

    def _connect(self, kind: int, channel: str) -> zmq.Socket[bytes]:
        km = self._km
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.reconnect_ivl = 10
        socket.set_hwm(0)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        else:
            socket.identity = self.session.bsession
        if km.curve_publickey:
            socket.curve_serverkey = km.curve_publickey
            socket.curve_publickey, socket.curve_secretkey = km.curve_publickey, km.curve_secretkey
        socket.connect(km._make_url(channel))
        return socket
