from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.views.screen import Screen, plain


def shown(*texts: str) -> str:
    screen = Screen()
    for text in texts:
        screen.feed(text)
    assert screen.length == len(screen.text())
    return screen.text()


@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        ("a\nb\n", "a\nb\n"),
        ("  0%\r 50%\r100%\n", "100%\n"),
        ("long line\rshort\n", "shortline\n"),
        ("long line\r\x1b[Kshort\n", "short\n"),
        ("abc\b\bX\n", "aXc\n"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain", "red plain"),
        ("tab\tstays", "tab\tstays"),
        ("bell\x07 and nul\x00", "bell and nul"),
        ("one: 1\ntwo: 1\n\x1b[2Aone: 2\n\x1b[1Btwo", "one: 2\ntwo: 1\ntwo"),
        ("a\n\x1b[Ab\r", "b\n"),
        ("x\x1b[5Gy", "x   y"),
        ("ab\x1b[1D\x1b[JX", "aX"),
        ("gone\x1b[2K\rhere", "here"),
        ("\r\n windows \r\n", "\n windows \n"),
        ("half a sequence \x1b[3", "half a sequence "),
    ],
)
def test_it_shows_what_a_terminal_shows(printed: str, seen: str) -> None:
    assert shown(printed) == seen


def test_bars_stacked_by_moving_up_overwrite_each_other() -> None:
    frames = [f"a: {n}%\nb: {n}%\n\x1b[2A" for n in (0, 50, 100)]
    assert shown(*frames) == "a: 100%\nb: 100%\n"


PIECES = st.sampled_from(
    ["a", "bc", "\n", "\r", "\b", "\x1b[K", "\x1b[A", "\x1b[31m", "\x1b]0;t\x07", "\x1b[2;3H", "ü"]
)


@given(st.lists(PIECES, max_size=40).map("".join), st.lists(st.integers(0, 80)))
def test_where_the_text_is_cut_makes_no_difference(text: str, cuts: list[int]) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    assert shown(*(text[a:b] for a, b in pairwise(places))) == shown(text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t")))
def test_text_without_controls_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_a_traceback_loses_its_colours_and_nothing_else() -> None:
    assert (
        plain("\x1b[31mZeroDivisionError\x1b[39m: \x1b[38;5;28;01mdivision\x1b[39;00m") == "ZeroDivisionError: division"
    )
