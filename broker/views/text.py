"""An execution's output as text: what a person would have read in a terminal, in order, and no more than fits.

Of a long output only the two ends are shown, and only they are read: from its start until there is more than fits, then
from its end back. What has no end that could be told without all before it (a progress bar that wrote one line a
million times) is read whole, and never held whole.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from .terminal import Ends, P, Piece, Screen, plain

DEFAULT_MAX_OUTPUT = 24_000
HELD = 4_000_000
"""Characters that may be held while reading back from the end."""
NEAR = 500
"""A cut is moved to the nearest line's end within so many characters, or a quarter of what is shown if that is less."""


class Output(msgspec.Struct, frozen=True):
    """A journalled ``output``. ``content`` is the IOPub message's content, as sent."""

    seq: int
    msg_type: str
    content: bytes


class Outputs(Protocol):
    """The outputs of an execution that are shown: those after the last clear_output that took effect."""

    def forward(self) -> Iterable[Output]:
        """From the first on, read as they are taken."""

    def backward(self) -> Iterable[Output]:
        """From the last back, read as they are taken."""

    def characters(self) -> int:
        """The length of the text of all streams among them. Asked for only where not all are read."""


class Truncated(msgspec.Struct, frozen=True):
    """What a text leaves out: ``get_async_log(after=from_seq - 1)``, read up to ``to_seq``, has all of it.

    ``omitted_characters`` is as shown, or where that was not read as printed, and counts no displays there.
    """

    omitted_characters: int
    from_seq: int
    to_seq: int


class Rendered(NamedTuple):
    text: str
    truncated: Truncated | None


# What messages say


Kind = Literal["stream", "display", "update", "clear", "clear_next"]
"""What an output does to what is shown. ``clear_next`` clears when the next stream or display comes."""


class Fact(NamedTuple):
    """What an output says to one view, without the weight of what that view does not show."""

    seq: int
    kind: Kind
    text: str = ""
    display_id: str | None = None
    body: Any = None
    more: int = 0
    """What it weighs besides its text, in characters."""


class Bundle(msgspec.Struct):
    """The content of display_data, update_display_data and execute_result. Values are not decoded: some are huge."""

    data: dict[str, msgspec.Raw] = {}
    metadata: dict[str, Any] | None = None
    transient: dict[str, Any] | None = None
    execution_count: int | None = None

    @property
    def display_id(self) -> str | None:
        id = (self.transient or {}).get("display_id")
        return None if id is None else str(id)


class StreamContent(msgspec.Struct):
    text: str = ""
    name: str = "stdout"


class ErrorContent(msgspec.Struct):
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = []


_KINDS: dict[str, Kind] = {
    "stream": "stream",
    "display_data": "display",
    "execute_result": "display",
    "error": "display",
    "update_display_data": "update",
    "clear_output": "clear",
}
decode_bundle = msgspec.json.Decoder(Bundle).decode
decode_stream = msgspec.json.Decoder(StreamContent).decode
decode_error = msgspec.json.Decoder(ErrorContent).decode
_decode_text = msgspec.json.Decoder(str | list[str]).decode


def kind_of(output: Output) -> Kind | None:
    """None if it adds nothing to what is shown. Looks into the content of clear_output alone."""
    kind = _KINDS.get(output.msg_type)
    value = msgspec.json.decode(output.content) if kind == "clear" else None
    return "clear_next" if isinstance(value, dict) and value.get("wait") else kind


def mime_text(value: msgspec.Raw) -> str:
    """A value of a bundle as text. One that is no text is its JSON."""
    try:
        return "".join(_decode_text(value))
    except msgspec.DecodeError:
        return bytes(value).decode()


def bundle_text(data: dict[str, msgspec.Raw]) -> str:
    """What a terminal shows of a display: its text/plain, other text that reads well, or what it is and its size."""
    for mime in ("text/plain", "text/markdown", "text/latex", "application/json"):
        if mime in data:
            return plain(mime_text(data[mime]))
    if not data:
        return ""
    mime = min(data, key=lambda mime: (not mime.startswith("image/"), mime != "text/html"))
    if mime.startswith("text/") or mime.endswith(("json", "xml", "javascript")):
        size = len(mime_text(data[mime]).encode())
    else:
        base64 = bytes(data[mime])
        size = (len(base64) - 2 - 2 * base64.count(b"\\n")) * 3 // 4 - base64[-8:].count(b"=")
    return f"[{mime}, {size:,} bytes]"


# Reading


