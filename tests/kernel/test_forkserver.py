"""The fork server, with real processes and a kernel that runs the code in its arguments."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest

from broker.kernel import forkserver
from broker.kernel.forkserver import MARK, MOST, CannotFork, ForkedProcess, ForkServer, ForkServers
from broker.kernel.launcher import DIRECTORY

APP = """
import IPython.core.completer, ipykernel.debugger

def main(argv):
    exec(argv[0], {"argv": argv})
"""
STATE = """
import gc, json, locale, logging, multiprocessing, os, signal, sys, threading, time, warnings
signals = {n: str(signal.getsignal(n)).partition(" at ")[0] for n in signal.valid_signals()}
streams = [
    [s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.write_through, s.isatty(), s.closed,
     s.buffer.name, getattr(s.buffer, "mode", ""), type(s.buffer).__name__, s is getattr(sys, f"__{s.name[1:-1]}__")]
    for s in (sys.stdin, sys.stdout, sys.stderr)
]
process = multiprocessing.current_process()
mask = os.umask(0)
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": str(sys.flags), "xoptions": sys._xoptions,
    "executable": sys.executable, "env": dict(os.environ), "cwd": os.getcwd(), "signals": signals,
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "pending": sorted(signal.sigpending()),
    "wakeup": signal.set_wakeup_fd(-1), "streams": streams,
    "fds": [fd for fd in range(1000) if os.path.exists(f"/proc/self/fd/{fd}")],
    "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "threads": [t.name for t in threading.enumerate()],
    "main": [threading.main_thread().ident == threading.get_ident(), threading.main_thread().native_id == os.getpid()],
    "process": [process.name, process.daemon, str(process._parent_pid), multiprocessing.active_children()],
    "tz": time.tzname, "umask": mask, "filters": [str(f) for f in warnings.filters],
    "locale": locale.setlocale(locale.LC_ALL), "encoding": [sys.getfilesystemencoding(), locale.getencoding()],
    "gc": [gc.isenabled(), gc.get_threshold()], "logging": [str(logging.root.handlers), logging.root.level],
    "limits": [sys.getrecursionlimit(), sys.getswitchinterval()], "modules": "launch" in sys.modules,
}))
"""
"""All that a kernel could notice about how it was started."""


@pytest.fixture
def launch(tmp_path: Path) -> Path:
    """The path of ``launch.py``, in a folder with a kernel of our own."""
    assert DIRECTORY is not None
    folder = tmp_path / "python"
    (folder / "broker_kernel").mkdir(parents=True)
    for name in ("launch.py", "template.py"):
        shutil.copy(DIRECTORY / name, folder)
    (folder / "broker_kernel" / "__init__.py").touch()
    (folder / "broker_kernel" / "app.py").write_text(APP)
    return folder / "launch.py"


@pytest.fixture(autouse=True)
def no_process_is_left(tmp_path: Path) -> Iterator[None]:
    """Of any test: templates end with their servers, and kernels when their test has said so."""
    yield
    left = [process for process in psutil.process_iter() if _is_of(process, tmp_path)]
    for process in left:
        process.kill()
    assert not left


def _is_of(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(str(folder) in part for part in process.cmdline())
    return False


class Kernels:
    """Forks kernels that run some code, and reads what they say."""

    def __init__(self, launch: Path, modules: Sequence[str] = ()) -> None:
        self.launch = launch
        self.servers = ForkServers(modules)

    def command(self, code: str, *flags: str) -> list[str]:
        return [sys.executable, *flags, str(self.launch), code]

    async def fork(self, code: str, *flags: str, **kwargs: Any) -> tuple[ForkedProcess, asyncio.StreamReader]:
        reading, writing = os.pipe()
        try:
            kwargs = {"env": dict(os.environ), "stdout": writing, "stderr": writing, **kwargs}
            process = await self.servers.fork(self.command(dedent(code), *flags), **kwargs)
        except CannotFork:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        reader = asyncio.StreamReader(limit=2**24)
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb", 0))
        return process, reader

    async def run(self, code: str, *flags: str, **kwargs: Any) -> tuple[str, int | None]:
        """What it printed, and its exit status."""
        process, reader = await self.fork(code, *flags, **kwargs)
        text = await reader.read()
        return text.decode(), await process.ended()

    async def ask(self, code: str, *flags: str, **kwargs: Any) -> Any:
        """What it printed, as JSON."""
        text, status = await self.run(code, *flags, **kwargs)
        assert status == 0, text
        return json.loads(text)

    @property
    def templates(self) -> list[ForkServer]:
        return list(self.servers.servers.values())

    @property
    def template(self) -> ForkServer:
        (template,) = self.templates
        return template


@pytest.fixture
async def make_kernels(launch: Path) -> AsyncIterator[Callable[..., Kernels]]:
    made: list[Kernels] = []

    def make(*modules: str) -> Kernels:
        made.append(Kernels(launch, modules))
        return made[-1]

    yield make
    for kernels in made:
        await kernels.servers.close()


@pytest.fixture
def kernels(make_kernels: Callable[..., Kernels]) -> Kernels:
    return make_kernels()


async def gone(pid: int) -> None:
    """Wait until that process, anybody's child, has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    assert await asyncio.to_thread(poller.poll, 20_000)
    os.close(pidfd)


