"""The wire format: what a kernel may send, and what becomes of it."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from jupyter_client.session import Session

from broker.kernel.wire import DELIMITER, InvalidMessage, mend, unpack

SESSION = Session(key=b"key", digest_history_size=0)


def frames(
    content: bytes, *, key: bytes = b"key", buffers: list[bytes] | None = None, metadata: bytes = b"{}"
) -> list[bytes]:
    sender = Session(key=key)
    header = sender.msg_header("stream")
    parts = [sender.pack(header), sender.pack({"msg_id": "parent"}), metadata, content]
    return [b"topic", DELIMITER, sender.sign(parts), *parts, *(buffers or [])]


def test_a_message_keeps_its_content_frame_as_it_came() -> None:
    content = b'{"name":  "stdout", "text": "\xc3\xbc\\n"}'
    message = unpack(frames(content), SESSION)
    assert message.content is not None
    assert message.content == content
    assert message.parent_id == "parent"
    assert message.header.msg_type == "stream"
    assert message.extra == {}


def test_a_message_that_is_not_signed_with_the_key_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="signature"):
        unpack(frames(b"{}", key=b"other"), SESSION)


@pytest.mark.parametrize("wrong", [[], [b"a"], [DELIMITER], [DELIMITER, b"", b"", b""]])
def test_what_is_no_message_is_refused(wrong: list[bytes]) -> None:
    with pytest.raises(InvalidMessage):
        unpack(wrong, SESSION)


@pytest.mark.parametrize("sent", [b"{nope", b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"])
def test_of_content_that_no_parser_takes_the_frame_is_kept_as_sent(sent: bytes) -> None:
    message = unpack(frames(sent), SESSION)
    assert message.content == b"{}"
    assert base64.b64decode(message.extra["content_base64"]) == sent


def test_buffers_are_kept() -> None:
    message = unpack(frames(b"{}", buffers=[b"\x00\xff", b""]), SESSION)
    assert message.extra == {"buffers": [base64.b64encode(b"\x00\xff").decode(), ""]}


def test_metadata_are_kept_and_mended() -> None:
    message = unpack(frames(b"{}", metadata=b'{"version": "2\\ud800"}'), SESSION)
    assert msgspec.json.decode(message.extra["metadata"]) == {"version": "2\ufffd"}
    message = unpack(frames(b"{}", metadata=b"no JSON"), SESSION)
    assert bytes(message.extra["metadata"]) == b"{}"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b'{"text": "a\xffb"}', "a\ufffdb"),
        (b'{"text": "a\\ud800b"}', "a\ufffdb"),
        (b'{"text": "\\ud83d\\ude00"}', "\U0001f600"),
        (b'{"text": "\\u0000\\u001b[31m"}', "\x00\x1b[31m"),
    ],
)
def test_content_that_strict_parsers_refuse_is_mended_and_kept_as_sent(sent: bytes, text: str) -> None:
    message = unpack(frames(sent), SESSION)
    assert json.loads(message.content.decode())["text"] == text
    if message.content != sent:
        assert base64.b64decode(message.extra["content_base64"]) == sent


def test_content_that_is_well_is_not_touched() -> None:
    content = b'{"text": "\xf0\x9f\x98\x80 \\u00fc"}'
    assert mend(content) is content
