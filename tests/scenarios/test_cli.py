"""``jupyter broker`` as it is typed: at a terminal, in pipes, with and without a broker."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ..running import PATIENCE, BrokerProcess

COMMANDS = ("run", "attach", "logs", "ps", "sessions", "report", "stdin", "interrupt", "kill", "serve", "stop")
PROGRAM = (sys.executable, "-m", "broker")
CTRL_C = "\x03"
CTRL_D = "\x04"

_names = itertools.count(1)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command: tuple[str, ...], environment: dict[str, str], directory: Path) -> None:
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment | {"TERM": "xterm", "NO_COLOR": "1"},
            cwd=directory,
            start_new_session=True,
            # Nothing in it takes a lock that another thread may hold.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)
        self.screen = ""
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, pattern: str) -> str:
        """Read until the pattern is there, after what was expected before."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.compile(pattern).search(self.screen, self._seen)):
            assert self._read(deadline), f"{pattern!r} did not come; the screen is:\n{self.screen}"
        self._seen = found.end()
        return found.group()

    def end(self) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def wait_until_it_hides_what_is_typed(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while termios.tcgetattr(self._master)[3] & termios.ECHO:
            assert time.monotonic() < deadline, "the terminal still shows what is typed"
            time.sleep(0.01)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._master)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._master, 65536) if ready else b""
        except OSError:  # nobody has the terminal open any more
            return False
        self.screen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


class CommandLine:
    """Runs commands with directories of their own."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = environment
        self._open: list[Terminal | subprocess.Popen[str]] = []

    def __call__(
        self, *arguments: str, input: str | None = None, status: int | None = 0, directory: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. ``status`` is the exit status that it must have; None takes any."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=self.environment,
            input=input if input is not None else "",
            cwd=directory or self.root,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert status is None or done.returncode == status, f"{done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command, with pipes."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*PROGRAM, *arguments], env=self.environment, cwd=self.root, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self._open.append(process)
        return process

    def terminal(self, *arguments: str) -> Terminal:
        """Start a command on a terminal."""
        terminal = Terminal((*PROGRAM, *arguments), self.environment, self.root)
        self._open.append(terminal)
        return terminal

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.05)

    def events(self, execution_id: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in self("logs", execution_id, "--json").stdout.splitlines()]

    def listed(self, execution_id: str) -> dict[str, object]:
        (found,) = (e for e in json.loads(self("ps", "-a", "--json").stdout) if e["execution_id"] == execution_id)
        return dict(found)

    def broker_pid(self) -> int:
        (file,) = Path(self.environment["JUPYTER_RUNTIME_DIR"]).glob("jupyter-broker-*.json")
        return int(json.loads(file.read_text())["pid"])

    def close(self) -> None:
        for each in self._open:
            if isinstance(each, Terminal):
                each.close()
            else:
                each.kill()
                each.communicate()


@pytest.fixture
def cli(broker: BrokerProcess) -> Iterator[CommandLine]:
    """Commands that find the broker that all tests share."""
    line = CommandLine(broker.root, broker.environment)
    yield line
    line.close()


@pytest.fixture
def cli_alone() -> Iterator[CommandLine]:
    """Commands that find no broker. What they start is ended."""
    home = BrokerProcess()
    environment = {name: value for name, value in home.environment.items() if name != "JUPYTER_BROKER_TOKEN"}
    line = CommandLine(home.root, environment)
    yield line
    line.close()
    with contextlib.suppress(ValueError, ProcessLookupError):
        os.kill(line.broker_pid(), signal.SIGKILL)
    home.destroy()


@pytest.fixture
def session() -> str:
    """A name that no other test uses."""
    return f"cli-{next(_names)}"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that does not exist. :func:`until_open` is code that runs until it does."""
    return tmp_path / "gate"


def until_open(gate: Path) -> str:
    return f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"