WAITING = "import os; os.write(1, b'.\\n'); os.read(0, 1)"


@contextlib.asynccontextmanager
async def waiting(kernels: Kernels, code: str = WAITING) -> AsyncIterator[ForkedProcess]:
    """A kernel that runs until the end of the block."""
    reading, writing = os.pipe()
    try:
        process, reader = await kernels.fork(code, stdin=reading)
        assert await reader.readline()
        yield process
    finally:
        os.close(reading)
        os.close(writing)
    await process.ended()


@pytest.mark.parametrize(
    "flags", [[], ["-Xfrozen_modules=off"], ["-u"], ["-I"], ["-W", "error", "-X", "utf8"]], ids=str
)
async def test_a_forked_kernel_is_as_a_fresh_start_would_have_made_it(
    kernels: Kernels, flags: list[str], tmp_path: Path
) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TZ": "Asia/Tokyo", "UMLAUT": "ü\udcff", "EMPTY": ""}
    fresh = await asyncio.to_thread(
        subprocess.run,
        kernels.command(STATE, *flags),
        env=env,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        start_new_session=True,
    )
    expected = json.loads(fresh.stdout)
    assert expected["leads"] == [True, True]
    assert expected["fds"] == [0, 1, 2]
    assert await kernels.ask(STATE, *flags, env=env, cwd=tmp_path) == expected


async def test_random_numbers_and_keys_differ_between_kernels(make_kernels: Callable[..., Kernels]) -> None:
    pytest.importorskip("numpy")
    kernels = make_kernels("numpy.random", "multiprocessing")
    code = """
        import json, multiprocessing, random, numpy, tempfile, uuid
        key = bytes(multiprocessing.current_process().authkey).hex()
        name = next(tempfile._get_candidate_names())
        print(json.dumps([random.random(), numpy.random.random(), key, name, str(uuid.uuid4()), str(uuid.uuid1())]))
    """
    one, other = await kernels.ask(code), await kernels.ask(code)
    assert all(a != b for a, b in zip(one, other, strict=True))


async def test_what_is_preloaded_is_there_and_works_and_what_fails_is_reported(
    make_kernels: Callable[..., Kernels],
) -> None:
    pytest.importorskip("numpy")
    kernels = make_kernels("numpy", "no_such_module")
    code = """
        import json, sys
        there = "numpy" in sys.modules
        import numpy
        big = numpy.ones((1000, 1000))
        print(json.dumps([there, float((big @ big).sum())]))
    """
    assert await asyncio.gather(*(kernels.ask(code) for _ in range(3))) == [[True, 1e9]] * 3
    assert list(kernels.template.failed_modules) == ["no_such_module"]
    assert "ModuleNotFoundError" in kernels.template.failed_modules["no_such_module"]


async def test_a_module_that_runs_threads_makes_a_template_that_cannot_fork(
    make_kernels: Callable[..., Kernels], tmp_path: Path
) -> None:
    code = "import threading, time; threading.Thread(target=time.sleep, args=[60], daemon=True).start()"
    (tmp_path / "threaded.py").write_text(code)
    with pytest.raises(CannotFork, match="threads"):
        await make_kernels("threaded").run("", env={**os.environ, "PYTHONPATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("print('printed')", 0, "printed"),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('reason')", 1, "reason"),
        ("import os; os._exit(9)", 9, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("import atexit; atexit.register(print, 'bye'); 1 / 0", 1, "bye"),
        ("import threading; threading.Timer(.01, print, ['late']).start()", 0, "late"),
    ],
)
async def test_a_kernel_ends_as_any_python_does(kernels: Kernels, code: str, status: int, text: str) -> None:
    said, ended = await kernels.run(code)
    assert ended == status
    assert text in said
    template = kernels.template.pid
    assert await kernels.run("print('next')") == ("next\n", 0)
    assert kernels.template.pid == template