class View(Generic[P]):
    """What is shown, folded from outputs. ``partial``: they begin in mid-execution."""

    def __init__(self, limit: int, *, partial: bool = False) -> None:
        self.limit = limit
        self.partial = partial
        self.reset()

    def reset(self) -> None:
        """Forget all that was shown."""
        self.ends: Ends[P] = Ends(self.limit)
        self._clear_next = False

    def read(self, output: Output) -> Fact | None:
        """What ``output`` says; None if nothing. One that is not as the protocol has it is an output without text."""
        kind = kind_of(output)
        if kind is None or kind in ("clear", "clear_next"):
            return kind and Fact(output.seq, kind)
        try:
            return self._read(output, kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Fact(output.seq, "stream")

    def apply(self, fact: Fact) -> None:
        """Show what an output says."""
        match fact.kind:
            case "clear":
                self.reset()
            case "clear_next":
                self._clear_next = True
            case "update" if displays := self.ends.displays(fact.display_id):
                for display in displays:
                    self._update(display, fact)
            case "update" if not self.partial:
                pass
            case _:
                if self._clear_next:
                    self.reset()
                self._show(fact)

    def skip(self, characters: int, from_seq: int, to_seq: int) -> None:
        """What comes next is from further on."""
        self.close()
        self._clear_next = False
        self.ends.leave_out(characters, from_seq, to_seq)

    def close(self) -> None:
        """Give ``ends`` what was held back."""

    def enough(self, facts: Sequence[Fact]) -> bool:
        """Whether outputs that end with ``facts`` need no more of them to fill their half of what is shown."""
        raise NotImplementedError

    def _read(self, output: Output, kind: Kind) -> Fact:
        raise NotImplementedError

    def _show(self, fact: Fact) -> None:
        raise NotImplementedError

    def _update(self, piece: P, fact: Fact) -> None:
        raise NotImplementedError


V = TypeVar("V", bound=View[Any])


def fill(make: Callable[[], V], source: Outputs | Iterable[Output]) -> V:
    """Read what it takes to fill a view: the two ends of ``source``, or all if it can be read in one direction only."""
    view = make()
    outputs, ends = (source, None) if isinstance(source, Iterable) else (source.forward(), source)
    printed = 0
    for output in outputs:
        if (fact := view.read(output)) is None:
            continue
        view.apply(fact)
        printed += len(fact.text) if fact.kind == "stream" else 0
        if ends is None or not view.ends.full:
            continue
        tail = _read_back(view, ends.backward(), output.seq)
        if tail is None:  # nothing for it but to read on
            ends = None
            continue
        facts, before = tail
        if before == "cleared":
            view = make()
        elif before == "unread":
            printed += sum(len(fact.text) for fact in facts if fact.kind == "stream")
            view.skip(max(0, ends.characters() - printed), output.seq + 1, facts[0].seq - 1)
        for fact in facts:
            view.apply(fact)
        break
    view.close()
    return view


def _read_back(view: View[Any], backward: Iterable[Output], until: int) -> tuple[Sequence[Fact], str] | None:
    """The last outputs, as many as are enough, and what lies before them: outputs that are ``unread``, or that were
    ``read`` as their seq is not above ``until``, or a clear_output (``cleared``). None if it were too much to hold."""
    facts: deque[Fact] = deque()
    characters = 0
    target = view.limit // 2
    followed = False
    for output in backward:
        if output.seq <= until:
            break
        if (fact := view.read(output)) is None:
            continue
        if fact.kind == "clear" or (fact.kind == "clear_next" and followed):
            return facts, "cleared"
        followed = followed or fact.kind in ("stream", "display")
        facts.appendleft(fact)
        characters += len(fact.text) + fact.more
        if characters > target:
            if view.enough(facts):
                return facts, "unread"
            target = 4 * characters
        if characters + 100 * len(facts) > max(HELD, 8 * view.limit):
            return None
    return facts, "read"


# Text


class TextView(View[Piece]):
    """Streams go to one terminal; a display stands on lines of its own, where no cursor comes."""

    def reset(self) -> None:
        super().reset()
        self._screen = Screen()
        self._in_line = False
        self._doubtful_rows: int | None = None

    def _read(self, output: Output, kind: Kind) -> Fact:
        if kind == "stream":
            return Fact(output.seq, kind, decode_stream(output.content).text)
        if output.msg_type == "error":
            error = decode_error(output.content)
            text, id = plain("\n".join(error.traceback) or f"{error.ename}: {error.evalue}"), None
        else:
            bundle = decode_bundle(output.content)
            text, id = bundle_text(bundle.data), bundle.display_id
        return Fact(output.seq, kind, text + "\n" if text and not text.endswith("\n") else text, id)

    def _show(self, fact: Fact) -> None:
        if fact.kind == "stream":
            self._screen.feed(fact.text, fact.seq)
            self._add(self._screen.settle())
        elif fact.text or fact.display_id is not None:
            self.close()
            if self._in_line:
                self._add([Piece("\n", fact.seq, fact.seq)])
            self._add([Piece(fact.text, fact.seq, fact.seq, fact.display_id)])

    def _update(self, piece: Piece, fact: Fact) -> None:
        piece.text, piece.last = fact.text, fact.seq

    def _add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.ends.add(piece)
            if piece.text:
                self._in_line = not piece.text.endswith("\n")

    def close(self) -> None:
        if self._doubtful_rows is None:
            self._doubtful_rows = self._screen.doubtful_rows
        self._add(self._screen.pieces())
        self._screen = Screen()

    def enough(self, facts: Sequence[Fact]) -> bool:
        trial, start = TextView(sys.maxsize, partial=self.partial), 0
        for fact in facts:
            trial.apply(fact)
        trial.close()
        text = "".join(piece.text for piece in trial.ends.first)
        for _ in range(trial._doubtful_rows or 0):
            start = text.find("\n", start) + 1
            if not start:
                return False
        return len(text) - start > self.limit // 2


def render(
    source: Outputs | Iterable[Output], max_output: int = DEFAULT_MAX_OUTPUT, *, partial: bool = False
) -> Rendered:
    """What a person would have read, ``max_output`` characters (200 at least) of it with the marker in its middle.

    It is exact where it fits; but of displays that are updated to be shorter by more than :data:`.terminal.UPDATABLE`
    characters, it may be taken for longer than it is. An update that lies in what is not read is not applied.

    ``partial``: ``source`` begins in mid-execution, so that an update of a display from before is shown as one.
    """
    ends = fill(lambda: TextView(max_output, partial=partial), source).ends
    first, last = ends.first, ends.last
    pieces = [*first, *last]
    total = ends.left_out + sum(len(piece.text) for piece in pieces)
    if total <= max_output and ends.gap is None:
        return Rendered("".join(piece.text for piece in pieces), None)
    newest = max(*(piece.last for piece in pieces), *(ends.gap or ()), 0)
    room = max(0, max_output - len(marker(Truncated(total, newest, newest))) - 1)
    head = head_of((piece.text for piece in (first if ends.gap else pieces)), room // 2)
    tail = tail_of((piece.text for piece in reversed(last if ends.gap else pieces)), room - room // 2)
    left_out = [*_from(reversed([*_from(pieces, len(head))]), len(tail))]
    seqs = [*(ends.gap or ()), *(piece.first for piece in left_out), *(piece.last for piece in left_out)]
    truncated = Truncated(total - len(head) - len(tail), min(seqs), max(seqs))
    line_end = "" if not head or head.endswith("\n") else "\n"
    return Rendered(head + line_end + marker(truncated) + tail, truncated)


def marker(truncated: Truncated) -> str:
    """The line that stands for what was left out."""
    count, from_seq, to_seq = truncated.omitted_characters, truncated.from_seq, truncated.to_seq
    return f"… {count:,} characters left out (seq {from_seq} to {to_seq}; read them with get_async_log) …\n"


def head_of(texts: Iterable[str], room: int) -> str:
    """The start of ``texts``, joined: at most ``room`` characters, up to a line's end if one is near."""
    text = "".join(_enough(texts, room))
    if len(text) <= room:
        return text
    return text[: text.rfind("\n", max(0, room - min(NEAR, room // 4)), room) + 1 or room]


def tail_of(texts: Iterable[str], room: int) -> str:
    """The end of texts that come from the last back, joined: as :func:`head_of`."""
    text = "".join([*_enough(texts, room)][::-1])
    start = len(text) - room
    return text if start <= 0 else text[text.find("\n", start - 1, start + min(NEAR, room // 4)) + 1 or start :]


def _enough(texts: Iterable[str], room: int) -> Iterator[str]:
    """The first texts, up to the one that is too much."""
    for text in texts:
        yield text
        room -= len(text)
        if room < 0:
            return


def _from(pieces: Iterable[Piece], characters: int) -> Iterator[Piece]:
    """The pieces that are not wholly within the first ``characters``."""
    for piece in pieces:
        characters -= len(piece.text)
        if characters < 0:
            yield piece
