"""An execution's events as a terminal shows them: stdout to stdout, stderr and tracebacks to stderr."""

from __future__ import annotations

import os
import re
import shutil
from typing import Any, TextIO

from ..client import Event

ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
ERASE_LINE = "\r\x1b[2K"
ERASE_BELOW = "\x1b[J"


class Renderer:
    """Writes events, each at once. Knows what is on the screen as far as that is its own doing."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._out_is_terminal = out.isatty()
        self._colours = err.isatty() and not os.environ.get("NO_COLOR")
        self._surfaces = {
            stream: "terminal" if stream.isatty() else name for name, stream in (("out", out), ("err", err))
        }
        self._last = dict.fromkeys(self._surfaces.values(), "\n")
        """The last character on each surface: two streams on one terminal share its cursor."""
        self._display: tuple[str, int] | None = None
        """The display that was written last, if nothing was since: its id, and its height in lines."""
        self._clear_before_next = False
        self._error_shown = False

    @property
    def at_line_start(self) -> bool:
        """Whether the terminal's cursor is in the first column."""
        return self._last.get("terminal", "\n") == "\n"

    def show(self, event: Event, *, answered_here: bool = False) -> None:
        """Write what an event has to show. ``answered_here``: an input's reply is on the screen already."""
        data = event.data
        match event.type:
            case "output":
                self._show_output(data.get("msg_type", ""), data.get("content") or {})
            case "input_request":
                self._write(self._err if data.get("password") else self._out, str(data.get("prompt", "")))
            case "input_reply" if not answered_here:
                self._write(self._out, str(data.get("value", "")) + "\n")
            case "execution_started" if data.get("state_was_lost"):
                self.note(f"this is a new kernel, with nothing of the former one's state: {data['state_was_lost']}")
            case "history_cleared":
                self.note("the output stored before this was cleared")
            case "gap":
                self.note(f"output may be missing here: {data.get('reason', 'why, is not known')}")
            case "execution_finished":
                self._show_end(data)

    def note(self, text: str) -> None:
        """Say something on stderr that the code did not print."""
        self._start_line(self._err)
        self._write(self._err, f"[{text}]\n")

    def line_was_ended(self) -> None:
        """Somebody typed, and so moved the cursor to the next line."""
        self._last["terminal"] = "\n"

    def _show_output(self, msg_type: str, content: dict[str, Any]) -> None:
        if msg_type == "clear_output":
            if content.get("wait"):
                self._clear_before_next = True
            else:
                self._clear()
            return
        if self._clear_before_next:
            self._clear()
        match msg_type:
            case "stream":
                stream = self._err if content.get("name") == "stderr" else self._out
                self._write(stream, str(content.get("text", "")))
            case "execute_result" | "display_data":
                self._show_display(content, replace=False)
            case "update_display_data":
                self._show_display(content, replace=True)
            case "error":
                self._show_error(content)

    def _show_display(self, content: dict[str, Any], *, replace: bool) -> None:
        text = (content.get("data") or {}).get("text/plain")
        if text is None:
            return
        text = "".join(text) if isinstance(text, list) else str(text)
        id = (content.get("transient") or {}).get("display_id")
        if replace and self._display is not None and self._display[0] == id:
            self._clear()
        self._start_line(self._out)
        self._write(self._out, text + "\n")
        if id is not None and self._out_is_terminal:
            columns = shutil.get_terminal_size().columns
            self._display = (id, sum(max(1, -(-len(line) // columns)) for line in text.split("\n")))

    def _show_error(self, error: dict[str, Any]) -> None:
        lines = error.get("traceback") or [f"{error.get('ename', 'Error')}: {error.get('evalue', '')}"]
        text = "\n".join(str(line) for line in lines)
        self._start_line(self._err)
        self._write(self._err, (text if self._colours else ANSI.sub("", text)) + "\n")
        self._error_shown = True

    def _show_end(self, data: dict[str, Any]) -> None:
        if (error := data.get("error")) and not self._error_shown:
            self._show_error(error)
        state = data.get("state")
        if state not in ("completed", "failed"):
            why = f": {data['reason']}" if data.get("reason") else ""
            kept = f"; the kernel's state is {data['kernel_state']}" if data.get("kernel_state") else ""
            self.note(f"{state}{why}{kept}")

    def _clear(self) -> None:
        """Take back what is on the screen, where that is possible: the last display, or the line that was begun."""
        self._clear_before_next = False
        if not self._out_is_terminal:
            return
        if self._display is not None:
            self._write(self._out, f"\x1b[{self._display[1]}A{ERASE_BELOW}")
            self.line_was_ended()
        elif not self.at_line_start:
            self._write(self._out, ERASE_LINE)
            self.line_was_ended()

    def _start_line(self, stream: TextIO) -> None:
        if self._last[self._surfaces[stream]] != "\n":
            self._write(stream, "\n")

    def _write(self, stream: TextIO, text: str) -> None:
        if not text:
            return
        stream.write(text)
        stream.flush()
        self._last[self._surfaces[stream]] = text[-1]
        if self._surfaces[stream] == self._surfaces[self._out]:
            self._display = None