async def test_an_interrupt_reaches_the_kernel_and_not_its_template(kernels: Kernels) -> None:
    code = """
        import os
        try:
            print(flush=True)
            os.read(0, 1)
        except KeyboardInterrupt:
            os._exit(3)
    """
    async with waiting(kernels, dedent(code)) as process:
        template = kernels.template.pid
        assert os.getsid(template) == template
        os.kill(template, signal.SIGINT)
        os.killpg(os.getpgid(process.pid), signal.SIGINT)
        assert await process.ended() == 3
    assert await kernels.run("print('next')") == ("next\n", 0)
    assert kernels.template.pid == template


async def test_the_pid_is_kept_until_its_end_has_been_seen(kernels: Kernels) -> None:
    async with waiting(kernels) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        os.kill(process.pid, signal.SIGKILL)
        await gone(process.pid)
        # The answer comes after all that the template was told before.
        await kernels.ask("print(1)")
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        assert process.poll() == process.wait() == process.returncode == process.exit_status == -signal.SIGKILL
        await kernels.ask("print(1)")
        assert not psutil.pid_exists(process.pid)
        process.kill()


async def test_how_it_ended_is_known_as_soon_as_it_has(kernels: Kernels) -> None:
    """``poll`` is right the moment that a pidfd says so, whether or not the loop has read the report."""
    for _ in range(20):
        async with waiting(kernels) as process:
            process.kill()
            assert process.wait() == -signal.SIGKILL


async def test_no_child_stays_a_zombie(kernels: Kernels) -> None:
    await asyncio.gather(*(kernels.run("") for _ in range(20)))
    await kernels.ask("print(1)")
    # The answer to this one comes after the last was reaped.
    async with waiting(kernels) as process:
        children = psutil.Process(kernels.template.pid).children()
        assert [child.pid for child in children] == [process.pid]


async def test_kernels_outlive_their_template(kernels: Kernels) -> None:
    code = "import os; os.write(1, b'.\\n'); os.read(0, 1); os._exit(5)"
    async with waiting(kernels, code) as one, waiting(kernels, code) as other:
        template = kernels.template.pid
        os.kill(template, signal.SIGKILL)
        await gone(template)
        assert one.poll() is None
        assert await kernels.run("print('next')") == ("next\n", 0)
        assert kernels.template.pid != template
        one.kill()
        assert await one.ended() is None
        assert one.returncode == 0
        await kernels.servers.close()
        assert other.poll() is None
    assert other.returncode == 0
    assert other.exit_status is None


async def test_a_template_that_dies_while_it_is_asked_is_replaced(kernels: Kernels) -> None:
    await kernels.run("")
    template = kernels.template.pid
    os.kill(template, signal.SIGSTOP)
    forking = asyncio.ensure_future(kernels.run("print('done')"))
    await asyncio.sleep(0)
    os.kill(template, signal.SIGKILL)
    assert await forking == ("done\n", 0)


