"""An execution's output as a notebook has it (nbformat 4.5, "Code cell outputs"), bounded as its text is."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from .rendering import DISPLAY, DISPLAYS, ERROR, STREAM, Output, Outputs, decode

INLINE = 16_384
"""The longest value, in bytes of JSON, that is part of a reply; what is longer is referred to."""
LEFT_OUT = "\n… output left out (seq {from_seq} to {to_seq}; get_async_log has it) …\n"


class Limits(NamedTuple):
    """How much of an execution's output is shown."""

    characters: int
    inline: int = INLINE
    """The longest value of a display, in bytes of JSON."""
    display_cost: float = 1.0
    """What a byte of a display takes of ``characters``: an image is long, and is seen at a glance."""
    left_out: str = LEFT_OUT
    """What stands in place of the rest; it may name ``from_seq`` and ``to_seq``."""


class Cell:
    """Outputs that grow by messages. Streams of one name in a row are one output."""

    def __init__(self, *, inline: int | None = INLINE) -> None:
        self.outputs: list[dict[str, Any]] = []
        self._inline = inline
        self._places: dict[str, list[int]] = {}
        self._stream: list[str] = []

    def feed(self, output: Output) -> None:
        if output.msg_type == "stream":
            stream = decode(STREAM, output.content)
            self.print(stream.name, stream.text)
        elif output.msg_type in DISPLAYS:
            self._show(output)
        elif output.msg_type == "error":
            error = decode(ERROR, output.content)
            self.outputs.append(
                {
                    "output_type": "error",
                    "ename": error.ename,
                    "evalue": error.evalue,
                    "traceback": error.traceback,
                }
            )

    def print(self, name: str, text: str) -> None:
        last = self.outputs[-1] if self.outputs else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"].append(text)
        else:
            self.outputs.append({"output_type": "stream", "name": name, "text": [text]})

    def _show(self, output: Output) -> None:
        display = decode(DISPLAY, output.content)
        data: dict[str, Any] = {}
        metadata = dict(display.metadata)
        references = {}
        for mime, value in display.data.items():
            size = len(bytes(value))
            if self._inline is not None and size > self._inline and mime != "text/plain":
                references[mime] = {"seq": output.seq, "bytes": size}
            else:
                data[mime] = msgspec.json.decode(value)
        if references:
            metadata["broker"] = {"references": references}
            data.setdefault("text/plain", " ".join(f"[{m}, {r['bytes']:,} bytes]" for m, r in references.items()))
        shown: dict[str, Any] = {"output_type": "display_data", "data": data, "metadata": metadata}
        id = display.transient.display_id
        if output.msg_type == "update_display_data":
            for place in self._places.get(id or "", ()):
                self.outputs[place].update(data=data, metadata=metadata)
            return
        if output.msg_type == "execute_result":
            shown = {**shown, "output_type": "execute_result", "execution_count": display.execution_count}
        if id:
            self._places.setdefault(id, []).append(len(self.outputs))
        self.outputs.append(shown)

    def finished(self) -> list[dict[str, Any]]:
        """The outputs, streams joined."""
        for output in self.outputs:
            if output["output_type"] == "stream" and isinstance(output["text"], list):
                output["text"] = "".join(output["text"])
        return self.outputs


def join(outputs: Outputs, limits: Limits) -> list[dict[str, Any]]:
    """The outputs; where they have more characters than about the limit, those of the middle are left out."""
    budget = limits.characters // 2
    head: list[Output] = []
    size = 0
    for output in outputs.forward():
        head.append(output)
        size += _size(output, limits)
        if size > limits.characters:
            break
    else:
        return _cell(head, limits).finished()
    cell = Cell(inline=limits.inline)
    left = budget
    for output in head:
        if _size(output, limits) > left:
            from_seq = output.seq
            _feed_part(cell, output, slice(None, left))
            break
        cell.feed(output)
        left -= _size(output, limits)
    tail: list[Output] = []
    left = budget
    for output in outputs.backward():
        if output.seq < from_seq:
            break
        tail.append(output)
        left -= _size(output, limits)
        if left <= 0:
            break
    cell.print("stdout", limits.left_out.format(from_seq=from_seq, to_seq=tail[-1].seq))
    first = tail.pop()
    _feed_part(
        cell, first, slice(max(0, _size(first, limits) - (budget - sum(_size(each, limits) for each in tail))), None)
    )
    for output in reversed(tail):
        cell.feed(output)
    return cell.finished()


def _cell(outputs: list[Output], limits: Limits) -> Cell:
    cell = Cell(inline=limits.inline)
    for output in outputs:
        cell.feed(output)
    return cell


def _feed_part(cell: Cell, output: Output, part: slice) -> None:
    """A piece of a text. Of anything else there are no pieces."""
    if output.msg_type == "stream":
        stream = decode(STREAM, output.content)
        cell.print(stream.name, stream.text[part])


def _size(output: Output, limits: Limits) -> int:
    """What an output takes of a reply, in characters."""
    if output.msg_type == "stream":
        return len(decode(STREAM, output.content).text)
    if output.msg_type in DISPLAYS:
        sizes = (len(bytes(value)) for value in decode(DISPLAY, output.content).data.values())
        return int(limits.display_cost * sum(size for size in sizes if size <= limits.inline))
    return len(output.content)