class TestHelp:
    def test_without_a_command_it_tells_which_there_are(self, cli_alone: CommandLine) -> None:
        printed = cli_alone().stdout
        assert all(re.search(f"^{command}$", printed, re.MULTILINE) for command in COMMANDS)
        assert "jupyter broker run -c" in printed

    def test_a_command_that_does_not_exist_is_named(self, cli_alone: CommandLine) -> None:
        assert "'rnu'" in cli_alone("rnu", status=2).stderr

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_teaches_its_use(self, cli_alone: CommandLine, command: str) -> None:
        printed = cli_alone(command, "--help").stdout
        assert "Examples" in printed
        assert f"jupyter broker {command}" in printed
        assert "--data-dir" in printed

    def test_help_all_has_every_setting(self, cli_alone: CommandLine) -> None:
        assert "--RunApp.working_directory" in cli_alone("run", "--help-all").stdout

    @pytest.mark.parametrize(
        "arguments",
        ["run", "run -c 1 file.py", "run no-such-file", "logs", "logs a b", "stdin a", "kill", "kill --all a"],
    )
    def test_arguments_that_make_no_sense_are_answered_with_the_usage(
        self, cli_alone: CommandLine, arguments: str
    ) -> None:
        command, *rest = arguments.split()
        assert f"usage: jupyter broker {command}" in cli_alone(command, *rest, status=2).stderr

    @pytest.mark.parametrize("command", ["run", "serve"])
    def test_an_option_that_there_is_not_is_refused(self, cli_alone: CommandLine, command: str) -> None:
        said = cli_alone(command, "--sesion=x", status=2).stderr
        assert "no option 'sesion'" in said
        assert f"jupyter broker {command} --help" in said

    @pytest.mark.parametrize("port", ["65536", "-1"])
    def test_a_port_that_there_is_not_is_refused(self, cli_alone: CommandLine, port: str) -> None:
        assert "'port'" in cli_alone("serve", f"--port={port}", status=1).stderr

    def test_an_argument_that_serve_does_not_take_is_refused(self, cli_alone: CommandLine) -> None:
        assert "too many: 'extra'" in cli_alone("serve", "extra", status=2).stderr

    def test_a_data_directory_that_is_a_file_is_refused(self, cli_alone: CommandLine) -> None:
        (cli_alone.root / "file").touch()
        assert "is a file" in cli_alone("serve", f"--data-dir={cli_alone.root / 'file'}", status=1).stderr

    def test_code_that_is_no_text_is_refused(self, cli_alone: CommandLine) -> None:
        bytes_of_code = ["run", "-c", b"print('\xff')"]
        for arguments, stdin in (bytes_of_code, b""), (["run", "-"], b"print('\xff')"):
            done = subprocess.run(
                [*PROGRAM, *arguments], env=cli_alone.environment, input=stdin, capture_output=True, check=False
            )
            assert done.returncode == 2
            assert b"UTF-8" in done.stderr
            assert b"Traceback" not in done.stderr

    def test_settings_may_be_in_a_configuration_file(self, cli_alone: CommandLine) -> None:
        config = Path(cli_alone.environment["JUPYTER_CONFIG_DIR"])
        config.mkdir(exist_ok=True)
        elsewhere = cli_alone.root / "elsewhere"
        (config / "jupyter_broker_config.py").write_text(f"c.Command.broker_data_dir = {str(elsewhere)!r}\n")
        assert str(elsewhere) in cli_alone("ps", status=2).stderr