async def test_a_template_that_does_not_answer_is_given_up(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    await kernels.run("")
    template = kernels.template.pid
    os.kill(template, signal.SIGSTOP)
    monkeypatch.setattr(forkserver, "PATIENCE", 0.1)
    with pytest.raises(CannotFork, match="in time"):
        await kernels.run("")
    await gone(template)
    monkeypatch.undo()
    assert await kernels.run("print('next')") == ("next\n", 0)


async def test_a_kernel_that_nobody_waits_for_any_more_is_killed(kernels: Kernels, tmp_path: Path) -> None:
    await kernels.run("")
    template = psutil.Process(kernels.template.pid)
    template.suspend()
    forking = asyncio.ensure_future(kernels.run(WAITING))
    await asyncio.sleep(0)
    forking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forking
    template.resume()
    await kernels.ask("print(1)")
    for child in template.children():
        await gone(child.pid)


async def test_a_template_ends_when_the_broker_is_killed_and_its_kernels_do_not(launch: Path, tmp_path: Path) -> None:
    broker = """
        import asyncio, os, sys
        from broker.kernel.forkserver import ForkServers

        async def main():
            servers = ForkServers()
            command = [sys.executable, sys.argv[1], "import os; os.read(0, 1)"]
            child = await servers.fork(command, env=os.environ, stdin=0, stdout=2, stderr=2)
            (template,) = servers.servers.values()
            print(template.pid, child.pid, flush=True)
            await child.ended()

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", dedent(broker), str(launch)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    template, child = map(int, (await process.stdout.readline()).split())
    process.kill()
    await process.wait()
    await gone(template)
    assert psutil.Process(child).status() != psutil.STATUS_ZOMBIE
    process.stdin.close()
    await gone(child)


async def test_what_only_a_fresh_interpreter_reads_takes_another_template(kernels: Kernels) -> None:
    code = "import json, sys, locale; print(json.dumps([sys.flags.hash_randomization, sys.stdout.encoding]))"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
    assert await kernels.ask(code, env={**env, "LC_ALL": "C.UTF-8"}) == [1, "utf-8"]
    assert await kernels.ask(code, env={**env, "LC_ALL": "C.UTF-8", "OTHER": "1"}) == [1, "utf-8"]
    assert len(kernels.templates) == 1
    assert await kernels.ask(code, env={**env, "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "ascii"}) == [0, "ascii"]
    assert len(kernels.templates) == 2


async def test_the_least_recently_used_template_is_ended_for_another(kernels: Kernels) -> None:
    for seed in range(MOST):
        await kernels.run("", env={**os.environ, "PYTHONHASHSEED": str(seed)})
    pids = [template.pid for template in kernels.templates]
    await kernels.run("", env={**os.environ, "PYTHONHASHSEED": "0"})
    await kernels.run("", env={**os.environ, "PYTHONHASHSEED": str(MOST)})
    await gone(pids[1])
    assert [template.pid for template in kernels.templates][:-1] == [*pids[2:], pids[0]]


async def test_many_that_come_at_once_share_one_template(kernels: Kernels) -> None:
    parents = await asyncio.gather(*(kernels.ask("import os; print(os.getppid())") for _ in range(10)))
    assert set(parents) == {kernels.template.pid}


@pytest.mark.parametrize("changed", ["installed", "ours"])
async def test_what_is_installed_later_is_there_in_the_next_kernel(
    kernels: Kernels, launch: Path, tmp_path: Path, changed: str
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    env = {**os.environ, "PYTHONPATH": str(site)}
    await kernels.run("", env=env)
    template = kernels.template.pid
    await kernels.run("", env=env)
    assert kernels.template.pid == template
    if changed == "installed":
        (site / "installed.py").write_text("word = 'new'")
    else:
        (launch.parent / "broker_kernel" / "installed.py").write_text("word = 'new'")
    package = "" if changed == "installed" else "broker_kernel."
    assert await kernels.run(f"import {package}installed as i; print(i.word)", env=env) == ("new\n", 0)
    assert kernels.template.pid != template


async def test_a_template_that_is_old_tells_how_its_kernels_end_and_ends_with_the_last(
    kernels: Kernels, launch: Path
) -> None:
    async with waiting(kernels) as one, waiting(kernels) as other:
        old = kernels.template.pid
        (launch.parent / "new.py").touch()
        await kernels.run("")
        assert kernels.template.pid != old
        one.kill()
        assert await one.ended() == -signal.SIGKILL
        assert psutil.pid_exists(old)
        other.terminate()
        assert await other.ended() == -signal.SIGTERM
        await gone(old)


async def test_a_directory_that_nothing_was_imported_from_may_change(kernels: Kernels, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}/project:{tmp_path}/later"}
    (tmp_path / "project").mkdir()
    await kernels.run("", env=env)
    template = kernels.template.pid
    for name in ("project", "later"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"of_{name}.py").write_text(f"word = {name!r}")
    assert await kernels.run("import of_project, of_later; print(of_later.word)", env=env) == ("later\n", 0)
    assert kernels.template.pid == template


async def test_the_processes_of_a_kernel_are_found_by_its_mark(kernels: Kernels) -> None:
    """In ``/proc``, also those that it forked and that ran no other program."""
    for mark in ("kernel-1", "x" * 36):
        process, reader = await kernels.fork(
            "import os; os.fork() or os.setsid(); os.write(1, b'%d\\n' % os.getpid()); os.read(0, 1)",
            env={**os.environ, MARK: mark},
            stdin=(pipe := os.pipe())[0],
        )
        for _ in range(2):
            pid = int(await reader.readline())
            assert psutil.Process(pid).environ()[MARK] == mark
        os.close(pipe[0])
        os.close(pipe[1])
        assert await process.ended() == 0
        assert await reader.read() == b""


async def test_a_template_has_nothing_of_a_kernel_s_environment(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("JUPYTER_BROKER_TOKEN", "secret")
    await kernels.run("", env={**os.environ, "SESSION_SECRET": "secret"})
    assert "secret" not in psutil.Process(kernels.template.pid).environ().values()
    assert "JPY_PARENT_PID" not in psutil.Process(kernels.template.pid).environ()


@pytest.mark.parametrize("wrong", [{"cwd": "/no/such/directory"}, {"env": {"A=B": "C"}}, {"env": {"A": "\0"}}])
async def test_what_cannot_be_started_is_refused_and_the_template_goes_on(
    kernels: Kernels, wrong: dict[str, Any]
) -> None:
    await kernels.run("", env={})
    template = kernels.template.pid
    with pytest.raises(CannotFork):
        await kernels.run("", **{"env": {}, **wrong})
    assert await kernels.run("print('next')", env={}) == ("next\n", 0)
    assert kernels.template.pid == template


async def test_a_fork_that_the_system_refuses_is_refused(kernels: Kernels) -> None:
    await kernels.run("")
    template = kernels.template.pid
    # Of descriptors, to talk to the child: root may have as many processes as it likes.
    free = sorted(set(range(100)) - set(map(int, os.listdir(f"/proc/{template}/fd"))))
    for limit in free[:6]:
        resource.prlimit(template, resource.RLIMIT_NOFILE, (limit, 1000))
        with pytest.raises(CannotFork):
            await kernels.run("")
    resource.prlimit(template, resource.RLIMIT_NOFILE, (1000, 1000))
    assert await kernels.run("print('next')") == ("next\n", 0)
    assert kernels.template.pid == template


async def test_a_kernel_that_cannot_be_imported_says_why_and_is_not_tried_again_at_once(
    kernels: Kernels, launch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = launch.parent / "broker_kernel" / "app.py"
    app.write_text("import no_such_module")
    with pytest.raises(CannotFork, match="no_such_module"):
        await kernels.run("")
    template = kernels.template.pid
    with pytest.raises(CannotFork, match="no_such_module"):
        await kernels.run("")
    assert kernels.template.pid == template
    app.write_text(APP)
    kernels.template._retry_at = 0
    assert await kernels.run("print('next')") == ("next\n", 0)


async def test_a_template_that_dies_at_its_start_leaves_its_last_words(kernels: Kernels, launch: Path) -> None:
    (launch.parent / "template.py").write_text("import os; os.write(2, b'one\\nthe reason\\n')")
    with pytest.raises(CannotFork, match="the reason"):
        await kernels.run("")


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (["python", "-m", "ipykernel_launcher"], {}),
        (["/no/such/python", "LAUNCH"], {}),
        (["python", "LAUNCH"], {"PATH": ""}),
        ([sys.executable, "LAUNCH"], {"PYTHONPATH": "relative"}),
        (["/bin/false", "LAUNCH"], {}),
    ],
)
async def test_what_is_not_for_a_template_is_refused(
    kernels: Kernels, launch: Path, command: list[str], env: dict[str, str]
) -> None:
    command = [str(launch) if part == "LAUNCH" else part for part in command]
    with pytest.raises(CannotFork):
        await kernels.servers.fork(command, env=env, stdout=1, stderr=2)


async def test_a_large_environment_arrives_whole(kernels: Kernels) -> None:
    env = {**os.environ, **{f"LARGE_{n}": "x" * 100_000 for n in range(20)}}
    assert await kernels.ask("import os, json; print(json.dumps(dict(os.environ)))", env=env) == env | {
        "PYDEVD_USE_FRAME_EVAL": "NO"
    }


async def test_the_broker_keeps_no_descriptor_of_a_kernel_that_has_ended(kernels: Kernels) -> None:
    await kernels.run("")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await kernels.run("")
    assert len(os.listdir("/proc/self/fd")) == before
