"""An interrupt ends one execution, wherever it runs and whatever it does, and no other."""

from __future__ import annotations

import os
import random

import pytest

from .own import OwnKernel

WORK = {
    "a busy loop": "while True: pass",
    "time.sleep": "import time; time.sleep(1000)",
    "an await": "import asyncio\nawait asyncio.sleep(1000)",
    "a gather": "import asyncio\nawait asyncio.gather(asyncio.sleep(1000), asyncio.sleep(1000))",
    "a busy loop after an await": "import asyncio\nawait asyncio.sleep(0)\nwhile True: pass",
    "an open prompt": "input('?')",
    "an event": "import threading; threading.Event().wait()",
    "a queue": "import queue; queue.Queue().get()",
    "a future": "from concurrent.futures import Future; Future().result()",
    "a subprocess with children": "import subprocess; subprocess.run('sleep 1000; sleep 1000', shell=True, check=True)",
    "printing": "while True: print('x' * 100)",
    "displaying": "while True: display(1)",
}


@pytest.mark.parametrize("lane", ["main", "lane-1"])
@pytest.mark.parametrize("what", WORK)
def test_an_interrupt_ends(what: str, lane: str, kernel: OwnKernel) -> None:
    other = kernel.execute("input('other')", "lane-2")
    kernel.prompts(other)
    execution = kernel.execute("print('begun')\n" + WORK[what], lane)
    kernel.until(lambda: "begun" in kernel.text(execution))
    if "prompt" in what:
        kernel.prompts(execution)
    kernel.interrupt(execution)
    reply = kernel.done(execution)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    assert kernel.run("1", lane)["status"] == "ok"
    kernel.answer(other, "unharmed")
    assert kernel.done(other)["status"] == "ok"


@pytest.mark.parametrize("lane", ["main", "lane-1"])
def test_interrupts_at_random_moments_always_lead_to_a_reply(lane: str, kernel: OwnKernel) -> None:
    seed = int(os.environ.get("FAULT_SEED", random.randrange(10**6)))
    print("FAULT_SEED =", seed)
    rng = random.Random(seed)
    for _ in range(75):
        execution = kernel.execute("for i in range(2000): print(i, end=' ', flush=not i % 7)", lane)
        after = rng.randrange(60)
        kernel.until(lambda e=execution, n=after: len(kernel.of(e)) >= n or kernel.of(e, 1))
        kernel.interrupt(execution)
        reply = kernel.done(execution)
        assert reply["status"] == "ok" or reply["ename"] == "KeyboardInterrupt"
        assert len(kernel.of(execution, 1)) == 1
        numbers = kernel.text(execution).split()
        whole = numbers if reply["status"] == "ok" else numbers[:-1]
        assert whole == [str(i) for i in range(len(whole))]
    assert kernel.run("'alive'", lane)["status"] == "ok"


def test_a_late_interrupt_hits_nothing(kernel: OwnKernel) -> None:
    first = kernel.execute("1")
    kernel.done(first)
    for _ in range(20):
        kernel.interrupt(first)
        assert kernel.run("sum(range(1000))")["status"] == "ok"


def test_a_signal_interrupts_the_main_shell(kernel: OwnKernel) -> None:
    execution = kernel.execute("print('begun')\nwhile True: pass")
    kernel.until(lambda: "begun" in kernel.text(execution))
    os.killpg(kernel.process.pid, 2)
    assert kernel.done(execution)["ename"] == "KeyboardInterrupt"


def test_a_traceback_does_not_show_how_the_interrupt_came(kernel: OwnKernel) -> None:
    execution = kernel.execute("import time\nprint('begun')\ntime.sleep(1000)", "lane-1")
    kernel.until(lambda: "begun" in kernel.text(execution))
    kernel.interrupt(execution)
    assert "broker_kernel" not in "".join(kernel.done(execution)["traceback"])


def test_a_traceback_does_not_show_how_input_asks(kernel: OwnKernel) -> None:
    execution = kernel.execute("input('Well? ')")
    kernel.prompts(execution)
    kernel.answer(execution, "\x04")
    reply = kernel.done(execution)
    assert reply["ename"] == "EOFError"
    assert "broker_kernel" not in "".join(reply["traceback"])
