"""What a kernel has printed is in its outbox, or can be had from it, however it ends."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable

import pytest

from broker.kernel.outbox import SHELL, Outbox

from .own import OwnKernel

ENDS = {
    "os._exit": "import os; os._exit(3)",
    "a segmentation fault": "import ctypes; ctypes.string_at(0)",
    "SIGKILL": "import os; os.kill(os.getpid(), 9)",
}


def recover(kernel: OwnKernel, execution: str) -> None:
    kernel.process.wait(60)
    kernel.read()
    kernel.said += kernel.outbox.last_words()


@pytest.mark.parametrize("end", ENDS)
def test_text_that_was_not_flushed_is_recovered_after(end: str, start_kernel: Callable[..., OwnKernel]) -> None:
    kernel = start_kernel()
    execution = kernel.execute(
        "import sys\n"
        "print('flushed', flush=True)\n"
        "for i in range(300): print(i)\n"
        "print('error', file=sys.stderr)\n"
        "print('é' * 3, end='')\n" + ENDS[end]
    )
    recover(kernel, execution)
    assert kernel.text(execution) == "flushed\n" + "".join(f"{i}\n" for i in range(300)) + "é" * 3
    assert kernel.text(execution, "stderr") == "error\n"
    assert [r.number for r in kernel.said] == list(range(1, len(kernel.said) + 1))


@pytest.mark.parametrize("moment", range(20))
def test_a_kernel_killed_in_the_middle_of_its_printing_loses_nothing(
    moment: int, start_kernel: Callable[..., OwnKernel]
) -> None:
    if moment >= int(os.environ.get("FAULT_ROUNDS", "3")):
        pytest.skip("more rounds with FAULT_ROUNDS")
    kernel = start_kernel()
    file = kernel.root / "printed"
    execution = kernel.execute(
        # What it has printed for sure is known from a file of its own: mmap, so that it costs next to nothing.
        f"import mmap\nf = open({str(file)!r}, 'w+b'); f.truncate(8); m = mmap.mmap(f.fileno(), 8)\n"
        "i = 0\n"
        "while True:\n"
        "    print(i, end='.' * (i % 50) + '\\n')\n"
        "    i += 1\n"
        "    m[:] = i.to_bytes(8, 'little')\n"
    )
    kernel.until(lambda: len(kernel.of(execution)) > 5 + moment)
    kernel.kill()
    recover(kernel, execution)
    printed = int.from_bytes(file.read_bytes(), "little")
    lines = kernel.text(execution).splitlines()
    whole = lines[:printed]
    assert whole == [f"{i}" + "." * (i % 50) for i in range(printed)]
    assert len(lines) - printed in (0, 1)


def test_a_reader_that_comes_back_reads_on_where_it_stopped(start_kernel: Callable[..., OwnKernel]) -> None:
    kernel = start_kernel()
    first = kernel.execute("print('before')")
    kernel.done(first)
    at = kernel.outbox.last
    kernel.outbox.close()
    execution = kernel.execute("for i in range(200_000): print('x' * 100)")
    kernel.outbox = Outbox(kernel.outbox.directory, at)
    reply = kernel.done(execution)
    assert reply["status"] == "ok"
    assert kernel.text(execution) == ("x" * 100 + "\n") * 200_000
    assert [r.number for r in kernel.said] == list(range(1, len(kernel.said) + 1))
    assert len(kernel.outbox.segments()) > 2
    kernel.outbox.trim(kernel.outbox.last)
    assert len(kernel.outbox.segments()) == 2
    assert kernel.run("1")["status"] == "ok"


BYTES = {
    "NUL": ("print('a\\0b')", "a\0b\n"),
    "ANSI": ("print('\\033[1mbold\\033[0m')", "\033[1mbold\033[0m\n"),
    "half a surrogate pair": ("print('a\\ud800b')", "a\ud800b\n"),
    "a carriage return": ("print('1\\r2\\r\\n', end='')", "1\r2\r\n"),
    "an emoji from a child": ("import subprocess; subprocess.run(['printf', '\\U0001f600'])", "\U0001f600"),
}


@pytest.mark.parametrize("what", BYTES)
def test_text_stays_what_it_is(what: str, kernel: OwnKernel) -> None:
    code, text = BYTES[what]
    execution = kernel.execute(code)
    kernel.done(execution)
    assert kernel.text(execution) == text


def test_bytes_of_a_child_that_are_no_utf8_are_sent_as_they_are(kernel: OwnKernel) -> None:
    execution = kernel.execute("import subprocess; subprocess.run(['printf', 'a\\\\377b'])")
    kernel.done(execution)
    (stream,) = [r.content for r in kernel.of(execution) if r.msg_type == "stream"]
    assert b"a\xffb" in stream


def test_a_character_that_comes_in_pieces_is_one(kernel: OwnKernel) -> None:
    execution = kernel.execute(
        "import os, time\nfor b in '\\U0001f600'.encode(): os.write(1, bytes([b])); time.sleep(0.05)"
    )
    kernel.done(execution)
    assert kernel.text(execution) == "\U0001f600"


def test_a_line_of_100_mb_arrives_whole(kernel: OwnKernel) -> None:
    execution = kernel.execute("print('0123456789' * 10_000_000)")
    kernel.done(execution)
    assert kernel.text(execution) == "0123456789" * 10_000_000 + "\n"


def test_binary_buffers_arrive_as_they_are(kernel: OwnKernel) -> None:
    execution = kernel.execute(
        "import comm\nc = comm.create_comm(target_name='t', data={}, buffers=[bytes(range(256)), b''])"
    )
    kernel.done(execution)
    (opened,) = [r for r in kernel.of(execution) if r.msg_type == "comm_open"]
    assert opened.buffers == [bytes(range(256)), b""]


def test_a_messages_metadata_arrive_as_they_are(kernel: OwnKernel) -> None:
    execution = kernel.execute(
        "import comm\nprint('none')\nc = comm.create_comm(target_name='t', data={}, metadata={'version': '2.1.0'})"
    )
    kernel.done(execution)
    (opened,) = [r for r in kernel.of(execution) if r.msg_type == "comm_open"]
    assert json.loads(opened.metadata) == {"version": "2.1.0"}
    assert {r.metadata for r in kernel.of(execution) if r.msg_type != "comm_open"} == {b""}


def test_a_print_in_a_signal_handler_or_a_finalizer_does_no_harm(kernel: OwnKernel) -> None:
    code = """
