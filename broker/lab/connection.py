"""A browser's connection to a kernel of the broker. To any other kernel it is as the server has it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import msgspec
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.websocket import WebSocketClosedError

from ..core import messages as m
from ..core.errors import BrokerError
from ..core.stdin import split_lines
from .kernels import LabKernel, SharedKernels, is_others, says_idle
from .watching import Frames, Watching

log = logging.getLogger(__name__)

V1 = "v1.kernel.websocket.jupyter.org"


class _Header(msgspec.Struct, frozen=True):
    msg_id: str = ""
    msg_type: str = ""


_header = msgspec.json.Decoder(_Header)


class BrokerConnection(ZMQChannelsWebsocketConnection):
    """What the server's class of connections becomes (:func:`watched`), whatever it was."""

    page = ""
    """The address of the broker's page."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        kernel = self.kernel_manager
        self._kernel: LabKernel | None = kernel if isinstance(kernel, LabKernel) else None
        self._own: set[str] = set()
        self._watching: Watching | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self) -> asyncio.Future[None] | None:
        """Open it, and begin to watch."""
        connected = super().connect()
        if self._kernel is not None and connected is not None:
            shared = self.multi_kernel_manager
            assert isinstance(shared, SharedKernels)
            self._broker = shared.broker
            self._own = self._kernel.own[self.session.session]
            self._watching = Watching(
                self._kernel, self._broker.journal, self._write, self._own.__contains__, self.page
            )
            self._kernel.connections.add(self)
            self._spawn(self._watching.run())
        return connected

    def disconnect(self) -> Any:
        """Close it."""
        if self._kernel is not None:
            self._kernel.connections.discard(self)
        for task in self._tasks:
            task.cancel()
        return super().disconnect()

    @property
    def is_open(self) -> bool:
        """Whether the browser has not closed it."""
        return self._kernel is not None and self in self._kernel.connections

    def say_state(self, state: str) -> None:
        """Tell the browser of the kernel's end: ``dead``; or ``restarting``, after which it connects anew."""
        self._send_status_message(state)

    def say(self, text: str) -> None:
        """Tell the reader something about what runs."""
        if self._watching is not None:
            self._spawn(self._watching.say(text))

    # From the browser

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Pass a message on to the kernel, unless the broker must deal with it."""
        if self._kernel is None or not self._is_for_us(*_read(incoming_msg, self.subprotocol)):
            super().handle_incoming_message(incoming_msg)

    def _is_for_us(self, channel: str | None, parts: list[Any]) -> bool:
        if len(parts) < 4:
            return False
        header = _header.decode(parts[0])
        if header.msg_type == "execute_request":
            self._own.add(header.msg_id)
            if notebooks := self._broker.notebooks:
                notebooks.came_from(header.msg_id, self.session.session)
        elif header.msg_type == "kernel_info_request" and channel == "shell":
            return self._answers_info(parts[0])
        elif header.msg_type == "input_reply" and self._watching is not None:
            id = self._watching.asked.get(_header.decode(parts[1]).msg_id)
            if id is not None:
                self._spawn(self._answer(id, str(msgspec.json.decode(parts[3]).get("value", ""))))
                return True
        return False

    async def _answer(self, id: str, value: str) -> None:
        """Pass on what was typed at a prompt of the broker's."""
        record = self._broker.journal.execution(id)
        try:
            if record is not None:
                await self._broker.tell(record, m.SendStdin(id, split_lines(value)))
        except BrokerError as error:
            log.info("an answer to execution %s came too late: %s", id, error)

    def _answers_info(self, request: bytes) -> bool:
        """Answer for a kernel that would not before it is done with what it does."""
        assert self._kernel is not None
        if self._kernel.execution_state != "busy":
            return False
        self._spawn(self._tell_info(msgspec.json.decode(request)))
        return True

    async def _tell_info(self, parent: dict[str, Any]) -> None:
        assert self._kernel is not None
        session, content = await self._kernel.info

        def frames(number: int, channel: str, msg_type: str, content: bytes) -> Frames:
            header = {
                **parent,
                "msg_id": f"{parent['msg_id']}-{number}",
                "msg_type": msg_type,
                "session": session,
            }
            return Frames(channel, header, parent, content, [])

        await self._write(frames(1, "iopub", "status", b'{"execution_state":"busy"}'))
        await self._write(frames(2, "shell", "kernel_info_reply", content))
        await self._write(frames(3, "iopub", "status", b'{"execution_state":"idle"}'))

    # To the browser

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        """Pass a message of the kernel on, unless it is about a cell that is told of from the journal."""
        if self._kernel is None or stream.channel != "iopub":
            super().handle_outgoing_message(stream, outgoing_msg)
        elif not is_others(outgoing_msg, self._own):
            idle = says_idle(outgoing_msg)
            super().handle_outgoing_message(stream, outgoing_msg)
            # With what this client has asked for; to JupyterLab it would be idle altogether.
            if idle and self._watching is not None:
                self._spawn(self._watching.say_busy())

    async def _write(self, frames: Frames) -> None:
        channel, header, parent, content, buffers, metadata = frames
        if self.subprotocol == V1:
            parts = [msgspec.json.encode(header), msgspec.json.encode(parent), metadata, content, *buffers]
            await self.write_message(serialize_msg_to_ws_v1(parts, channel), binary=True)
            return
        message = {
            "header": header,
            "parent_header": parent,
            "metadata": json.loads(metadata),
            "content": json.loads(content),
            "buffers": buffers,
            "channel": channel,
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
        }
        if buffers:
            await self.write_message(serialize_binary_message(message), binary=True)
        else:
            await self.write_message(json.dumps(message))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(_until_closed(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def watched(connection_class: type[ZMQChannelsWebsocketConnection], page: str) -> type[BrokerConnection]:
    """A server's class of connections, with which the broker's executions are seen."""
    name = connection_class.__name__
    return type(name, (BrokerConnection, connection_class), {"page": page, "__module__": connection_class.__module__})


def _read(message: Any, subprotocol: str | None) -> tuple[str | None, list[Any]]:
    """A message's channel, and its header, parent header, metadata and content, encoded; no part if it is none."""
    try:
        if subprotocol == V1:
            return deserialize_msg_from_ws_v1(message)
        if isinstance(message, str):
            found = json.loads(message)
            names = ("header", "parent_header", "metadata", "content")
            return found.get("channel"), [msgspec.json.encode(found.get(name) or {}) for name in names]
    except (ValueError, TypeError, AttributeError):
        pass  # for the server to say what it is
    return None, []


async def _until_closed(work: Any) -> None:
    try:
        await work
    except (WebSocketClosedError, asyncio.CancelledError):
        pass
    except Exception:
        log.exception("a connection to a kernel cannot be told of the broker's executions")
