"""An execution's outputs as a notebook has them (nbformat 4.5), no larger than a reply should be.

The text of streams is as it was printed. Of long outputs the middle is left out, as :mod:`.text` does it; a value that
is large and no plain text is left out of its bundle, and ``metadata.broker.references`` says where it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import msgspec

from .terminal import Piece
from .text import (
    DEFAULT_MAX_OUTPUT,
    Fact,
    Kind,
    Output,
    Outputs,
    Truncated,
    View,
    decode_bundle,
    decode_error,
    decode_stream,
    fill,
    head_of,
    kind_of,
    marker,
    mime_text,
    tail_of,
)

INLINE_LIMIT = 16_384
"""Bytes of JSON up to which a value other than plain text is part of a reply."""
INLINE_TOTAL = 16
"""How many times that limit all such values of a reply may take together."""
OVERHEAD = 100
"""Characters that a display counts besides its plain text."""
PLAIN = "text/plain"
_ANY_JSON = re.compile(r"application/(.*\+)?json")
Json = dict[str, Any]


# clear_output


class Shown(msgspec.Struct, frozen=True):
    """Where what is shown of an execution begins; to be folded over its outputs as they come.

    ``after`` is the seq of the last clear_output that took effect, 0 if none did: nothing up to it is shown. One with
    ``wait`` takes effect when a stream, display_data, execute_result or error follows; until then it is ``pending``.
    Any number that increases from 1 will do in the place of seq, such as an event's ``n``.
    """

    after: int = 0
    pending: int = 0

    def fold(self, output: Output) -> Shown:
        """What holds after one more output. Looks into the content of clear_output alone."""
        match kind_of(output):
            case "clear":
                return Shown(output.seq)
            case "clear_next":
                return Shown(self.after, output.seq)
            case "stream" | "display" if self.pending:
                return Shown(self.pending)
        return self


def last_clear(backward: Iterable[Output]) -> int:
    """``Shown.after`` of an execution, found by reading its outputs from the last back to that clear_output."""
    followed = False
    for output in backward:
        kind = kind_of(output)
        if kind == "clear" or (kind == "clear_next" and followed):
            return output.seq
        followed = followed or kind in ("stream", "display")
    return 0


# Outputs


class _Value(NamedTuple):
    """A value of a bundle: its JSON, None if that is too large, and the size of it in bytes."""

    json: bytes | None
    size: int


class _Body(NamedTuple):
    """What a display has besides its plain text; ``seq`` is the output's that it is from."""

    seq: int
    output: Json
    values: dict[str, _Value]


NO_BODY = _Body(0, {}, {})


@dataclass(slots=True, eq=False)
class _Stream(Piece):
    name: str = "stdout"


@dataclass(slots=True, eq=False)
class _Display(Piece):
    """``text`` is its plain text, or the traceback of an error."""

    divisible: ClassVar[bool] = False
    body: _Body = NO_BODY

    @property
    def weight(self) -> int:
        return len(self.text) + OVERHEAD


class _OutputsView(View[Piece]):
    def __init__(self, limit: int, inline_limit: int | None, *, partial: bool) -> None:
        self._inline_limit = inline_limit
        super().__init__(limit, partial=partial)

    def _read(self, output: Output, kind: Kind) -> Fact:
        if kind == "stream":
            stream = decode_stream(output.content)
            return Fact(output.seq, kind, stream.text, None, stream.name)
        if output.msg_type == "error":
            error = decode_error(output.content)
            shown: Json = {"output_type": "error", "ename": error.ename, "evalue": error.evalue[: self.limit]}
            return Fact(output.seq, kind, "\n".join(error.traceback), None, _Body(output.seq, shown, {}))
        bundle = decode_bundle(output.content)
        shown = {"output_type": "display_data", "metadata": bundle.metadata or {}}
        if output.msg_type == "execute_result":
            shown = {**shown, "output_type": "execute_result", "execution_count": bundle.execution_count}
        text = mime_text(bundle.data[PLAIN]) if PLAIN in bundle.data else ""
        values = {mime: self._value(mime, value) for mime, value in bundle.data.items()}
        held = OVERHEAD + sum(len(value.json or b"") for value in values.values())
        return Fact(output.seq, kind, text, bundle.display_id, _Body(output.seq, shown, values), held)

    def _value(self, mime: str, value: msgspec.Raw) -> _Value:
        fits = self._inline_limit is None or len(value) <= self._inline_limit
        return _Value(bytes(value) if fits and mime != PLAIN else None, len(value))

    def _show(self, fact: Fact) -> None:
        if fact.kind == "stream":
            if fact.text:
                self.ends.add(_Stream(fact.text, fact.seq, fact.seq, name=fact.body))
        elif fact.body is not None:
            self.ends.add(_Display(fact.text, fact.seq, fact.seq, fact.display_id, fact.body))

    def _update(self, piece: Piece, fact: Fact) -> None:
        assert isinstance(piece, _Display)
        piece.text, piece.last = fact.text, fact.seq
        # An update of a result leaves it a result, as Jupyter's clients do.
        kept = {name: value for name, value in piece.body.output.items() if name != "metadata"}
        piece.body = fact.body._replace(output={**kept, "metadata": fact.body.output["metadata"]})

    def enough(self, facts: Sequence[Fact]) -> bool:
        trial = _OutputsView(sys.maxsize, self._inline_limit, partial=self.partial)
        for fact in facts:
            trial.apply(fact)
        return sum(piece.weight for piece in trial.ends.first) > self.limit // 2


