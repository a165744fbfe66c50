"""What a terminal would show: carriage returns, backspaces and cursor movements carried out, colours left out.

As wide as need be, and with every line in reach of the cursor. See ECMA-48 for the control sequences.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(
    r"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS and other strings
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")
_LONGEST_SEQUENCE = 4096


def plain(text: str) -> str:
    """The text without colours and other control sequences."""
    return _CONTROL.sub("", text)


class Screen:
    """The lines of a terminal, and its cursor. Text may be cut anywhere between two calls of :meth:`feed`."""

    def __init__(self) -> None:
        self._lines = [""]
        self._row = 0
        self._column = 0
        self._rest = ""
        self.length = 0
        """The length of :meth:`text`, in characters."""

    def text(self) -> str:
        return "\n".join(self._lines)

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        start = text.rfind("\x1b", -_LONGEST_SEQUENCE)
        if start >= 0 and _UNFINISHED.match(text, start):
            text, self._rest = text[:start], text[start:]
        position = 0
        for match in _CONTROL.finditer(text):
            self._write(text[position : match.start()])
            self._obey(match)
            position = match.end()
        self._write(text[position:] if position else text)

    def _write(self, text: str) -> None:
        if not text:
            return
        first, *others = text.split("\n")
        if self._row == len(self._lines) - 1 and self._column == len(self._lines[-1]):
            self._lines[-1] += first
            self._lines += others
            self.length += len(text)
            self._row, self._column = len(self._lines) - 1, len(self._lines[-1])
            return
        self._put(first)
        for other in others:
            self._row, self._column = self._row + 1, 0
            self._put(other)

    def _put(self, text: str) -> None:
        """Write over what stands at the cursor."""
        self._reach(self._row)
        line = self._lines[self._row].ljust(self._column)
        end = self._column + len(text)
        self._set(self._row, line[: self._column] + text + line[end:] if text else self._lines[self._row])
        self._column = end

    def _set(self, row: int, line: str) -> None:
        self.length += len(line) - len(self._lines[row])
        self._lines[row] = line

    def _reach(self, row: int) -> None:
        while row >= len(self._lines):
            self._lines.append("")
            self.length += 1

    def _obey(self, match: re.Match[str]) -> None:
        final = match["final"]
        if final is None:
            if match[0] == "\r":
                self._column = 0
            elif match[0] == "\b":
                self._column = max(0, self._column - 1)
            return
        first = match["parameters"].split(";")[0]
        count = int(first) if first.isdecimal() else 0
        match final:
            case "A":
                self._row = max(0, self._row - max(1, count))
            case "B" | "E":
                self._row += max(1, count)
                self._reach(self._row)
            case "C":
                self._column += max(1, count)
            case "D":
                self._column = max(0, self._column - max(1, count))
            case "F":
                self._row = max(0, self._row - max(1, count))
            case "G":
                self._column = max(1, count) - 1
            case "K":
                self._erase_in_line(count)
            case "J":
                if count == 0:
                    self._erase_in_line(0)
                    for row in range(self._row + 1, len(self._lines)):
                        self._set(row, "")
        if final in "EF":
            self._column = 0

    def _erase_in_line(self, what: int) -> None:
        line = self._lines[self._row]
        match what:
            case 0:
                self._set(self._row, line[: self._column])
            case 1:
                self._set(self._row, " " * min(self._column, len(line)) + line[self._column :])
            case 2:
                self._set(self._row, "")
