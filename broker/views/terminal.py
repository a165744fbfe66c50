"""What a terminal shows of a text: carriage returns, cursor movements and erasures carried out, colours left out.

It never breaks a line, and is ``HEIGHT`` rows high: what has scrolled out of its top is settled, for no text that
follows can change it. So a text of any length needs the memory of one screen. How a text is cut before it is fed makes
no difference. Control functions are those of ECMA-48.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

HEIGHT = 100
"""Rows the cursor can go about in, counted up from the lowest."""
WIDTH = 65_536
"""Columns after which an unfinished line goes on as one that can no longer be changed: memory has to end somewhere."""
MARGIN = 1_000
"""The last column that the cursor moves to if there is nothing. Programs look for the edge with ``CSI 999 C``."""
UPDATABLE = 250_000
"""Characters of displays that are kept beyond a limit, because they may still be replaced by less."""

# An escape sequence has a greatest length, so that what is kept of an unfinished one has too.
_PARAMETERS = r"[0-?]{0,64}"
_INTERMEDIATES = r"[ -/]{0,8}"
_ESCAPE = re.compile(
    rf"\x1b\[({_PARAMETERS})({_INTERMEDIATES})([@-~])"  # a control sequence
    rf"|\x1b\[{_PARAMETERS}{_INTERMEDIATES}"  # one that never ends: a terminal drops it too
    r"|\x1b[\]PX^_]"  # the start of a string: OSC, DCS, SOS, PM, APC
    rf"|\x1b(?:{_INTERMEDIATES}[0-~])?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_BEYOND_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNFINISHED = re.compile(rf"\x1b(?:\[{_PARAMETERS}{_INTERMEDIATES}|{_INTERMEDIATES})")
# ECMA-48 ends a string by ST only. The end of a line ends it here too, or a stray byte would swallow all that follows.
_STRING_END = re.compile(r"[\x07\x18\x1a\x9c]|\x1b\\|(?=[\n\x1b])")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_TOO_LONG = re.compile(rf"[^\n]{{{WIDTH + 1}}}")
_STRIP = re.compile(
    r"\x1b[\]PX^_][^\x07\x18\x1a\x9c\n\x1b]*(?:[\x07\x18\x1a\x9c]|\x1b\\)?"
    rf"|\x1b\[{_PARAMETERS}{_INTERMEDIATES}[@-~]?|\x1b{_INTERMEDIATES}[0-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def plain(text: str) -> str:
    """Return ``text`` without escape sequences and control characters, other than tabs and line feeds."""
    return _STRIP.sub("", text)


@dataclass(slots=True, eq=False)
class Piece:
    """Some text, and the marks of the first and the last feed it is from. With a ``display_id``, it may be replaced."""

    text: str
    first: int
    last: int
    display_id: str | None = None
    divisible: ClassVar[bool] = True

    @property
    def weight(self) -> int:
        """What it counts against a limit, in characters."""
        return len(self.text)


P = TypeVar("P", bound=Piece)


class Ends(Generic[P]):
    """Pieces in order, of which the first and the last are kept: more than ``limit`` characters of either.

    What may still be replaced does not count, so whatever becomes of it, nothing is missing that has to be shown.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fixed = self._all = 0
        self._last: deque[tuple[P, int]] = deque()
        self._displays: dict[str | None, list[P]] = {}
        self.first: list[P] = []
        self.full = False
        """``first`` is complete."""
        self.gap: tuple[int, int] | None = None
        """The marks that what was left out between the two is from, None if nothing was."""
        self.left_out = 0
        """How many characters that was."""

    @property
    def last(self) -> list[P]:
        return [piece for piece, _ in self._last]

    def add(self, piece: P) -> None:
        step = max(self._limit, UPDATABLE)
        if piece.divisible and piece.display_id is None and len(piece.text) > 2 * step:
            for start in range(0, len(piece.text), step):  # so that its middle can be let go of
                self.add(replace(piece, text=piece.text[start : start + step]))
            return
        weight = piece.weight
        self._all += weight + 1
        if piece.display_id is None:
            self._fixed += weight
        else:
            self._displays.setdefault(piece.display_id, []).append(piece)
        if not self.full:
            self.first.append(piece)
            if self._fixed > self._limit or self._all > self._limit + UPDATABLE:
                self.leave_out(0)
            return
        self._last.append((piece, weight))
        while True:
            oldest, weight = self._last[0]
            fixed = weight if oldest.display_id is None else 0
            if self._fixed - fixed <= self._limit and self._all - weight - 1 <= self._limit + UPDATABLE:
                return
            self._fixed -= fixed
            self._all -= weight + 1
            self._last.popleft()
            self.leave_out(len(oldest.text), oldest.first, oldest.last)
            if oldest.display_id is not None:
                self._displays[oldest.display_id].remove(oldest)
                if not self._displays[oldest.display_id]:
                    del self._displays[oldest.display_id]

    def leave_out(self, characters: int, *marks: int) -> None:
        """Count what is not kept. What is added from now on comes after it."""
        if not self.full:
            self.full = True
            self._fixed = self._all = 0
        self.left_out += characters
        if marks:
            self.gap = min(*marks, *(self.gap or ())), max(*marks, *(self.gap or ()))

    def displays(self, display_id: str | None) -> Sequence[P]:
        """What is kept of a display."""
        return self._displays.get(display_id, ())


