"""Several executions in one kernel: each keeps its own outputs, prompts, numbers and errors."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable

from broker.kernel.outbox import Record

from .own import SHELL, STDIN, OwnKernel

LANES = ["main", *(f"lane-{i}" for i in range(1, 8))]
TIMES = 1000
EXECUTIONS = 1000 if "FAULT_ROUNDS" in os.environ else 150
"""In each lane; a thousand take 40 s."""

WORK = r"""
import threading, asyncio, sys
write = sys.stdout.write  # whole lines: print() writes in pieces, which threads may mix
from IPython.display import display

class Error{i}(Exception): pass

def work{i}(me="w{i}"):
    def in_thread():
        for i in range({times}):
            write(f"{{me}} thread {{i}}\n")
    thread = threading.Thread(target=in_thread)
    thread.start()
    for i in range({times}):
        write(f"{{me}} {{i}}\n")
        display({{"me": me, "i": i}})
        assert input(f"{{me}}:{{i}}") == f"{{me}}:{{i}}"
    thread.join()
    if {i} % 3 == 2:
        raise Error{i}(me)
    return me

async def task{i}(me="w{i}"):
    for i in range(50):
        await asyncio.sleep(0)
        print(me, "task", i)

await asyncio.gather(task{i}(), task{i}())
work{i}()
"""


def test_eight_at_once_each_keep_what_is_theirs(kernel: OwnKernel) -> None:
    before = kernel.run("0")["execution_count"]
    executions = {kernel.execute(WORK.format(i=i, times=TIMES), lane): f"w{i}" for i, lane in enumerate(LANES)}
    answered = dict.fromkeys(executions, 0)

    def all_over() -> bool:
        for execution in executions:
            for asked in kernel.of(execution, STDIN)[answered[execution] :]:
                kernel.answer_to(asked, json.loads(asked.content)["prompt"])
                answered[execution] += 1
        return all(kernel.of(execution, SHELL) for execution in executions)

    kernel.until(all_over, 150)
    counts = set()
    for execution, me in executions.items():
        reply = kernel.done(execution)
        number = int(me[1:])
        lines = kernel.text(execution).splitlines()
        assert [line for line in lines if "thread" not in line and "task" not in line] == [
            f"{me} {i}" for i in range(TIMES)
        ]
        assert [line for line in lines if "thread" in line] == [f"{me} thread {i}" for i in range(TIMES)]
        assert sorted(line for line in lines if "task" in line) == sorted(
            f"{me} task {i}" for i in range(50) for _ in range(2)
        )
        displays = [json.loads(json.dumps(d["data"]["text/plain"])) for d in kernel.contents(execution, "display_data")]
        assert displays == [str({"me": me, "i": i}) for i in range(TIMES)]
        assert answered[execution] == TIMES
        results = [
            (r["data"]["text/plain"], r["execution_count"]) for r in kernel.contents(execution, "execute_result")
        ]
        if number % 3 == 2:
            assert reply["ename"] == f"Error{number}"
            assert f"Error{number}" in "".join(reply["traceback"])
            assert [e["ename"] for e in kernel.contents(execution, "error")] == [f"Error{number}"]
            assert results == []
        else:
            assert reply["status"] == "ok"
            assert results == [(f"'{me}'", reply["execution_count"])]
        assert [i["execution_count"] for i in kernel.contents(execution, "execute_input")] == [reply["execution_count"]]
        counts.add(reply["execution_count"])
    assert counts == set(range(before + 1, before + 1 + len(executions)))


ROUND = r"""
def round_{me}(i):
    print(f"{me} {{i}}")
    display({{"me": "{me}", "i": i}})
    answer = input(f"{me}:{{i}}")
    print("answered", answer)
    return f"{me} {{i}} {{answer}}"
