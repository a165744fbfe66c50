"""How an execution looks to a model, and that it fits."""

from __future__ import annotations

import base64
import json
import random
import string
import struct
from typing import Any

import pytest

from broker.client import Event, Execution, InputRequest, Truncated
from broker.mcp import tools


def execution(text: str = "", state: str = "completed", **fields: Any) -> Execution:
    return Execution(execution_id="e", state=state, text=text, **fields)


def size(result: Any) -> int:
    """The tokens of all that a client could show of it."""
    shown = "".join(block.text for block in result.content if block.type == "text")
    return tools.tokens(shown) + tools.tokens(json.dumps(result.structured_content, ensure_ascii=False))


def png(width: int, height: int) -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\0" * 20).decode()


RANDOM = random.Random(1)
LONG = {
    "prose": "the quick brown fox jumps over the lazy dog\n" * 5000,
    "numbers": "".join(f"{RANDOM.random()} " for _ in range(20_000)),
    "base64": "".join(RANDOM.choices(string.ascii_letters + string.digits + "+/", k=200_000)),
    "chinese": "今天天气很好我们去公园散步" * 10_000,
    "emoji": "🎉🚀" * 20_000,
    "signs": "=-" * 50_000,
    "escaped": '"\\\n' * 50_000,
    "one line": "x" * 1_000_000,
    "binary": "".join(map(chr, range(32))) * 5000,
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("budget", [tools.BUDGET, 2000, 40_000])
def test_a_result_fits_its_budget_whatever_was_printed(kind: str, budget: int) -> None:
    printed = LONG[kind]
    result = tools.result(execution(printed), budget=budget)
    assert size(result) <= budget
    assert size(result) >= min(budget / 2, size(tools.result(execution(printed[:100]))))
    shown = result.structured_content["text"]
    assert shown[:20] == printed[:20]
    assert shown[-20:] == printed[-20:]
    omitted = result.structured_content.get("omitted_characters", 0)
    assert (omitted == 0) == (shown == printed)


def test_what_the_broker_left_out_is_said_with_what_reads_it() -> None:
    marked = "head\n… 9 characters left out (seq 5 to 8; get_async_log has them) …\ntail"
    gone = Truncated(omitted_characters=9, from_seq=5, to_seq=8)
    result = tools.result(execution(marked, truncated=gone))
    assert "read(execution_id='e', after=4, whole=true) has them" in result.content[0].text
    assert "get_async_log" not in result.content[0].text
    assert result.structured_content["omitted_characters"] == 9


def test_the_last_images_are_shown_and_of_the_others_it_is_said_that_there_are_some() -> None:
    shown = [tools.Picture("image/png", png(1200, 1000)) for _ in range(9)]
    result = tools.result(execution("text"), images=shown)
    images = [block for block in result.content if block.type == "image"]
    assert 0 < len(images) < 9
    assert sum(image.tokens for image in shown[: len(images)]) < tools.BUDGET
    assert f"{9 - len(images)} images left out" in result.content[0].text


def test_an_image_that_clients_would_refuse_is_left_out() -> None:
    result = tools.result(execution("text"), images=[tools.Picture("image/png", "A" * (tools.LARGEST_IMAGE + 1))])
    assert [block.type for block in result.content] == ["text"]
    assert "1 images left out" in result.content[0].text


def test_a_figure_in_several_formats_is_one_image() -> None:
    figure = {"output_type": "display_data", "data": {"image/png": "AA", "image/jpeg": "BB", "text/plain": "<Figure>"}}
    large = {
        "output_type": "display_data",
        "data": {},
        "metadata": {"broker": {"references": {"image/png": {"seq": 7, "bytes": 99_999}}}},
    }
    assert tools.pictures([figure, large]) == [tools.Picture("image/png", "AA"), tools.Picture("image/png", None, 7)]


@pytest.mark.parametrize(
    "prompt", ["Password: ", "API key? ", "Enter your access token", "PIN: ", "passphrase for key", "api_key="]
)
def test_what_looks_like_a_secret_is_one(prompt: str) -> None:
    asked = execution(state="awaiting_input", input_request=InputRequest(prompt=prompt))
    assert tools.is_secret(asked)
    assert "jupyter broker attach e" in tools.next_step(asked)
    assert "input(" not in tools.next_step(asked)


def test_any_other_prompt_is_none() -> None:
    asked = execution(state="awaiting_input", input_request=InputRequest(prompt="Spinning? "), seq=3)
    assert not tools.is_secret(asked)
    assert "input(execution_id='e', text=..., after=3)" in tools.next_step(asked)


def test_every_line_of_a_log_has_its_time_once() -> None:
    def printed(text: str, second: int) -> Event:
        data = {"msg_type": "stream", "content": {"name": "stdout", "text": text}}
        return Event(second, second, "e", "s", f"2026-01-01T00:00:0{second}.123456Z", "output", data)

    log = "".join(tools.timed([printed("a", 1), printed("b\nc", 2), printed("\n", 3), printed("d\n\ne\n", 4)]))
    assert log == (
        "[2026-01-01T00:00:01.123Z] ab\n[2026-01-01T00:00:02.123Z] c\n[2026-01-01T00:00:04.123Z] d\n"
        "[2026-01-01T00:00:04.123Z] \n[2026-01-01T00:00:04.123Z] e\n"
    )