class TestWithoutABroker:
    @pytest.mark.parametrize(
        "arguments",
        ["attach x", "logs x", "ps", "sessions", "report", "stdin x y", "interrupt x", "kill --all", "stop"],
    )
    def test_each_command_says_in_one_line_that_none_runs(self, cli_alone: CommandLine, arguments: str) -> None:
        said = cli_alone(*arguments.split(), status=2).stderr
        assert f"no broker is running for {cli_alone.root}" in said
        assert said.count("\n") == 1

    def test_run_starts_one_that_serves_the_next_run_too(self, cli_alone: CommandLine) -> None:
        assert cli_alone("run", "-c", "x = 6; print('first')").stdout == "first\n"
        pid = cli_alone.broker_pid()
        assert cli_alone("run", "-c", "print(7 * x)").stdout == "42\n"
        assert cli_alone.broker_pid() == pid

    def test_two_at_once_start_one(self, cli_alone: CommandLine) -> None:
        both = [cli_alone.begin("run", "-c", "print('ran')", f"--session=number-{n}") for n in range(2)]
        printed = [process.communicate(timeout=2 * PATIENCE) for process in both]
        assert [process.returncode for process in both] == [0, 0], printed
        listed = cli_alone("sessions").stdout
        assert "number-0" in listed
        assert "number-1" in listed

    def test_one_that_cannot_start_says_why(self, cli_alone: CommandLine) -> None:
        (cli_alone.root / "data" / "broker" / "journal.sqlite").mkdir(parents=True)
        assert "before it listened" in cli_alone("run", "-c", "1", status=1).stderr


