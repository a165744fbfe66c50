"""Outputs in memory, which count how many of them were read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from broker.views.rendering import STREAM, Output, decode


class Source:
    """See :class:`broker.views.rendering.Outputs`."""

    def __init__(self, outputs: list[Output]) -> None:
        self.outputs = outputs
        self.read = 0

    def forward(self) -> Iterator[Output]:
        for output in self.outputs:
            self.read += 1
            yield output

    def backward(self) -> Iterator[Output]:
        for output in reversed(self.outputs):
            self.read += 1
            yield output

    def characters(self) -> int:
        return sum(len(decode(STREAM, o.content).text) for o in self.outputs if o.msg_type == "stream")


def outputs(*messages: tuple[str, dict[str, Any]]) -> list[Output]:
    return [Output(seq, kind, json.dumps(content).encode()) for seq, (kind, content) in enumerate(messages, 1)]


def stream(text: str, name: str = "stdout") -> tuple[str, dict[str, Any]]:
    return "stream", {"name": name, "text": text}


def display(
    data: dict[str, Any], *, id: str | None = None, kind: str = "display_data", **more: Any
) -> tuple[str, dict[str, Any]]:
    return kind, {"data": data, "metadata": {}, "transient": {"display_id": id} if id else {}, **more}


def error(*traceback: str) -> tuple[str, dict[str, Any]]:
    return "error", {"ename": "E", "evalue": "v", "traceback": list(traceback)}


IMAGE = "iVBORw0KGgo" * 100_000