def join(
    source: Outputs | Iterable[Output],
    max_output: int = DEFAULT_MAX_OUTPUT,
    inline_limit: int | None = INLINE_LIMIT,
    *,
    partial: bool = False,
) -> list[Json]:
    """The outputs as nbformat has them, streams joined, updates applied, cleared outputs left out.

    All plain text, streams and tracebacks of it have ``max_output`` characters at most, with a marker where some were
    left out; each display counts :data:`OVERHEAD` more. ``inline_limit`` is in bytes; None has every value inline.
    ``partial`` as in :func:`.text.render`.
    """
    ends = fill(lambda: _OutputsView(max_output, inline_limit, partial=partial), source).ends
    first, last = ends.first, ends.last
    pieces = [*first, *last]
    if ends.gap is not None or sum(piece.weight for piece in pieces) > max_output:
        gap = Truncated(ends.left_out, *ends.gap) if ends.gap else None
        pieces = _cut(first if gap else pieces, last if gap else [], gap, max_output)
    return _as_nbformat(pieces, None if inline_limit is None else INLINE_TOTAL * inline_limit)


def _cut(first: list[Piece], last: list[Piece], gap: Truncated | None, max_output: int) -> list[Piece]:
    """The pieces with what is in their middle left out: of ``first`` alone, or what is between it and ``last`` too."""
    pieces = first + last
    characters = sum(len(piece.text) for piece in pieces) + (gap.omitted_characters if gap else 0)
    newest = max(*(piece.last for piece in pieces), gap.to_seq if gap else 0)
    room = max(0, max_output - len(marker(Truncated(characters, newest, newest))) - 2)
    if len(pieces) == 1 and isinstance(pieces[0], _Display):
        return [replace(pieces[0], text=_shorten(pieces[0], max_output))]
    head: list[Piece] = []
    tail: list[Piece] = []
    # What the head takes of a piece, the tail cannot take; and beyond the gap it must not go.
    rest = list(first)
    left = _take(rest, head, room // 2, 0)
    others = last if gap else rest
    _take(others, tail, room - room // 2 + left, -1)
    if not (rest or gap):
        return head + tail[::-1]
    omitted = [*rest, *(others if gap else [])]
    seqs = [seq for piece in omitted for seq in (piece.first, piece.last)] + ([gap.from_seq, gap.to_seq] if gap else [])
    count = sum(len(piece.text) for piece in omitted) + (gap.omitted_characters if gap else 0)
    name = next((piece.name for piece in (*head[-1:], *tail[-1:]) if isinstance(piece, _Stream)), "stdout")
    before = "\n" if head and isinstance(head[-1], _Stream) and not head[-1].text.endswith("\n") else ""
    note = _Stream(before + marker(Truncated(count, min(seqs), max(seqs))), min(seqs), max(seqs), name=name)
    return [*head, note, *reversed(tail)]


def _take(rest: list[Piece], taken: list[Piece], room: int, end: int) -> int:
    """Move pieces from an end of ``rest`` to ``taken`` while there is room. Returns the room that is left.

    Of a stream that is too long a part is taken; a display that is too long loses its middle.
    """
    while rest and rest[end].weight <= room:
        room -= rest[end].weight
        taken.append(rest.pop(end))
    if rest and isinstance(rest[end], _Stream):
        text = rest[end].text
        part = head_of([text], room) if end == 0 else tail_of([text], room)
        left = text[len(part) :] if end == 0 else text[: len(text) - len(part)]
        if part:
            taken.append(replace(rest[end], text=part))
            rest[end] = replace(rest[end], text=left)
        return 0
    if rest and room > 4 * OVERHEAD:
        piece = rest.pop(end)
        taken.append(replace(piece, text=_shorten(piece, room - OVERHEAD)))
        return 0
    return room


def _shorten(piece: Piece, room: int) -> str:
    """The text of a display without its middle."""
    note = marker(Truncated(len(piece.text), piece.last, piece.last))
    half = max(0, (room - len(note) - 1) // 2)
    head, tail = head_of([piece.text], half), tail_of([piece.text], half)
    note = marker(Truncated(len(piece.text) - len(head) - len(tail), piece.first, piece.last))
    return head + ("" if head.endswith("\n") else "\n") + note + tail


def _as_nbformat(pieces: Iterable[Piece], inline: int | None) -> list[Json]:
    """``inline``: the bytes that all values other than plain text may take."""
    outputs: list[Json] = []
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, _Stream):
            if not outputs or outputs[-1].get("name") != piece.name:
                texts = []
                outputs.append({"output_type": "stream", "name": piece.name, "text": texts})
            texts.append(piece.text)
        elif isinstance(piece, _Display):
            output = dict(piece.body.output)
            if output["output_type"] == "error":
                output["traceback"] = piece.text.split("\n") if piece.text else []
            else:
                output["data"], references, inline = _data(piece, inline)
                if references:
                    metadata = output["metadata"]
                    own = metadata.get("broker")
                    own = {**own, "references": references} if isinstance(own, dict) else {"references": references}
                    output["metadata"] = {**metadata, "broker": own}
            outputs.append(output)
    for output in outputs:
        if output["output_type"] == "stream":
            output["text"] = "".join(output["text"])
    return outputs


def _data(piece: _Display, inline: int | None) -> tuple[Json, Json, int | None]:
    """The bundle, the references to what is not in it, and what is left of the bytes for such values."""
    data: Json = {}
    references: Json = {}
    for mime, (json, size) in piece.body.values.items():
        if mime == PLAIN:
            data[mime] = piece.text
        elif json is None or (inline is not None and size > inline):
            references[mime] = {"seq": piece.body.seq, "bytes": size}
        else:
            inline = None if inline is None else inline - size
            value = msgspec.json.decode(json)
            is_text = isinstance(value, str) or (isinstance(value, list) and all(isinstance(s, str) for s in value))
            data[mime] = value if is_text or _ANY_JSON.fullmatch(mime) else json.decode()
    return data, references, inline