class TestRun:
    def test_stdout_stderr_and_results_go_where_they_belong(self, cli: CommandLine, session: str) -> None:
        code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('no end', end='')\n6 * 7"
        done = cli("run", "-c", code, f"--session={session}")
        assert done.stdout == "out\nno end\n42\n"
        assert done.stderr == "err\n"

    def test_output_is_there_while_the_code_runs(self, cli: CommandLine, session: str, gate: Path) -> None:
        process = cli.begin("run", "-c", f"print('first')\n{until_open(gate)}print('second')", f"--session={session}")
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        gate.touch()
        assert process.stdout.read() == "second\n"
        assert process.wait(PATIENCE) == 0

    def test_code_that_raises_has_its_traceback_on_stderr_and_status_1(self, cli: CommandLine, session: str) -> None:
        done = cli("run", "-c", "print('before')\n1 / 0", f"--session={session}", status=1)
        assert done.stdout == "before\n"
        assert "ZeroDivisionError: division by zero" in done.stderr
        assert "\x1b" not in done.stderr

    def test_a_kernel_that_dies_is_status_1_and_said(self, cli: CommandLine, session: str) -> None:
        code = "import os, time; print('last', flush=True); time.sleep(0.5); os._exit(3)"
        done = cli("run", "-c", code, f"--session={session}", status=1)
        assert done.stdout == "last\n"
        assert re.search(r"\[lost: .*3.*\]", done.stderr)
        again = cli("run", "-c", "print('again')", f"--session={session}")
        assert again.stdout == "again\n"
        assert "new kernel" in again.stderr

    def test_an_unknown_kernel_is_named(self, cli: CommandLine, session: str) -> None:
        assert "nonesuch" in cli("run", "-c", "1", f"--session={session}", "--kernel=nonesuch", status=1).stderr

    @pytest.mark.parametrize("code", ["'quoted'", '"~"', "-1", ""])
    def test_code_reaches_the_kernel_as_it_was_typed(self, cli: CommandLine, session: str, code: str) -> None:
        printed = cli("run", f"-c={code}", f"--session={session}").stdout
        assert printed == (f"{eval(code)!r}\n" if code else "")

    def test_code_comes_from_a_file_or_from_stdin(self, cli: CommandLine, session: str, tmp_path: Path) -> None:
        (tmp_path / "fünf.py").write_text("x = 'grün'\nprint(x)\n", encoding="utf-8")
        assert cli("run", str(tmp_path / "fünf.py"), f"--session={session}").stdout == "grün\n"
        assert cli("run", "-", f"--session={session}", input="print(x * 2)").stdout == "grüngrün\n"

    def test_a_new_sessions_kernel_runs_here_and_stays_there(
        self, cli: CommandLine, session: str, tmp_path: Path
    ) -> None:
        (tmp_path / "here").mkdir()
        where = ("run", "-c", "import os; print(os.getcwd())", f"--session={session}")
        assert cli(*where, directory=tmp_path / "here").stdout == f"{tmp_path / 'here'}\n"
        assert cli(*where, directory=tmp_path).stdout == f"{tmp_path / 'here'}\n"

    def test_prompts_are_answered_from_a_pipe_a_line_each(self, cli: CommandLine, session: str) -> None:
        code = "a = input('a? ')\nb = input('b? ')\nprint(a, b)"
        done = cli("run", "-c", code, f"--session={session}", input="one\ntwo\nthree\n")
        assert done.stdout == "a? b? one two\n"

    def test_the_end_of_the_pipe_is_the_end_of_input(self, cli: CommandLine, session: str) -> None:
        done = cli("run", "-c", "print(input())\ninput()", f"--session={session}", input="last", status=1)
        assert done.stdout == "last\n"
        assert "EOFError" in done.stderr

    def test_prompts_are_answered_from_a_file(self, cli: CommandLine, session: str, tmp_path: Path) -> None:
        (tmp_path / "answers").write_text("from a file\n")
        with (tmp_path / "answers").open() as answers:
            command = [*PROGRAM, "run", "-c", "print(input())", f"--session={session}"]
            done = subprocess.run(command, env=cli.environment, stdin=answers, capture_output=True, check=True)
        assert done.stdout == b"from a file\n"

    def test_when_stdin_was_the_code_it_says_how_to_answer(self, cli: CommandLine, session: str) -> None:
        process = cli.begin("run", "-", f"--session={session}")
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("print('got', input('name? '))")
        process.stdin.close()
        process.stdin = None
        hint = process.stderr.readline()
        found = re.search(r"jupyter broker stdin (\w+) TEXT", hint)
        assert found, hint
        cli("stdin", found[1], "it")
        assert process.communicate(timeout=PATIENCE)[0] == "name? it\ngot it\n"

    def test_a_reader_that_goes_away_leaves_the_code_running(self, cli: CommandLine, session: str, gate: Path) -> None:
        code = f"print('x' * 100, flush=True)\n{until_open(gate)}print('y' * 1000000)\nz = 1"
        process = cli.begin("run", "-c", code, f"--session={session}", "--label=reader-gone")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        gate.touch()
        assert process.stderr is not None
        said = process.stderr.read()
        assert "it runs on" in said
        assert "Traceback" not in said
        assert process.wait(PATIENCE) != 0
        assert cli("run", "-c", "print(z)", f"--session={session}").stdout == "1\n"

    @pytest.mark.parametrize("closed", ["stdout", "stderr"])
    def test_a_stream_that_is_closed_is_nobody_s_trouble(self, cli: CommandLine, session: str, closed: str) -> None:
        code = "import sys; print('out'); print('err', file=sys.stderr)"
        descriptor = 1 if closed == "stdout" else 2
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {descriptor}>&-', "sh", *PROGRAM, "run", "-c", code, f"--session={session}"],
            env=cli.environment,
            cwd=cli.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "err\n" if closed == "stdout" else "out\n")

    def test_updates_of_a_display_are_all_there_in_a_pipe(self, cli: CommandLine, session: str) -> None:
        code = (
            "from IPython.display import clear_output\n"
            "shown = display('one', display_id=True)\nshown.update('two')\nclear_output()\nprint('three')"
        )
        assert cli("run", "-c", code, f"--session={session}").stdout == "'one'\n'two'\nthree\n"

    def test_nothing_but_output_is_written_when_no_terminal_is_there(self, cli: CommandLine, session: str) -> None:
        done = cli("run", "-c", "import time; time.sleep(3.5); print('done')", f"--session={session}")
        assert (done.stdout, done.stderr) == ("done\n", "")


