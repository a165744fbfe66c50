"""An execution's output as text: what a person would have read in a terminal, in order.

However much there is, only the beginning and the end are read, and only as much of them as is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from .screen import Screen, plain

T = TypeVar("T")
MARKER = "\n… {omitted:,} characters left out (seq {from_seq} to {to_seq}; get_async_log has them) …\n"
LONGEST_MARKER = len(MARKER) + 40
LARGEST_TAIL = 4 * 2**20
"""Characters that are read back at most, where ever so many of them leave next to nothing to be seen."""
TEXTS = ("text/plain", "text/markdown", "text/latex", "application/json")


class Output(NamedTuple):
    """An output event: its place, and the IOPub message as sent."""

    seq: int
    msg_type: str
    content: bytes


class Outputs(Protocol):
    """The outputs of an execution after its last effective ``clear_output``, from either end, read as they are taken
    from it."""

    def forward(self) -> Iterator[Output]: ...

    def backward(self) -> Iterator[Output]: ...

    def characters(self) -> int:
        """How many characters all of them have printed."""


class Truncated(NamedTuple):
    """What was left out: so many characters as printed, of the events from one seq to another."""

    omitted_characters: int
    from_seq: int
    to_seq: int


class Rendered(NamedTuple):
    text: str
    truncated: Truncated | None


class Stream(msgspec.Struct):
    """Messaging spec, "Streams"."""

    name: str = "stdout"
    text: str = ""


class Transient(msgspec.Struct):
    display_id: str | None = None


class Display(msgspec.Struct):
    """Messaging spec, "Display data", "Update display data" and "Code results". Large values stay encoded."""

    data: dict[str, msgspec.Raw] = {}
    metadata: dict[str, Any] = {}
    transient: Transient = msgspec.field(default_factory=Transient)
    execution_count: int | None = None


class Error(msgspec.Struct):
    """Messaging spec, "Execution errors"."""

    ename: str = ""
    evalue: str = ""
    traceback: list[str] = []


class Clear(msgspec.Struct):
    """Messaging spec, "Clear output"."""

    wait: bool = False


STREAM = msgspec.json.Decoder(Stream)
DISPLAY = msgspec.json.Decoder(Display)
ERROR = msgspec.json.Decoder(Error)
_clear = msgspec.json.Decoder(Clear)
ADDING = ("stream", "display_data", "execute_result", "error")
"""The messages that add something to be seen."""
DISPLAYS = ("display_data", "execute_result", "update_display_data")


def decode(decoder: msgspec.json.Decoder[T], content: bytes) -> T:
    """Decode a message's content; one that is not as the spec has it shows nothing, and stays in the journal."""
    try:
        return decoder.decode(content)
    except msgspec.DecodeError:
        return decoder.type()


def last_clear(backward: Iterable[Output]) -> int:
    """The seq of the last ``clear_output`` that took effect, 0 if none did: with ``wait`` it needs a later output."""
    followed = False
    for output in backward:
        if output.msg_type == "clear_output":
            if followed or not decode(_clear, output.content).wait:
                return output.seq
        elif output.msg_type in ADDING:
            followed = True
    return 0


