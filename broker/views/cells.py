"""An execution's output as a notebook has it (nbformat 4.5, "Code cell outputs"), bounded as its text is."""

from __future__ import annotations

from typing import Any

import msgspec

from .rendering import DISPLAY, DISPLAYS, ERROR, STREAM, Output, Outputs, decode

INLINE = 16_384
"""The longest value, in bytes of JSON, that is part of a reply; what is longer is referred to."""
LEFT_OUT = "\n… output left out (seq {from_seq} to {to_seq}; get_async_log has it) …\n"


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


def join(outputs: Outputs, max_output: int) -> list[dict[str, Any]]:
    """The outputs; where they have more than about ``max_output`` characters, those of the middle are left out."""
    budget = max_output // 2
    head: list[Output] = []
    size = 0
    for output in outputs.forward():
        head.append(output)
        size += _size(output)
        if size > max_output:
            break
    else:
        return _cell(head).finished()
    cell = Cell()
    left = budget
    for output in head:
        if _size(output) > left:
            from_seq = output.seq
            _feed_part(cell, output, slice(None, left))
            break
        cell.feed(output)
        left -= _size(output)
    tail: list[Output] = []
    left = budget
    for output in outputs.backward():
        if output.seq < from_seq:
            break
        tail.append(output)
        left -= _size(output)
        if left <= 0:
            break
    cell.print("stdout", LEFT_OUT.format(from_seq=from_seq, to_seq=tail[-1].seq))
    first = tail.pop()
    _feed_part(cell, first, slice(max(0, _size(first) - (budget - sum(map(_size, tail)))), None))
    for output in reversed(tail):
        cell.feed(output)
    return cell.finished()


def _cell(outputs: list[Output]) -> Cell:
    cell = Cell()
    for output in outputs:
        cell.feed(output)
    return cell


def _feed_part(cell: Cell, output: Output, part: slice) -> None:
    """A piece of a text. Of anything else there are no pieces."""
    if output.msg_type == "stream":
        stream = decode(STREAM, output.content)
        cell.print(stream.name, stream.text[part])


def _size(output: Output) -> int:
    """What an output takes of a reply, in characters."""
    if output.msg_type == "stream":
        return len(decode(STREAM, output.content).text)
    if output.msg_type in DISPLAYS:
        sizes = (len(bytes(value)) for value in decode(DISPLAY, output.content).data.values())
        return sum(size for size in sizes if size <= INLINE)
    return len(output.content)
