"""What a session must know of a message's content. What is not as the messaging spec has it says nothing here."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class _Stream(msgspec.Struct):
    text: str = ""


class _Input(msgspec.Struct):
    execution_count: int | None = None


_stream = msgspec.json.Decoder(_Stream)
_input = msgspec.json.Decoder(_Input)
_error = msgspec.json.Decoder(dict[str, Any])


def _decode(decoder: msgspec.json.Decoder[T], content: bytes) -> T | None:
    try:
        return decoder.decode(content)
    except msgspec.DecodeError:
        return None


def measure(msg_type: str, content: bytes) -> tuple[int, int]:
    """How many lines an output has, and how large it is: a stream in characters, all else in bytes of its content."""
    if msg_type == "stream" and (stream := _decode(_stream, content)):
        return stream.text.count("\n"), len(stream.text)
    return 0, len(content)


def execution_count(content: bytes) -> int | None:
    """The number that an ``execute_input`` gives."""
    found = _decode(_input, content)
    return found.execution_count if found else None


def raised(content: bytes) -> dict[str, Any] | None:
    """What an ``error`` says."""
    return _decode(_error, content)
