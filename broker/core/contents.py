"""What a session must know of a message's content. What is not as the messaging spec has it says nothing here."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class _Stream(msgspec.Struct):
    text: str = ""


class Input(msgspec.Struct):
    """What an ``execute_input`` says. What it does not say as it should is left out."""

    code: str = ""
    execution_count: int | None = None


_stream = msgspec.json.Decoder(_Stream)
_input = msgspec.json.Decoder(Input)
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


def executed(content: bytes) -> Input:
    """What an ``execute_input`` says."""
    return _decode(_input, content) or Input()


def raised(content: bytes) -> dict[str, Any] | None:
    """What an ``error`` says."""
    return _decode(_error, content)
