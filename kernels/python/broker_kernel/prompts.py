"""``input()`` and ``getpass()``: many at once, from any thread, each with its own answer.

An ``input_reply`` is for the prompt whose request is its parent (messaging spec, "Messages on the stdin channel"). One
that names no parent, as jupyter_client sends it, is for the latest prompt of the client that sent it. An answer to no
open prompt is dropped.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from zmq.eventloop.zmqstream import ZMQStream

from .cells import Cell
from .interrupts import Waiter
from .wire import OutboxThread, Session

EOF = "\x04"
"""The answer that ends input."""


class _Prompt:
    def __init__(self, cell: Cell, ident: list[bytes], content: dict[str, Any]) -> None:
        self.cell, self.ident, self.content = cell, ident, content
        self.answer: str | None = None
        self.is_asked = False
        self._answered = Waiter()
        self._answered.acquire(False)

    def wait(self) -> str:
        while self.answer is None:
            # An interrupt is raised from here, or wakes this lane and is raised on the way out.
            self._answered.acquire()
        return self.answer

    def give(self, value: str) -> None:
        if self.answer is None:
            self.answer = value
            self._answered.release()


class _Stream:
    """The stdin socket, which belongs to the IOPub thread."""

    def __init__(self, socket: Any, thread: OutboxThread) -> None:
        self._socket, self._thread = socket, thread

    def send_multipart(self, frames: list[bytes], copy: bool = True) -> None:
        self._thread.schedule(lambda: self._socket.send_multipart(frames))


class Prompts:
    """The open prompts of the kernel."""

    def __init__(self, session: Session, socket: Any, thread: OutboxThread) -> None:
        self._session = session
        self._lock = Lock()
        self._open: dict[str, _Prompt] = {}
        stream = ZMQStream(socket, thread.io_loop)
        self._stream = _Stream(socket, thread)
        thread.schedule(lambda: stream.on_recv(self._received))

    @property
    def open(self) -> dict[str, dict[str, Any]]:
        """The last one of each execution that has any, by the execution's id."""
        with self._lock:
            return {each.cell.id: each.content for each in self._open.values() if each.is_asked and each.answer is None}

    def ask(self, cell: Cell, ident: list[bytes], prompt: str, *, password: bool) -> str:
        """Ask, and wait for the answer.

        Raises:
            EOFError: there is none, and will be none.
        """
        content = {"prompt": prompt, "password": password}
        asked = _Prompt(cell, ident, content)
        header = self._session.msg_header("input_request")
        with self._lock:
            self._open[header["msg_id"]] = asked
        try:
            message = self._session.msg("input_request", content, parent=cell.parent, header=header)
            self._session.send(self._stream, message, ident=ident)
            asked.is_asked = True
            value = asked.wait()
        finally:
            with self._lock:
                del self._open[header["msg_id"]]
        if value == EOF:
            raise EOFError
        return value

    def _received(self, frames: list[bytes]) -> None:
        try:
            ident, rest = self._session.feed_identities(frames)
            message = self._session.deserialize(rest)
        except ValueError:
            return  # unsigned, or no message
        if message["header"]["msg_type"] != "input_reply":
            return
        parent = (message["parent_header"] or {}).get("msg_id")
        with self._lock:
            prompt = self._open.get(parent) or self._latest(parent, ident)
        if prompt is not None:
            prompt.give(str(message["content"].get("value", "")))

    def _latest(self, parent: str | None, ident: list[bytes]) -> _Prompt | None:
        for prompt in reversed(self._open.values()):
            if prompt.cell.id == parent or (parent is None and prompt.ident == ident):
                return prompt
        return None