"""


def test_eight_lanes_of_executions_each_print_display_ask_and_return(start_kernel: Callable[..., OwnKernel]) -> None:
    kernel = start_kernel()
    for i in range(len(LANES)):
        kernel.run(ROUND.format(me=f"m{i}"))
    at_hand = {lane: kernel.execute(f"round_m{i}(0)", lane) for i, lane in enumerate(LANES)}
    begun = dict.fromkeys(LANES, 1)
    over: list[tuple[str, int, str]] = []
    seen = len(kernel.said)

    def step() -> bool:
        nonlocal seen
        said, seen = kernel.said[seen:], len(kernel.said)
        for record in said:
            lane = next((lane for lane, execution in at_hand.items() if execution == record.parent_id), None)
            if record.channel == STDIN:
                kernel.answer_to(record, f"for {json.loads(record.content)['prompt']}")
            elif lane is not None and record.msg_type == "status" and b"idle" in record.content:
                i = begun[lane]
                over.append((lane, i - 1, record.parent_id))
                if i < EXECUTIONS:
                    at_hand[lane] = kernel.execute(f"round_m{LANES.index(lane)}({i})", lane)
                    begun[lane] += 1
                else:
                    del at_hand[lane]
        return not at_hand

    kernel.until(step, 170)
    by_parent: dict[str, list[Record]] = {}
    for record in kernel.said:
        by_parent.setdefault(record.parent_id, []).append(record)
    for lane, i, execution in over:
        me = f"m{LANES.index(lane)}"
        mine = by_parent[execution]
        content = [(record.msg_type, json.loads(record.content)) for record in mine]
        streams = [each for kind, each in content if kind == "stream" and each["name"] == "stdout"]
        text = "".join(each["text"] for each in streams)
        assert text == f"{me} {i}\nanswered for {me}:{i}\n"
        (shown,) = [each["data"]["text/plain"] for kind, each in content if kind == "display_data"]
        assert shown == str({"me": me, "i": i})
        (result,) = [each for kind, each in content if kind == "execute_result"]
        (reply,) = [each for kind, each in content if kind == "execute_reply"]
        assert result["data"]["text/plain"] == f"'{me} {i} for {me}:{i}'"
        assert reply["execution_count"] == result["execution_count"]
    assert len(over) == EXECUTIONS * len(LANES)
    assert len({execution for *_, execution in over}) == len(over)


def test_the_namespace_is_shared_and_a_new_lane_needs_no_preparation(kernel: OwnKernel) -> None:
    kernel.run("shared = 41")
    kernel.run("shared += 1", "lane-new")
    execution = kernel.execute("shared")
    kernel.done(execution)
    assert kernel.contents(execution, "execute_result")[0]["data"]["text/plain"] == "42"


def test_a_request_that_is_sent_twice_runs_once(kernel: OwnKernel) -> None:
    kernel.run("runs = 0")
    first = kernel.execute("runs += 1", msg_id="the-same")
    kernel.execute("runs += 1", msg_id="the-same")
    execution = kernel.execute("runs")
    kernel.done(execution)
    assert kernel.contents(execution, "execute_result")[0]["data"]["text/plain"] == "1"
    assert len(kernel.of(first, SHELL)) == 1
    assert sum(b"idle" in r.content for r in kernel.of(first) if r.msg_type == "status") == 1


def test_two_prompts_get_each_their_own_answer_in_any_order(kernel: OwnKernel) -> None:
    first, second = kernel.execute("input('a')"), kernel.execute("input('b')", "lane-1")
    kernel.prompts(first)
    kernel.prompts(second)
    kernel.answer(second, "for b")
    kernel.done(second)
    assert not kernel.of(first, SHELL)
    kernel.answer(first, "for a")
    kernel.done(first)
    assert kernel.contents(first, "execute_result")[0]["data"]["text/plain"] == "'for a'"
    assert kernel.contents(second, "execute_result")[0]["data"]["text/plain"] == "'for b'"


def test_an_answer_to_a_prompt_that_is_gone_is_given_to_no_other(kernel: OwnKernel) -> None:
    first = kernel.execute("input('a')", "lane-1")
    kernel.prompts(first)
    kernel.interrupt(first)
    kernel.done(first)
    second = kernel.execute("input('b')", "lane-1")
    kernel.prompts(second)
    kernel.answer(first, "late")
    kernel.answer(second, "right")
    kernel.done(second)
    assert kernel.contents(second, "execute_result")[0]["data"]["text/plain"] == "'right'"


def test_a_debugger_and_a_password_in_a_subshell_ask_through_stdin(kernel: OwnKernel) -> None:
    code = textwrap.dedent("""
        import getpass
        def f(x):
            breakpoint()
            return x + 1
        secret = getpass.getpass("who? ")
        value = f(1)
        print(secret, value)
    """)
    busy = kernel.execute("input('meanwhile')")
    kernel.prompts(busy)
    execution = kernel.execute(code, "lane-1")
    assert kernel.prompts(execution)[0] == {"prompt": "who? ", "password": True}
    kernel.answer(execution, "s3cret")
    commands = ["debug f(2)", "p x", "c", "q", "p x", "x = 10", "c"]
    answered = 1

    def over() -> bool:
        nonlocal answered
        for asked in kernel.of(execution, STDIN)[answered:]:
            assert "db>" in json.loads(asked.content)["prompt"]
            kernel.answer_to(asked, commands.pop(0) if commands else "c")
            answered += 1
        return bool(kernel.of(execution, SHELL))

    kernel.until(over)
    assert kernel.done(execution)["status"] == "ok"
    assert "s3cret 11" in kernel.text(execution)
    kernel.answer(busy, "")
    kernel.done(busy)


def test_figures_are_shown_by_the_cell_that_drew_them(kernel: OwnKernel) -> None:
    kernel.run("%matplotlib inline\nimport matplotlib.pyplot as plt")
    draws = kernel.execute("plt.plot([1, 2]); input('later'); None")
    kernel.prompts(draws)
    other = kernel.execute("plt.plot([2, 1]); None", "lane-1")
    kernel.done(other)
    assert len(kernel.contents(other, "display_data")) == 1
    assert not kernel.contents(draws, "display_data")
    kernel.answer(draws, "")
    kernel.done(draws)
    assert len(kernel.contents(draws, "display_data")) == 1


def test_what_child_processes_write_belongs_to_the_execution_that_started_them(kernel: OwnKernel) -> None:
    code = """