import gc, signal
class Loud:
    def __init__(self): self.me = self
    def __del__(self): print("gone")
def tick(*_): print("tick"); Loud()
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for i in range(20_000):
    print(i, flush=not i % 10)
    if not i % 100: Loud()
signal.setitimer(signal.ITIMER_REAL, 0)
gc.collect()
"""
    execution = kernel.execute(code)
    assert kernel.done(execution)["status"] == "ok"
    text, before = kernel.text(execution), ""
    while text != before:  # one may have come in the middle of the other
        text, before = text.replace("tick\n", "").replace("gone\n", ""), text
    lines = text.splitlines()
    assert [line for line in lines if line] == [str(i) for i in range(20_000)]


def test_what_is_printed_at_exit_is_heard(start_kernel: Callable[..., OwnKernel]) -> None:
    kernel = start_kernel()
    execution = kernel.execute("import atexit; atexit.register(print, 'goodbye'); None")
    kernel.done(execution)
    kernel.send("control", "shutdown_request", {"restart": False})
    recover(kernel, execution)
    assert "goodbye" in kernel.text(execution)


def test_a_kernel_that_nobody_comes_back_for_ends_itself(start_kernel: Callable[..., OwnKernel]) -> None:
    kernel = start_kernel(JUPYTER_BROKER_PATIENCE="2")
    kernel.send("control", "configure_request", {"env": {"ADDED": "1"}, "cwd": "/"})
    kernel.until(lambda: any(r.msg_type == "configured" for r in kernel.said))
    execution = kernel.execute("import os; print(os.getcwd(), os.environ['ADDED'])")
    kernel.done(execution)
    assert kernel.text(execution) == "/ 1\n"
    kernel.outbox.close()
    assert kernel.process.wait(60) == 0
    assert not kernel.outbox.directory.exists()


def test_a_full_disk_holds_up_the_one_who_prints_and_loses_nothing(start_kernel: Callable[..., OwnKernel]) -> None:
    kernel = start_kernel()
    kernel.run("import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)")
    size = sum(path.stat().st_size for path in kernel.outbox.segments())
    limit = size + 50_000
    resource.prlimit(kernel.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    execution = kernel.execute("for i in range(20_000): print(i, flush=True)")
    kernel.until(lambda: sum(p.stat().st_size for p in kernel.outbox.segments()) >= limit)
    assert not kernel.of(execution, SHELL)
    resource.prlimit(kernel.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert kernel.done(execution)["status"] == "ok"
    assert kernel.text(execution) == "".join(f"{i}\n" for i in range(20_000))