class View:
    """Text that grows by outputs. Streams share a screen, as they share a terminal; displays are blocks between.

    A ``partial`` view begins somewhere: there the update of a display that is not seen is shown by itself.
    """

    def __init__(self, *, partial: bool = False) -> None:
        self._partial = partial
        self._blocks: list[Screen | str] = []
        self._places: dict[str, list[int]] = {}
        self._length = 0

    def feed(self, output: Output) -> None:
        if output.msg_type == "stream":
            if not self._blocks or isinstance(self._blocks[-1], str):
                self._blocks.append(Screen())
            screen = self._blocks[-1]
            assert isinstance(screen, Screen)
            before = screen.length
            screen.feed(decode(STREAM, output.content).text)
            self._length += screen.length - before
        elif output.msg_type in DISPLAYS:
            self._show(decode(DISPLAY, output.content), update=output.msg_type == "update_display_data")
        elif output.msg_type == "error":
            error = decode(ERROR, output.content)
            self._add(plain("\n".join(error.traceback) or f"{error.ename}: {error.evalue}".strip(": ")))

    def _show(self, display: Display, *, update: bool) -> None:
        text = _as_text(display.data)
        id = display.transient.display_id
        if update and not (self._partial and id not in self._places):
            for place in self._places.get(id or "", ()):
                block = self._blocks[place]
                self._length += len(text) - len(block) if isinstance(block, str) else 0
                self._blocks[place] = text
            return
        if id:
            self._places.setdefault(id, []).append(len(self._blocks))
        self._add(text)

    def _add(self, block: str) -> None:
        self._blocks.append(block)
        self._length += len(block) + 2

    @property
    def length(self) -> int:
        """The length of the text, in characters, and at most two more for each display."""
        return self._length

    def text(self) -> str:
        pieces: list[str] = []
        for block in self._blocks:
            text = block if isinstance(block, str) else block.text()
            if text and pieces and not pieces[-1].endswith("\n"):
                pieces.append("\n")
            if text:
                pieces.append(text)
            if isinstance(block, str) and text and not text.endswith("\n"):
                pieces.append("\n")
        return "".join(pieces)


def _as_text(data: dict[str, msgspec.Raw]) -> str:
    for mime in TEXTS:
        if mime in data:
            value = msgspec.json.decode(data[mime])
            if isinstance(value, list) and all(isinstance(line, str) for line in value):
                return "".join(value)
            return value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return " ".join(f"[{mime}, {len(bytes(value)):,} bytes]" for mime, value in data.items())


def render(outputs: Outputs, max_output: int, *, partial: bool = False) -> Rendered:
    """The text, with its middle left out where it has more than ``max_output`` characters."""
    view = View(partial=partial)
    ends: list[tuple[int, int]] = []
    for output in outputs.forward():
        view.feed(output)
        if not ends or ends[-1][0] < min(view.length, max_output):
            ends.append((view.length, output.seq))
        # What is this far above the end will not be touched any more by a cursor that moves up.
        if view.length > 2 * max_output + LONGEST_MARKER:
            break
    else:
        text = view.text()
        if len(text) <= max_output:
            return Rendered(text, None)
    budget = (max_output - LONGEST_MARKER) // 2
    head = _at_line(view.text()[:budget], str.rfind)
    from_seq = next((seq for end, seq in ends if end > len(head)), ends[-1][1])
    tail, to_seq = _tail(outputs.backward, budget, from_seq)
    omitted = max(outputs.characters() - len(head) - len(tail), 1)
    marker = MARKER.format(omitted=omitted, from_seq=from_seq, to_seq=to_seq)
    return Rendered(head + marker + tail, Truncated(omitted, from_seq, to_seq))


def _tail(backward: Callable[[], Iterator[Output]], budget: int, from_seq: int) -> tuple[str, int]:
    """The last characters, and the seq of the event that they begin in."""
    taken: list[Output] = []
    size, enough = 0, 2 * budget
    source = backward()
    while True:
        ended = True
        for output in source:
            if output.seq < from_seq:
                break
            taken.append(output)
            size += len(output.content)
            if size >= enough:
                ended = False
                break
        view = View()
        for output in reversed(taken):
            view.feed(output)
        text = view.text()
        if ended or len(text) > budget or size > LARGEST_TAIL:
            break
        enough *= 4
    tail = _at_line(text[-budget:], str.find) if len(text) > budget else text
    kept = len(tail)
    for output in taken:
        kept -= _length(output)
        if kept <= 0:
            return tail, output.seq
    return tail, taken[-1].seq


def _length(output: Output) -> int:
    view = View()
    view.feed(output)
    return view.length


def _at_line(text: str, find: Callable[[str, str], int]) -> str:
    """Cut a beginning after its last line, or an end before its first, unless that were to take much of it."""
    at = find(text, "\n")
    if find is str.rfind:
        return text[: at + 1] if at >= len(text) // 2 else text
    return text[at + 1 :] if 0 <= at <= len(text) // 2 else text