import os, subprocess, sys
def work():  # its names are its own: the namespace is shared
    subprocess.run(["echo", "run {me}"])
    subprocess.run("echo err {me} >&2", shell=True)
    os.system("echo system {me}")
    subprocess.run(["echo", "passed {me}"], stdout=sys.stdout)
    background = subprocess.Popen("read x; echo background {me}", shell=True, stdin=subprocess.PIPE)
    input()
    background.communicate(b"\\n")
    pid = os.fork()
    if pid == 0:
        print("forked {me}")
        os._exit(0)
    os.waitpid(pid, 0)
work()
"""
    executions = {kernel.execute(code.format(me=lane), lane): lane for lane in LANES[:3]}
    for execution in executions:
        kernel.prompts(execution)
    for execution, me in executions.items():
        kernel.answer(execution, "")
        assert kernel.done(execution)["status"] == "ok"
        said = [f"{what} {me}" for what in ("run", "system", "passed", "background", "forked")]
        assert kernel.text(execution).splitlines() == said
        # From Python 3.12 on it warns of a fork beside threads.
        assert kernel.text(execution, "stderr").splitlines()[:1] == [f"err {me}"]


def test_a_process_that_outlives_its_cell_is_still_heard_under_it(kernel: OwnKernel) -> None:
    kernel.run("import subprocess")
    starts = kernel.execute("p = subprocess.Popen('read x; echo late', shell=True, stdin=subprocess.PIPE)")
    kernel.done(starts)
    kernel.run("print('another')")
    kernel.run("p.communicate(b'\\n')")
    kernel.until(lambda: kernel.text(starts) == "late\n")


def test_c_code_that_writes_to_descriptor_1_is_heard(kernel: OwnKernel) -> None:
    execution = kernel.execute("import ctypes; libc = ctypes.CDLL(None); libc.puts(b'from c'); libc.fflush(None); None")
    kernel.done(execution)
    assert kernel.text(execution) == "from c\n"


def test_a_thread_belongs_to_the_cell_that_started_it_whatever_runs_later(kernel: OwnKernel) -> None:
    kernel.run("import threading; go = threading.Event()")
    starts = kernel.execute("threading.Thread(target=lambda: (go.wait(), print('mine'), display('mine too'))).start()")
    kernel.done(starts)
    later = kernel.execute("go.set()")
    kernel.done(later)
    kernel.until(lambda: kernel.contents(starts, "display_data"))
    assert kernel.text(starts) == "mine\n"
    assert kernel.text(later) == ""


def test_a_pool_s_work_belongs_to_the_cell_that_submitted_it(kernel: OwnKernel) -> None:
    kernel.run("from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(1)")
    first = kernel.execute("pool.submit(print, 'first').result()")
    kernel.done(first)
    second = kernel.execute("pool.submit(print, 'second').result()")
    kernel.done(second)
    assert (kernel.text(first), kernel.text(second)) == ("first\n", "second\n")


def test_what_ipykernel_says_of_a_comm_that_is_not_there_is_no_output_of_what_runs(kernel: OwnKernel) -> None:
    execution = kernel.execute("print('runs'); input()")
    kernel.prompts(execution)
    about = kernel.send("shell", "comm_close", {"comm_id": "nowhere", "data": {}})
    kernel.until(lambda: "nowhere" in kernel.text(about, "stderr"))
    kernel.answer(execution, "")
    kernel.done(execution)
    assert kernel.text(execution, "stderr") == ""