class _Row:
    __slots__ = ("first", "last", "redrawn", "text")

    def __init__(self, mark: int, text: str = "") -> None:
        self.text = text
        self.first = self.last = mark
        self.redrawn = False
        """Something was written over: what is blank at its end was most likely put there to erase."""

    def touch(self, mark: int) -> None:
        if not self.text:
            self.first = mark
            self.redrawn = False
        self.last = mark

    def piece(self, end: str = "") -> Piece:
        text = self.text.rstrip(" ") if self.redrawn else self.text
        return Piece(text + end, self.first, self.last)


class Screen:
    """A terminal that stream text is fed to. What :meth:`settle` took away it shows no more."""

    def __init__(self) -> None:
        self._settled: list[Piece] = []
        self._above: deque[tuple[Piece, int]] = deque()
        """Whole lines above the rows, and how many."""
        self._lines = self._reach = 0
        """How many lines those are together, and how many of them have not scrolled out."""
        self._rows = [_Row(0)]
        """The rows the cursor goes about in, down to the lowest; mostly there is but this one."""
        self._y = self._x = 0
        self._begun = ""
        """The start of an escape sequence whose rest is still to come."""
        self._in_string = False
        self.doubtful_rows = 0
        """How many rows at the top may look different if what was fed is the end of a longer text."""

    def feed(self, text: str, mark: int = 0) -> None:
        """Show ``text``. ``mark`` says where it is from, and never decreases."""
        if self._begun:
            text, self._begun = self._begun + text, ""
        if not self._in_string:
            bare, colours = _COLOURS.subn("", text) if "\x1b" in text else (text, 0)
            self._doubt(min(1, colours))
            # Other sequences mean something only where they stand: then the colours stay there too.
            if colours == text.count("\x1b") and not _BEYOND_LINES.search(bare) and self._append(bare, mark):
                return
        self._interpret(text, mark)

    def settle(self) -> list[Piece]:
        """Take away what no further text can change."""
        while self._above and self._lines - self._above[0][1] >= self._reach:
            piece, lines = self._above.popleft()
            self._lines -= lines
            self._settled.append(piece)
        settled, self._settled = self._settled, []
        return settled

    def pieces(self) -> Iterator[Piece]:
        """All that is shown, in order."""
        yield from self._settled
        for piece, _ in self._above:
            yield piece
        for row in self._rows[:-1]:
            yield row.piece("\n")
        if (last := self._rows[-1].piece()).text:
            yield last

    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces())

    def __len__(self) -> int:
        return sum(len(piece.text) for piece in self.pieces())

    # Writing

    def _append(self, text: str, mark: int) -> bool:
        """Write lines, if they come after all that is there: the way of nearly all text. Returns whether they do."""
        row = self._rows[-1]
        if self._y != len(self._rows) - 1 or self._x != len(row.text):
            return False
        if len(row.text) + len(text) > WIDTH and _TOO_LONG.search(row.text + text):
            return False
        start = 0
        if row.text or len(self._rows) > 1:
            start = text.find("\n") + 1
            self._write(text[: start - 1] if start else text, mark)
            if not start:
                return True
            self._feed_line(mark)
        end = text.rfind("\n") + 1
        if end > start:
            self._push(Piece(text[start:end], mark, mark), text.count("\n", start, end))
        self._rows[0] = _Row(mark, text[max(start, end) :])
        self._x = len(self._rows[0].text)
        return True

    def _write(self, text: str, mark: int) -> None:
        if not text:
            return
        row, x = self._rows[self._y], self._x
        row.touch(mark)
        if x >= len(row.text):
            row.text = row.text.ljust(x) + text
        else:
            row.text = row.text[:x] + text + row.text[x + len(text) :]
            row.redrawn = True
        self._x = x + len(text)
        if len(row.text) > WIDTH:
            self._give_up_start(row, mark)

    def _give_up_start(self, row: _Row, mark: int) -> None:
        """Settle the start of a row that is too long, with all above it."""
        self._settled.extend(piece for piece, _ in self._above)
        self._above.clear()
        self._lines = self._reach = 0
        self._settled.extend(upper.piece("\n") for upper in self._rows[: self._y])
        del self._rows[: self._y]
        self._y = 0
        cut = (len(row.text) - 1) // WIDTH * WIDTH
        self._settled.append(Piece(row.text[:cut], row.first, row.last))
        row.text = row.text[cut:]
        row.first = mark
        self._x -= cut

    def _push(self, piece: Piece, lines: int) -> None:
        self._above.append((piece, lines))
        self._lines += lines
        self._reach = min(self._reach + lines, HEIGHT - 1)

    def _feed_line(self, mark: int) -> None:
        self._x = 0
        if self._y < len(self._rows) - 1:
            self._y += 1
            return
        self._rows[-1].touch(mark)
        for row in self._rows:
            self._push(row.piece("\n"), 1)
        self._rows = [_Row(mark)]
        self._y = 0

    # Control functions

    def _interpret(self, text: str, mark: int) -> None:
        escape = text.rfind("\x1b", max(0, len(text) - 80))
        if escape >= 0 and _UNFINISHED.fullmatch(text, escape):
            text, self._begun = text[:escape], text[escape:]
        position = 0
        while position < len(text):
            if self._in_string:
                end = _STRING_END.search(text, position)
                if end is None:
                    return
                self._in_string = False
                position = end.end()
                continue
            found = _CONTROL.search(text, position)
            if found is None:
                self._write(text[position:], mark)
                return
            start = found.start()
            if start > position:
                self._write(text[position:start], mark)
            position = start + 1
            match text[start]:
                case "\r":
                    self._x = 0
                    self._doubt(1)
                case "\n":
                    self._feed_line(mark)
                case "\x1b":
                    position = self._escape(text, start, mark)
                case "\b":
                    self._x = max(0, self._x - 1)
                    self._doubt(1)

    def _escape(self, text: str, start: int, mark: int) -> int:
        """Carry out an escape sequence. Returns where it ends."""
        found = _ESCAPE.match(text, start)
        assert found is not None, "the escape character alone matches"
        parameters, intermediates, function = found.groups()
        if function is None:
            self._in_string = found[0][1:] in ("]", "P", "X", "^", "_")
        elif not intermediates:
            self._control(function, parameters, mark)
        return found.end()

    def _control(self, function: str, parameters: str, mark: int) -> None:
        if parameters and parameters[0] in "<=>?":
            return  # private to some terminal
        numbers = [min(int(number), 10_000) if number.isdigit() else 0 for number in parameters.split(";")]
        n = max(1, numbers[0])
        edge = max(MARGIN, self._x, len(self._rows[self._y].text))
        match function:
            case "A" | "F":  # CUU, CPL
                self._up(n)
            case "B" | "E":  # CUD, CNL
                self._doubt(HEIGHT)
                self._y = min(self._y + n, len(self._rows) - 1)
            case "C":  # CUF
                self._x = min(self._x + n, edge)
            case "D":  # CUB
                self._x = max(0, self._x - n)
            case "G" | "`":  # CHA, HPA
                self._x = min(n - 1, edge)
            case "H" | "f":  # CUP, HVP
                self._up(HEIGHT)
                self._y = min(n, HEIGHT) - 1
                while self._y >= len(self._rows):
                    self._rows.append(_Row(mark))
                self._x = min(max(1, *numbers[1:2]) - 1, MARGIN) if numbers[1:] else 0
            case "J" if numbers[0] in (2, 3):  # ED. Of a screen erased whole no blanks are left: nobody reads them.
                self._up(HEIGHT)
                self._rows = [_Row(mark)]
                self._y = self._x = 0
            case "J" | "K" if numbers[0] <= 2:  # ED, EL
                self._erase_in_line(numbers[0], mark)
                if function == "J" and numbers[0] == 0:
                    del self._rows[self._y + 1 :]
        if function in "EF":
            self._x = 0

    def _up(self, n: int) -> None:
        self._doubt(HEIGHT)
        if n > self._y:
            self._bring_back(min(n - self._y, self._reach))
        self._y = max(0, self._y - n)

    def _bring_back(self, n: int) -> None:
        """Make rows of the last ``n`` lines above."""
        self._reach -= n
        self._lines -= n
        while n:
            piece, lines = self._above.pop()
            texts = piece.text[:-1].rsplit("\n", n)
            if lines > n:
                self._above.append((Piece(texts.pop(0) + "\n", piece.first, piece.last), lines - n))
            rows = [_Row(piece.first, text) for text in texts]
            for row in rows:
                row.last = piece.last
            self._rows[:0] = rows
            self._y += len(rows)
            n -= len(rows)

    def _erase_in_line(self, how: int, mark: int) -> None:
        row, x = self._rows[self._y], self._x
        self._doubt(1)
        row.touch(mark)
        if how == 0:
            row.text = row.text[:x]
        elif how == 1:
            row.text = " " * min(x + 1, len(row.text)) + row.text[x + 1 :]
            row.redrawn = True
        elif how == 2:
            row.text = ""

    def _doubt(self, rows: int) -> None:
        if rows > self.doubtful_rows:  # noqa: PLR1730 - faster than max(), and this is done a lot
            self.doubtful_rows = rows
