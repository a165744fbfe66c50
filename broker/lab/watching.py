"""What a JupyterLab that is connected to a kernel is told of the broker's executions: all, from their first line on.

It is read from the journal, as by everybody else: replay and live are one loop, nothing is lost at any speed, and a
browser that is slow holds up nobody but itself. So the kernel's own messages about these executions are not sent on;
what is sent here has their form. Two things are put in a form that JupyterLab can show of a cell that is not its own:
an update of a display draws the cell's outputs anew, and a prompt says where it can be answered.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import sqlite3
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from ..core.events import EventType
from ..core.records import ExecutionRecord
from ..core.state import Run
from ..journal import Journal, Scope
from ..journal_writer import Stored, iso
from ..runner import Runner
from ..views.cells import Cell
from ..views.rendering import DISPLAY, DISPLAYS, STREAM, Output, decode
from ..views.replies import OutputSource, as_output
from .kernels import LabKernel

HOLD = 2.0
"""Seconds after its connection in which a console drops what is not about its own cells: it knows only then whether
they are to be shown."""
REDRAW_EVERY = 0.25
"""Seconds between two drawings of a cell whose displays change."""
SHARE = 0.1
"""How much of the time may be spent on drawing: a cell with much in it is drawn less often."""
REST = 1e-6
"""Seconds without text after each, for every character that a cell has then: JupyterLab draws all of them anew, and
answers nobody meanwhile."""
LONGEST_REST = 2.0
HELD = 2**20
"""Characters that are not held back for that."""
ASKS = (
    "\n[it waits for input: answer in the Broker panel, on the broker's page ({page}), or with"
    " `jupyter broker stdin {id} TEXT`]\n"
)


class Frames(NamedTuple):
    """A message: its channel, and its parts, encoded."""

    channel: str
    header: dict[str, Any]
    parent: dict[str, Any]
    content: bytes
    buffers: list[bytes]
    metadata: bytes = b"{}"


class _Body(msgspec.Struct):
    """What an ``output`` event may have beside its message."""

    buffers: list[str] = []
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


class _Count(msgspec.Struct):
    execution_count: int = 0


class _End(msgspec.Struct):
    state: str = ""
    reason: str = ""


class _Prompt(msgspec.Struct):
    prompt: str = ""
    password: bool = False


_body = msgspec.json.Decoder(_Body)
_count = msgspec.json.Decoder(_Count)
_end = msgspec.json.Decoder(_End)
_prompt = msgspec.json.Decoder(_Prompt)


class Watching:
    """One connection's view of a session. ``send`` waits until the browser has taken it.

    ``is_own`` says whether an execution is a cell of this very client, who hears of it from the kernel. ``page`` is the
    address of the broker's page.
    """

    def __init__(
        self,
        kernel: LabKernel,
        journal: Journal,
        send: Callable[[Frames], Awaitable[object]],
        is_own: Callable[[str], bool],
        page: str,
    ) -> None:
        self._runner: Runner = kernel.runner
        self._kernel, self._journal, self._send_on, self._is_own = kernel, journal, send, is_own
        self._page = page
        self._kernel_session = ""
        self._shown: set[str] = set()
        self._busy: set[str] = set()
        """The executions of which it was said that they run, and not yet that they are over."""
        self._text: tuple[str, str, list[str]] | None = None
        """What is still to be sent of a stream: whose, its name, and what is in it."""
        self._held = 0
        """The characters in it."""
        self._printed: defaultdict[str, int] = defaultdict(int)
        """How many characters were sent of an execution's text."""
        self._print_at = 0.0
        self._displays: defaultdict[str, set[str]] = defaultdict(set)
        """Which executions show a display, by its id."""
        self._stale: set[str] = set()
        self._draw_at = 0.0
        self._made = 0
        self.asked: dict[str, str] = {}
        """The executions whose prompts were sent, by the message's id."""

    async def run(self) -> None:
        """Follow the session until cancelled."""
        session = self._runner.session
        since = self._journal.seq
        self._shown = {record.execution_id for record in self._running() if not self._is_own(record.execution_id)}
        # Of messages that do not all bear the kernel's session, JupyterLab drops some.
        self._kernel_session = (await self._kernel.info).session
        await self._state("busy" if session.busy else "idle", next(iter(self._shown), "none"))
        self._busy |= self._shown
        after = since
        for id in self._shown:
            first = await self._journal.read(Scope(execution_id=id), 0, 1)
            after = min([after, *(line.stored.seq - 1 for line in first.lines)])
        await asyncio.sleep(HOLD)
        scope = Scope(session_id=session.record.session_id)
        while True:
            page = await self._journal.read(scope, after)
            await self._tell((line.stored for line in page.lines), since)
            after = page.seq
            if self._stale and asyncio.get_running_loop().time() >= self._draw_at:
                await self._draw(after)
            if page.eof:
                await self._wait(scope, after)

    async def say(self, text: str) -> None:
        """Tell the reader something, below what the executions that run have printed. It is in no record."""
        for record in self._running():
            if record.execution_id in self._shown:
                await self._say(record.execution_id, f"\n[{text}]\n")

    async def say_busy(self) -> None:
        """Say once more that the kernel is busy, if others' executions run there. When they end, that is said too."""
        await self._flush()  # now, so that between the question and the answer nothing else is said
        if self._busy:
            await self._state("busy", next(iter(self._busy)))

    async def _wait(self, scope: Scope, after: int) -> None:
        """Until there is more to tell, or it is time to tell it."""
        try:
            times = [self._draw_at] * bool(self._stale) + [self._print_at] * bool(self._text)
            async with asyncio.timeout_at(min(times, default=None)):
                await self._journal.changed(scope, after)
        except TimeoutError:
            pass

    async def _tell(self, events: Iterable[Stored], since: int) -> None:
        for event in events:
            id = event.execution_id
            if id is None or self._is_own(id):
                continue
            if event.seq > since and event.type == EventType.EXECUTION_STARTED:
                self._shown.add(id)
            if id in self._shown:
                await self._tell_one(event, id)
        if self._held > HELD or asyncio.get_running_loop().time() >= self._print_at:
            await self._flush()

    async def _tell_one(self, event: Stored, id: str) -> None:
        if event.type == EventType.OUTPUT:
            await self._output(event, id)
        elif event.type == EventType.EXECUTION_COUNT:
            await self._state("busy", id)
            self._busy.add(id)
            count = _count.decode(event.body).execution_count
            await self._publish("execute_input", id, {"code": self._journal.code(id), "execution_count": count})
        elif event.type == EventType.INPUT_REQUEST:
            await self._print(id, as_output(event))
            await self._ask(id, _prompt.decode(event.body))
        elif event.type == EventType.INPUT_REPLY:
            await self._print(id, as_output(event))
        elif event.type == EventType.GAP:
            await self._say(id, f"\n[{_end.decode(event.body).reason}]\n")
        elif event.type == EventType.EXECUTION_FINISHED:
            await self._over(id, _end.decode(event.body))

    async def _over(self, id: str, end: _End) -> None:
        if end.state in (Run.KILLED, Run.LOST):
            await self._say(id, f"\n[{end.state}: {end.reason}]\n")
        self._busy.discard(id)
        await self._state("idle", id)
        # The kernel has one state, and others may be running in it.
        if running := self._running():
            await self._state("busy", running[0].execution_id)

    async def _output(self, event: Stored, id: str) -> None:
        output = as_output(event)
        if output.msg_type == "stream":
            await self._print(id, output)
            return
        if output.msg_type in DISPLAYS:
            display = decode(DISPLAY, output.content).transient.display_id or ""
            if output.msg_type == "update_display_data":
                self._stale |= self._displays[display]
                return
            if display:
                self._displays[display].add(id)
        body = _body.decode(event.body)
        buffers = [base64.b64decode(each) for each in body.buffers]
        await self._send("iopub", output.msg_type, id, output.content, buffers, bytes(body.metadata))

    async def _print(self, id: str, output: Output) -> None:
        """Print, with what is printed next if nothing comes between."""
        stream = decode(STREAM, output.content)
        if self._text is None or self._text[:2] != (id, stream.name):
            await self._flush()
            self._text = (id, stream.name, [])
        self._text[2].append(stream.text)
        self._held += len(stream.text)

    async def _flush(self) -> None:
        if self._text is not None:
            (id, name, texts), self._text = self._text, None
            self._printed[id] += self._held
            self._held = 0
            rest = min(self._printed[id] * REST, LONGEST_REST)
            self._print_at = asyncio.get_running_loop().time() + rest
            await self._publish("stream", id, {"name": name, "text": "".join(texts)})

    async def _say(self, id: str, text: str) -> None:
        await self._flush()
        await self._publish("stream", id, {"name": "stderr", "text": text})

    async def _ask(self, id: str, prompt: _Prompt) -> None:
        if not self._asks(id):
            return  # it was answered long ago
        header = await self._send("stdin", "input_request", id, msgspec.json.encode(prompt))
        # A debugger asks many times; where one answers need not be said each time.
        is_first = id not in self.asked.values()
        self.asked[header["msg_id"]] = id
        if is_first:
            await self._say_where(id)

    def _asks(self, id: str) -> bool:
        record = self._runner.session.find(id)
        return record is not None and record.run is Run.AWAITING_INPUT

    async def _say_where(self, id: str) -> None:
        await self._say(id, ASKS.format(page=self._page, id=id))

    async def _draw(self, until: int) -> None:
        """Send all outputs of the cells anew in which a display has changed."""
        clock = asyncio.get_running_loop().time
        began = clock()
        stale, self._stale = self._stale, set()
        for id in stale:
            if record := self._journal.execution(id):
                outputs = await self._journal.in_thread(functools.partial(_drawn, record, until))
                await self._publish("clear_output", id, {"wait": bool(outputs)})
                for output in outputs:
                    await self._publish(output.pop("output_type"), id, output)
                if self._asks(id):
                    await self._say_where(id)
        self._draw_at = clock() + max(REDRAW_EVERY, (clock() - began) / SHARE)

    async def _state(self, state: str, id: str) -> None:
        await self._publish("status", id, {"execution_state": state})

    async def _publish(self, msg_type: str, id: str, content: dict[str, Any]) -> None:
        await self._send("iopub", msg_type, id, msgspec.json.encode(content))

    async def _send(
        self,
        channel: str,
        msg_type: str,
        id: str,
        content: bytes,
        buffers: list[bytes] | None = None,
        metadata: bytes = b"{}",
    ) -> dict[str, Any]:
        """Send a message as the kernel would about an execution, after what was printed before it."""
        if msg_type != "stream":
            await self._flush()
        self._made += 1
        header = self._header(f"broker-{id}-{self._made}", msg_type, self._kernel_session)
        parent = self._header(id, "execute_request", f"broker-{self._kernel.kernel_id}")
        await self._send_on(Frames(channel, header, parent, content, buffers or [], metadata))
        return header

    @staticmethod
    def _header(msg_id: str, msg_type: str, session: str) -> dict[str, Any]:
        return {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "session": session,
            "username": "broker",
            "date": iso(time.time()),
            "version": "5.4",
        }

    def _running(self) -> list[ExecutionRecord]:
        session = self._runner.session
        found = [record for id in session.live if (record := session.find(id))]
        return [record for record in found if record.run.in_kernel]


def _drawn(record: ExecutionRecord, until: int, connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """The outputs of an execution as they look after all that came up to a seq."""
    cell = Cell(inline=None)
    for output in OutputSource(connection, record, 0, until).forward():
        cell.feed(output)
    return cell.finished()
