"""``input()`` and ``getpass()``: many at once, from any thread, each with its own answer.

An ``input_reply`` is for the prompt whose request is its parent (messaging spec, "Messages on the stdin channel"). One
that names no parent, as jupyter_client sends it, is for the latest prompt of the client that sent it. An answer to no
open prompt is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Protocol

from zmq.eventloop.zmqstream import ZMQStream

from .cells import Cell
from .interrupts import Waiter
from .wire import OutboxThread, Session

EOF = "\x04"
"""The answer that ends input."""


class Asker(Protocol):
    """Whoever asks: a cell, or what a kernel of another language has for one."""

    @property
    def id(self) -> str: ...

    @property
    def parent(self) -> dict[str, Any]: ...


class Prompt:
    """A question, and its answer once there is one."""

    def __init__(self, cell: Asker, ident: list[bytes], content: dict[str, Any]) -> None:
        self.cell, self.ident, self.content = cell, ident, content
        self.answer: str | None = None
        self.is_asked = False

    def give(self, value: str) -> None:
        """Take the answer, if it is the first. Called in the IOPub thread."""
        if self.answer is None:
            self.answer = value
            self.answered()

    def answered(self) -> None:
        """There is an answer."""


class _Waiting(Prompt):
    """One that a thread waits for."""

    def __init__(self, cell: Asker, ident: list[bytes], content: dict[str, Any]) -> None:
        super().__init__(cell, ident, content)
        self._answered = Waiter()
        self._answered.acquire(False)

    def wait(self) -> str:
        while self.answer is None:
            # An interrupt is raised from here, or wakes this lane and is raised on the way out.
            self._answered.acquire()
        return self.answer

    def answered(self) -> None:
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
        self._open: dict[str, Prompt] = {}
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
        prompt_of_cell = _Waiting(cell, ident, {"prompt": prompt, "password": password})
        with self.asking(prompt_of_cell):
            value = prompt_of_cell.wait()
        if value == EOF:
            raise EOFError
        return value

    @contextmanager
    def asking(self, asked: Prompt) -> Iterator[None]:
        """Ask, and take the answer for as long as this is entered."""
        header = self._session.msg_header("input_request")
        with self._lock:
            self._open[header["msg_id"]] = asked
        try:
            message = self._session.msg("input_request", asked.content, parent=asked.cell.parent, header=header)
            self._session.send(self._stream, message, ident=asked.ident)
            asked.is_asked = True
            yield
        finally:
            with self._lock:
                del self._open[header["msg_id"]]

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

    def _latest(self, parent: str | None, ident: list[bytes]) -> Prompt | None:
        for prompt in reversed(self._open.values()):
            if prompt.cell.id == parent or (parent is None and prompt.ident == ident):
                return prompt
        return None
