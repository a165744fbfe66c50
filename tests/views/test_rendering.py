from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.views.rendering import Rendered, last_clear, render

from .source import IMAGE, Source, display, error, outputs, stream


def text_of(*messages: tuple[str, dict[str, object]], max_output: int = 24_000) -> str:
    rendered = render(Source(outputs(*messages)), max_output)
    assert rendered.truncated is None
    return rendered.text


def test_stdout_and_stderr_are_read_in_the_order_they_came() -> None:
    assert text_of(stream("a\n"), stream("b\n", "stderr"), stream("c\n")) == "a\nb\nc\n"


def test_a_result_stands_on_a_line_of_its_own() -> None:
    assert text_of(stream("no newline"), display({"text/plain": "2"}, kind="execute_result")) == "no newline\n2\n"


def test_a_megabyte_of_image_is_a_line() -> None:
    assert text_of(display({"image/png": IMAGE, "text/plain": "<Figure>"})) == "<Figure>\n"
    alone = text_of(display({"image/png": IMAGE}))
    assert alone == f"[image/png, {len(IMAGE) + 2:,} bytes]\n"


def test_html_is_its_plain_text() -> None:
    assert text_of(display({"text/html": "<b>x</b>", "text/plain": "x"})) == "x\n"


def test_a_display_is_updated_in_place_wherever_it_stands() -> None:
    first = display({"text/plain": "0%"}, id="bar")
    update = display({"text/plain": "100%"}, id="bar", kind="update_display_data")
    assert text_of(first, stream("between\n"), first, update) == "100%\nbetween\n100%\n"


def test_a_traceback_is_without_colours() -> None:
    assert text_of(error("\x1b[31mTraceback\x1b[39m", "ValueError: no")) == "Traceback\nValueError: no\n"


def test_a_progress_bar_is_its_last_state() -> None:
    frames = [stream(f"\r{n:3d}%|{'#' * n}", "stderr") for n in range(101)]
    assert text_of(*frames) == f"100%|{'#' * 100}"


def test_a_progress_bar_of_megabytes_is_its_last_state_too() -> None:
    frames = [stream(f"\r{n:6d} {'#' * 500}", "stderr") for n in range(10_000)]
    assert text_of(*frames, stream("\ndone\n")) == f"  9999 {'#' * 500}\ndone\n"


def test_a_clear_takes_effect_at_once_or_with_the_next_output() -> None:
    now, later = ("clear_output", {"wait": False}), ("clear_output", {"wait": True})
    assert last_clear(reversed(outputs(stream("a"), now))) == 2
    assert last_clear(reversed(outputs(stream("a"), later))) == 0
    assert last_clear(reversed(outputs(stream("a"), later, stream("b")))) == 2
    assert last_clear(reversed(outputs(now, stream("a"), later))) == 1
    assert last_clear(reversed(outputs(stream("a")))) == 0


def lines(count: int, width: int = 100) -> list[tuple[str, dict[str, object]]]:
    return [stream(f"{n:0{width}d}\n") for n in range(count)]


def test_the_middle_of_much_is_left_out_with_a_marker_that_says_where_it_is() -> None:
    source = Source(outputs(*lines(5000)))
    rendered = render(source, 24_000)
    assert len(rendered.text) <= 24_000
    head, _, tail = rendered.text.partition("\n… ")
    note, _, tail = tail.partition(" …\n")
    whole = "".join(f"{n:0100d}\n" for n in range(5000))
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) > 10_000
    assert len(tail) > 10_000
    cut = rendered.truncated
    assert cut is not None
    assert cut.omitted_characters == len(whole) - len(head) - len(tail)
    assert f"{cut.omitted_characters:,} characters" in note
    # What is left out is in the events that are named, and in no other.
    assert whole[len(head) : len(whole) - len(tail)] in "".join(
        f"{n:0100d}\n" for n in range(cut.from_seq - 1, cut.to_seq)
    )


def test_fifty_megabytes_are_not_read_to_show_a_page() -> None:
    chunk = stream(("x" * 99 + "\n") * 1000)
    source = Source(outputs(*[chunk] * 500))
    render(source, 24_000)
    assert source.read < 10


def test_one_line_of_megabytes_is_cut_within() -> None:
    rendered = render(Source(outputs(*[stream("x" * 100_000)] * 20)), 1000)
    assert 600 < len(rendered.text) <= 1000
    assert rendered.truncated is not None


MESSAGES = st.one_of(
    st.text("ab \n\r", max_size=60).map(stream),
    st.text("cd\n", max_size=60).map(lambda text: display({"text/plain": text})),
    st.just(error("trace", "back")),
)


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=60), st.integers(200, 1000))
def test_a_text_is_whole_or_within_its_limit(messages: list[tuple[str, dict[str, object]]], limit: int) -> None:
    whole: Rendered = render(Source(outputs(*messages)), 10**6)
    assert whole.truncated is None
    rendered = render(Source(outputs(*messages)), limit)
    assert len(rendered.text) <= limit
    assert (rendered.truncated is None) == (len(whole.text) <= limit)
    if rendered.truncated is None:
        assert rendered.text == whole.text


def test_an_update_of_what_came_before_the_cursor_is_shown_by_itself() -> None:
    update = display({"text/plain": "50%"}, id="bar", kind="update_display_data")
    again = display({"text/plain": "60%"}, id="bar", kind="update_display_data")
    assert render(Source(outputs(update, again)), 1000, partial=True).text == "60%\n"
    assert render(Source(outputs(update, again)), 1000).text == ""


def test_content_that_is_not_as_the_spec_has_it_shows_nothing_and_breaks_nothing() -> None:
    strange: list[tuple[str, dict[str, object]]] = [
        ("stream", {"text": 5}),
        ("display_data", {"data": "x"}),
        ("error", {"traceback": "no list"}),
        ("clear_output", {"wait": "yes"}),
        ("comm_msg", {"data": {}}),
    ]
    assert text_of(*strange, stream("well\n")) == "well\n"
    assert last_clear(reversed(outputs(*strange))) == 4
