"""The code that the cases run, in the peer's language. What it does is also written to files, so that it is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

TICK = 0.05
"""Seconds between two lines of a run that takes its time."""


class Code(Protocol):
    """The same programs in a language. ``touch`` and ``until`` are files that a program makes, or waits for."""

    def busy(self, seconds: float, begun: Path, ended: Path) -> str:
        """A loop that never yields."""
        ...

    def ask(self, run: str, touch: Path, until: Path | None) -> str:
        """Asks for a name and greets it. ``run`` is its own name, where the language needs it to ask."""
        ...

    def marked(self, mark: str, lines: int, begun: Path, ended: Path) -> str:
        """Lines with a mark, a millisecond apart."""
        ...

    def much(self, lines: int) -> str:
        """Lines of 100 characters each, the newline counted."""
        ...

    def ticks(self, lines: int, touch: Path, at: int, ended: Path) -> str:
        """Lines, ``TICK`` seconds apart; at one of them a file."""
        ...

    def die(self, lines: int) -> str:
        """Lines, then SIGKILL for its own process."""
        ...

    def sleep(self, begun: Path) -> str:
        """Awaits, for a minute."""
        ...

    def gated(self, begun: Path, gate: Path, ended: Path) -> str:
        """Runs until a file is there."""
        ...

    def count(self, file: Path) -> str:
        """Leaves one byte more in a file, takes a second, and says so."""
        ...

    def remember(self) -> str:
        """Sets a variable."""
        ...

    def recall(self) -> str:
        """Prints the variable, or that there is none."""
        ...


def program(lines: list[str], ended: Path | None = None) -> str:
    return "\n".join([*lines, *([f"open({str(ended)!r}, 'w').close()"] if ended else [])])


class Python:
    def busy(self, seconds: float, begun: Path, ended: Path) -> str:
        return program(
            [
                "import time",
                "print('begun', flush=True)",
                f"open({str(begun)!r}, 'w').close()",
                f"stop = time.monotonic() + {seconds}",
                "while time.monotonic() < stop: pass",
                "print('ended')",
            ],
            ended,
        )

    def ask(self, run: str, touch: Path, until: Path | None) -> str:
        wait = f"while not os.path.exists({str(until)!r}): time.sleep(0.02)" if until else "pass"
        return program(
            [
                "import os, time",
                f"open({str(touch)!r}, 'w').close()",
                wait,
                "name = input('Your name: ')",
                "print('Hello, ' + name)",
            ]
        )

    def marked(self, mark: str, lines: int, begun: Path, ended: Path) -> str:
        return program(
            [
                "import time",
                f"open({str(begun)!r}, 'w').close()",
                f"for i in range({lines}): print(f'{mark} {{i}}', flush=True); time.sleep(0.001)",
            ],
            ended,
        )

    def much(self, lines: int) -> str:
        return f"for i in range({lines}): print(f'{{i:099d}}')"

    def ticks(self, lines: int, touch: Path, at: int, ended: Path) -> str:
        return program(
            [
                "import time",
                f"for i in range({lines}):",
                "    print(f'tick {i}', flush=True)",
                f"    if i == {at}: open({str(touch)!r}, 'w').close()",
                f"    time.sleep({TICK})",
            ],
            ended,
        )

    def die(self, lines: int) -> str:
        return program(
            ["import os", f"for i in range({lines}): print(f'line {{i}}')", "os.kill(os.getpid(), 9)"],
        )

    def sleep(self, begun: Path) -> str:
        return program(
            ["import asyncio", "print('begun')", f"open({str(begun)!r}, 'w').close()", "await asyncio.sleep(60)"],
        )

    def gated(self, begun: Path, gate: Path, ended: Path) -> str:
        return program(
            [
                "import os, time",
                f"open({str(begun)!r}, 'w').close()",
                f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)",
                "print('ended')",
            ],
            ended,
        )

    def count(self, file: Path) -> str:
        return f"import time\nopen({str(file)!r}, 'a').write('x')\ntime.sleep(1)\nprint('ran')"

    def remember(self) -> str:
        return "kept = 'kept'"

    def recall(self) -> str:
        return "print(globals().get('kept', 'nothing'))"


def script(lines: list[str], ended: Path | None = None) -> str:
    """Statements, the last of them a declaration: so the peer, which tries code in several forms, runs it but once."""
    body = [*lines, *([f"fs.writeFileSync({json.dumps(str(ended))}, '')"] if ended else [])]
    pause = "const fs = require('fs'); const pause = ms => new Promise(resolve => setTimeout(resolve, ms));"
    return pause + "\n" + ";\n".join([*body, "const over = true"])


class JavaScript:
    def busy(self, seconds: float, begun: Path, ended: Path) -> str:
        return script(
            [
                "console.log('begun')",
                f"fs.writeFileSync({json.dumps(str(begun))}, '')",
                f"const stop = Date.now() + {seconds * 1000}",
                "while (Date.now() < stop) { }",
                "console.log('ended')",
            ],
            ended,
        )

    def ask(self, run: str, touch: Path, until: Path | None) -> str:
        wait = f"while (!fs.existsSync({json.dumps(str(until))})) await pause(20)" if until else ""
        return script(
            [
                f"fs.writeFileSync({json.dumps(str(touch))}, '')",
                wait,
                "console.log('Your name: ')",
                f"const name = await readStdin({run})",
                "console.log('Hello, ' + name)",
            ]
        )

    def marked(self, mark: str, lines: int, begun: Path, ended: Path) -> str:
        return script(
            [
                f"fs.writeFileSync({json.dumps(str(begun))}, '')",
                f"for (let i = 0; i < {lines}; i++) {{ console.log('{mark} ' + i); await pause(1); }}",
            ],
            ended,
        )

    def much(self, lines: int) -> str:
        return script([f"for (let i = 0; i < {lines}; i++) console.log(String(i).padStart(99, '0'))"])

    def ticks(self, lines: int, touch: Path, at: int, ended: Path) -> str:
        return script(
            [
                f"for (let i = 0; i < {lines}; i++) {{ console.log('tick ' + i);"
                f" if (i === {at}) fs.writeFileSync({json.dumps(str(touch))}, ''); await pause({TICK * 1000}); }}"
            ],
            ended,
        )

    def die(self, lines: int) -> str:
        return script(
            [f"for (let i = 0; i < {lines}; i++) console.log('line ' + i)", "process.kill(process.pid, 'SIGKILL')"]
        )

    def sleep(self, begun: Path) -> str:
        return script(["console.log('begun')", f"fs.writeFileSync({json.dumps(str(begun))}, '')", "await pause(60000)"])

    def gated(self, begun: Path, gate: Path, ended: Path) -> str:
        return script(
            [
                f"fs.writeFileSync({json.dumps(str(begun))}, '')",
                f"while (!fs.existsSync({json.dumps(str(gate))})) await pause(20)",
                "console.log('ended')",
            ],
            ended,
        )

    def count(self, file: Path) -> str:
        return script([f"fs.appendFileSync({json.dumps(str(file))}, 'x')", "await pause(1000)", "console.log('ran')"])

    def remember(self) -> str:
        return "global.kept = 'kept'"

    def recall(self) -> str:
        return "console.log(global.kept || 'nothing')"


LANGUAGES: dict[str, Code] = {"python": Python(), "javascript": JavaScript()}