class TestComingBack:
    def test_wait_leaves_it_running_with_status_3_and_says_how_to_come_back(
        self, cli: CommandLine, session: str, gate: Path
    ) -> None:
        done = cli(
            "run", "-c", f"print('a')\n{until_open(gate)}print('b')", f"--session={session}", "--wait=2", status=3
        )
        assert done.stdout == "a\n"
        found = re.search(r"jupyter broker attach (\w+)", done.stderr)
        assert found
        gate.touch()
        assert cli("attach", found[1]).stdout == "a\nb\n"

    def test_detach_prints_the_id_which_every_command_takes(self, cli: CommandLine, session: str, gate: Path) -> None:
        code = f"print('a')\n{until_open(gate)}print('b')"
        id = cli("run", "--detach", "-c", code, f"--session={session}", "--label=by hand").stdout.strip()
        cli.until(lambda: cli("logs", id).stdout == "a\n")
        (row,) = (line for line in cli("ps").stdout.splitlines() if id in line)
        assert re.search(rf"{session} +running .* 1 .*by hand", row)
        (line,) = (line for line in cli("report").stdout.splitlines() if id in line)
        assert "running · (by hand) · for" in line
        reported = json.loads(cli("report", "--json").stdout)
        (entry,) = (e for e in reported["executions"] if e["execution_id"] == id)
        assert (entry["lines"], entry["detached"]) == (1, True)
        following = cli.begin("logs", "-f", id)
        assert following.stdout is not None
        assert following.stdout.readline() == "a\n"
        gate.touch()
        assert following.communicate(timeout=PATIENCE)[0] == "b\n"
        assert following.returncode == 0
        assert id not in cli("ps").stdout
        assert id in cli("ps", "--all").stdout

    def test_a_beginning_of_an_id_is_enough_when_it_is_unique(self, cli: CommandLine, session: str) -> None:
        first, second = (
            cli("run", "--detach", "-c", f"print({n})", f"--session={session}", "--label=twin").stdout.strip()
            for n in range(2)
        )
        length = next(n for n, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
        cli.until(lambda: cli("logs", second[: length + 1]).stdout == "1\n")
        ambiguous = cli("logs", first[:length], status=1).stderr
        assert f"{first} (twin)" in ambiguous
        assert f"{second} (twin)" in ambiguous
        assert "no execution's id begins with 'uuu'" in cli("logs", "uuu", status=1).stderr

    def test_logs_as_json_are_the_events_and_after_is_a_place_in_them(self, cli: CommandLine, session: str) -> None:
        code = "import sys\nprint('a'); sys.stdout.flush()\nprint('b', file=sys.stderr)"
        id = cli("run", "--detach", "-c", code, f"--session={session}").stdout.strip()
        cli.until(lambda: cli.listed(id)["state"] == "completed")
        events = cli.events(id)
        assert [event["n"] for event in events] == list(range(1, len(events) + 1))
        printed = [event for event in events if event["type"] == "output"]
        assert [event["content"]["text"] for event in printed] == ["a\n", "b\n"]  # type: ignore[index]
        rest = cli("logs", id, f"--after={printed[0]['seq']}")
        assert (rest.stdout, rest.stderr) == ("", "b\n")

    def test_attach_exits_as_the_execution_did(self, cli: CommandLine, session: str) -> None:
        id = cli("run", "--detach", "-c", "1 / 0", f"--session={session}").stdout.strip()
        assert "ZeroDivisionError" in cli("attach", id, status=1).stderr

    def test_a_prompt_is_answered_by_stdin_and_shown_to_who_comes_later(self, cli: CommandLine, session: str) -> None:
        code = "a = input('a? ')\nprint(a, input('b? '))"
        id = cli("run", "--detach", "-c", code, f"--session={session}").stdout.strip()
        cli("stdin", id, "first")
        cli.until(lambda: cli.listed(id)["state"] == "awaiting_input")
        assert "asks 'b? '" in cli("report").stdout
        cli("stdin", id, "--eof")
        done = cli("attach", id, status=1)
        assert done.stdout.startswith("a? first\nb? ")
        assert "EOFError" in done.stderr
        assert "is over" in cli("stdin", id, "late", status=1).stderr

    def test_attach_answers_the_open_prompt_and_none_of_the_past(self, cli: CommandLine, session: str) -> None:
        code = "print(input('a? '), input('b? '))"
        id = cli("run", "--detach", "-c", code, f"--session={session}").stdout.strip()
        cli("stdin", id, "first")
        cli.until(lambda: cli.listed(id)["state"] == "awaiting_input")
        process = cli.begin("attach", id)
        assert process.communicate("second\n", timeout=PATIENCE)[0] == "a? first\nb? first second\n"


class TestEnding:
    def test_interrupt_ends_one_and_says_that_the_state_is_kept(self, cli: CommandLine, session: str) -> None:
        id = cli("run", "--detach", "-c", "x = 5\nwhile True: pass", f"--session={session}").stdout.strip()
        cli.until(lambda: cli.listed(id)["execution_count"] is not None)
        assert cli("interrupt", id).stdout == f"{id} interrupted; the kernel's state is preserved\n"
        assert cli("run", "-c", "print(x)", f"--session={session}").stdout == "5\n"

    def test_kill_ends_what_an_interrupt_does_not(self, cli: CommandLine, session: str) -> None:
        code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
        id = cli("run", "--detach", "-c", code, f"--session={session}").stdout.strip()
        cli.until(lambda: cli.listed(id)["execution_count"] is not None)
        assert cli("kill", id).stdout == f"{id} killed; the kernel's state is lost\n"

    def test_kill_all_ends_everything(self, start_broker: Callable[..., BrokerProcess]) -> None:
        broker = start_broker()
        cli = CommandLine(broker.root, broker.environment)
        ids = {cli("run", "--detach", "-c", "while True: pass", f"--session={n}").stdout.strip() for n in range(2)}
        cli.until(lambda: all(cli.listed(id)["execution_count"] is not None for id in ids))
        assert {line.split()[0] for line in cli("kill", "--all").stdout.splitlines()} == ids
        assert cli("kill", "--all").stdout == "nothing was running\n"

    def test_sessions_lists_names_kernels_and_counts(self, cli: CommandLine, session: str) -> None:
        cli("run", "-c", "1", f"--session={session}")
        (row,) = (line for line in cli("sessions").stdout.splitlines() if f" {session} " in line)
        assert re.match(r"s-\w{16} .* python3 +idle +1 completed", row)
        (entry,) = (s for s in json.loads(cli("sessions", "--json").stdout) if s["name"] == session)
        assert entry["kernel_pid"]

    def test_stop_leaves_kernels_to_the_next_broker_unless_told_otherwise(self, cli_alone: CommandLine) -> None:
        cli_alone("run", "-c", "x = 1")
        pid = cli_alone.broker_pid()
        assert "1 kernel runs on" in cli_alone("stop").stdout
        # One that nobody waits for remains as a zombie.
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert cli_alone("run", "-c", "print(x)").stdout == "1\n"
        assert "no kernel is left" in cli_alone("stop", "--kernels").stdout
        assert cli_alone("stop", status=2).stderr.startswith("jupyter broker stop: no broker is running")


class TestTerminal:
    def test_prompts_are_asked_at_the_terminal_and_a_password_is_not_shown(
        self, cli: CommandLine, session: str
    ) -> None:
        code = "import getpass\nn = input('name? ')\np = getpass.getpass('secret? ')\nprint(n, len(p))"
        terminal = cli.terminal("run", "-c", code, f"--session={session}")
        terminal.expect(r"name\? ")
        terminal.type("bob\n")
        terminal.expect(r"secret\? ")
        terminal.wait_until_it_hides_what_is_typed()
        terminal.type("hunter2\n")
        terminal.expect("bob 7\n")
        assert terminal.end() == 0
        assert "hunter2" not in terminal.screen
        assert terminal.screen == "name? bob\nsecret? \nbob 7\n"

    def test_ctrl_d_is_the_end_of_input(self, cli: CommandLine, session: str) -> None:
        terminal = cli.terminal("run", "-c", "input('name? ')", f"--session={session}")
        terminal.expect(r"name\? ")
        terminal.type(CTRL_D)
        terminal.expect("EOFError")
        assert terminal.end() == 1

    def test_a_prompt_that_somebody_else_answers_is_given_up(self, cli: CommandLine, session: str) -> None:
        terminal = cli.terminal("run", "-c", "print('got', input('name? '))", f"--session={session}")
        terminal.expect(r"name\? ")
        (execution,) = (e for e in json.loads(cli("ps", "--json").stdout) if e["state"] == "awaiting_input")
        cli("stdin", execution["execution_id"], "other")
        terminal.expect("other\ngot other\n")
        assert terminal.end() == 0

    def test_ctrl_c_leaves_it_running_and_says_how_to_come_back(
        self, cli: CommandLine, session: str, gate: Path
    ) -> None:
        terminal = cli.terminal("run", "-c", f"print('a')\n{until_open(gate)}print('b')", f"--session={session}")
        terminal.expect("a\n")
        terminal.type(CTRL_C)
        terminal.expect("press Ctrl-C again to interrupt")
        id = terminal.expect(r"jupyter broker attach \w+").split()[-1]
        assert terminal.end() == 3
        assert cli.listed(id)["state"] == "running"
        again = cli.terminal("attach", id)
        again.expect("a\n")
        gate.touch()
        again.expect("b\n")
        assert again.end() == 0

    def test_ctrl_c_twice_interrupts_it(self, cli: CommandLine, session: str) -> None:
        terminal = cli.terminal("run", "-c", "x = 3\nprint('a')\nwhile True: pass", f"--session={session}")
        terminal.expect("a\n")
        terminal.type(CTRL_C)
        terminal.expect("again to interrupt")
        terminal.type(CTRL_C)
        terminal.expect("KeyboardInterrupt")
        terminal.expect("interrupted; the kernel's state is preserved")
        assert terminal.end() == 1
        assert cli("run", "-c", "print(x)", f"--session={session}").stdout == "3\n"

    def test_ctrl_c_at_a_prompt_leaves_the_terminal_as_it_was(self, cli: CommandLine, session: str) -> None:
        code = "import getpass\ngetpass.getpass('secret? ')"
        terminal = cli.terminal("run", "-c", code, f"--session={session}")
        terminal.expect(r"secret\? ")
        terminal.wait_until_it_hides_what_is_typed()
        terminal.type(CTRL_C)
        terminal.expect("detached")
        assert termios.tcgetattr(terminal._master)[3] & termios.ECHO
        assert terminal.end() == 3

    def test_while_nothing_is_printed_a_line_says_for_how_long_and_goes_before_output(
        self, cli: CommandLine, session: str, gate: Path
    ) -> None:
        terminal = cli.terminal("run", "-c", f"print('a')\n{until_open(gate)}print('b')", f"--session={session}")
        terminal.expect("a\n")
        terminal.expect(r"running \d+\.\ds, quiet for [23]\.\ds")
        gate.touch()
        terminal.expect(r"\r\x1b\[2Kb\n")
        assert terminal.end() == 0

    def test_a_display_is_updated_in_its_place(self, cli: CommandLine, session: str) -> None:
        code = "shown = display('one', display_id=True)\nshown.update('two')\nprint('end')"
        terminal = cli.terminal("run", "-c", code, f"--session={session}")
        terminal.expect(r"'one'\n\x1b\[1A\x1b\[J'two'\nend\n")
        assert terminal.end() == 0


def test_a_run_goes_on_over_a_restart_of_the_broker(start_broker: Callable[..., BrokerProcess], gate: Path) -> None:
    broker = start_broker()
    cli = CommandLine(broker.root, broker.environment)
    process = cli.begin("run", "-c", f"print('a', flush=True)\n{until_open(gate)}print('b')")
    assert process.stdout is not None
    assert process.stdout.readline() == "a\n"
    broker.stop(signal.SIGKILL)
    restarted = threading.Thread(target=broker.start)
    restarted.start()
    restarted.join()
    gate_opened = cli("ps").stdout
    assert "running" in gate_opened
    gate.touch()
    out, err = process.communicate(timeout=PATIENCE)
    assert out == "b\n"
    assert "missing" not in err
    assert process.returncode == 0
    cli.close()
