from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from broker.views.cells import INLINE, Limits, join

from .source import IMAGE, Source, display, error, outputs, stream


def joined(*messages: tuple[str, dict[str, Any]], max_output: int = 24_000) -> list[dict[str, Any]]:
    made = join(Source(outputs(*messages)), Limits(max_output))
    cell = new_code_cell(outputs=[nbformat.from_dict(output) for output in made])
    nbformat.validate(new_notebook(cells=[cell]))
    return made


def test_streams_in_a_row_are_one_output_a_name() -> None:
    assert joined(stream("a"), stream("b"), stream("c", "stderr"), stream("d")) == [
        {"output_type": "stream", "name": "stdout", "text": "ab"},
        {"output_type": "stream", "name": "stderr", "text": "c"},
        {"output_type": "stream", "name": "stdout", "text": "d"},
    ]


def test_every_kind_of_output_is_valid_in_a_notebook() -> None:
    made = joined(
        stream("x"),
        display({"text/plain": "2"}, kind="execute_result", execution_count=3),
        display({"text/html": "<b>x</b>", "application/json": {"a": [1]}}),
        error("\x1b[31mTraceback"),
    )
    assert [output["output_type"] for output in made] == ["stream", "execute_result", "display_data", "error"]
    assert made[1]["execution_count"] == 3
    assert made[3]["traceback"] == ["\x1b[31mTraceback"], "colours are kept here"


def test_a_large_image_is_referred_to() -> None:
    (made,) = joined(display({"image/png": IMAGE, "text/plain": "<Figure>"}))
    assert made["data"] == {"text/plain": "<Figure>"}
    assert made["metadata"]["broker"]["references"] == {"image/png": {"seq": 1, "bytes": len(IMAGE) + 2}}


def test_a_small_image_is_there() -> None:
    (made,) = joined(display({"image/png": "aGk="}))
    assert made["data"] == {"image/png": "aGk="}


def test_a_display_is_updated_in_place() -> None:
    made = joined(
        display({"text/plain": "0%"}, id="bar"), display({"text/plain": "9%"}, id="bar", kind="update_display_data")
    )
    assert [output["data"] for output in made] == [{"text/plain": "9%"}]


@pytest.mark.parametrize("chunk", [10, 1000, 100_000])
def test_a_flood_is_cut_in_the_middle(chunk: int) -> None:
    made = joined(*[stream("x" * (chunk - 1) + "\n")] * (1_000_000 // chunk), max_output=10_000)
    size = len(json.dumps(made))
    assert 8000 < size < 12_000
    assert "output left out" in made[0]["text"]


def test_a_result_after_a_flood_is_still_there() -> None:
    made = joined(*[stream("x" * 999 + "\n")] * 1000, display({"text/plain": "2"}, kind="execute_result"))
    assert made[-1]["output_type"] == "execute_result"


def test_many_images_do_not_make_a_reply_large() -> None:
    small = "a" * (INLINE - 10)
    made = joined(*[display({"image/png": small})] * 100)
    assert len(json.dumps(made)) < 3 * 24_000
