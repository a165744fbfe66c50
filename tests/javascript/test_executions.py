"""JavaScript executions: handed over, side by side, interrupted, asked for input."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from ..running import Wire, text_of
from ..scenarios.tools import printed

COUNTING = (
    "console.log('Starting long task...'); for (let i = 0; i < 35; i++) { await new Promise(r => setTimeout(r, 1000)); "
    "console.log('Progress: ' + i + ' seconds'); } 'Done'"
)
ASKING = "console.log('Enter your name:'); const name = await readStdin(0); console.log('Hello, ' + name + '!');"
STEPS = "for (let i = 0; i < 10; i++) { await new Promise(r => setTimeout(r, 500)); console.log('Step ' + i); }"
FOREVER = "await new Promise(() => {})"


def gate(path: Path) -> str:
    return f"while (!require('fs').existsSync({str(path)!r})) await new Promise(r => setTimeout(r, 10));\n"


async def begun(wire: Wire, session: str, code: str) -> str:
    """Run code that first says "begun", let go of it, and return its id when it has said so."""
    execution = await wire.execute(f"console.log('begun');\n{code}", session=session, wait=0)
    await printed(wire, execution["execution_id"], "begun\n")
    return str(execution["execution_id"])


async def interrupted(wire: Wire, execution_id: str) -> dict[str, Any]:
    await wire.call("interrupt", execution_id=execution_id)
    execution: dict[str, Any] = await wire.done(execution_id)
    assert (execution["state"], execution["kernel_state"]) == ("interrupted", "preserved")
    assert execution["error"]["ename"] == "KeyboardInterrupt"
    return execution


async def value(wire: Wire, session: str, code: str) -> str:
    execution = await wire.execute(code, session=session)
    assert execution["state"] == "completed", execution
    return str(execution["outputs"][-1]["data"]["text/plain"])


async def test_input_after_the_prompt_and_before_it(wire: Wire, session: str) -> None:
    asked = await wire.execute(ASKING, session=session)
    assert (asked["state"], asked["text"].splitlines()[0]) == ("awaiting_input", "Enter your name:")
    await wire.call("send_stdin", execution_id=asked["execution_id"], data="Alice")
    assert "Hello, Alice!\n" in (await wire.done(asked["execution_id"]))["text"]
    ahead = await wire.execute(ASKING, session=session, stdin=["Bob"])
    assert (ahead["state"], "Hello, Bob!\n" in ahead["text"]) == ("completed", True)


async def test_prompts_end_of_input_and_passwords(wire: Wire, session: str) -> None:
    code = "[await readStdin(0, {prompt: 'Name? '}), await readStdin('any', {password: true}), await readStdin()]"
    asked = await wire.execute(code, session=session)
    assert asked["input_request"] == {"prompt": "Name? ", "password": False}
    await wire.call("send_stdin", execution_id=asked["execution_id"], data="Ada")
    secret = await wire.until(asked["execution_id"], lambda e: (e["input_request"] or {}).get("password"))
    assert secret["state"] == "awaiting_input"
    await wire.call("send_stdin", execution_id=asked["execution_id"], data="hidden", eof=True)
    done = await wire.done(asked["execution_id"])
    assert done["outputs"][-1]["data"]["text/plain"] == "[ 'Ada', 'hidden', null ]"


async def test_each_step_arrives_as_it_is_printed(wire: Wire, session: str) -> None:
    began = await wire.execute(STEPS, session=session, wait=0)
    await wire.call("subscribe", execution_id=began["execution_id"], after=0)
    arrived = []
    for i in range(10):
        await wire.event(
            lambda e, i=i: (
                (e["execution_id"], e.get("content", {}).get("text")) == (began["execution_id"], f"Step {i}\n")
            )
        )
        arrived.append(time.monotonic())
    assert all(later - earlier > 0.2 for earlier, later in itertools.pairwise(arrived))
    assert (await wire.done(began["execution_id"]))["state"] == "completed"


async def test_a_loop_that_never_yields_is_handed_over_and_interrupted(wire: Wire, session: str) -> None:
    await wire.execute("let kept = 'kept'", session=session)
    began = time.monotonic()
    code = "function spin() {\n  let i = 0;\n  while (true) { i++ }\n}\nconsole.log('spins'); spin()"
    execution = await wire.execute(code, session=session, wait=1)
    assert 0.9 < time.monotonic() - began < 5
    assert (execution["state"], execution["text"]) == ("running", "spins\n")
    error = (await interrupted(wire, execution["execution_id"]))["error"]
    assert "    at spin (cell-2:3:" in "\n".join(error["traceback"])
    assert error["traceback"][1] == "  while (true) { i++ }"
    assert await value(wire, session, "kept") == "'kept'"


@pytest.mark.parametrize(
    "code",
    [
        "await new Promise(r => setTimeout(r, 1)); while (true) {}",
        "const endless = async () => { while (true) await null }; await endless()",
        "while (true) console.log('line')",
        "while (true) { try { await new Promise((_, no) => setTimeout(no, 5)) } catch {} }",
        "require('child_process').execSync('sleep 1000')",
        "setTimeout(() => { while (true) {} }, 1); await new Promise(() => {})",
        "({ [Symbol.for('nodejs.util.inspect.custom')]() { while (true) {} } })",
    ],
    ids=["after an await", "of awaits", "that prints", "that swallows", "in a child", "in a timer", "in its result"],
)
async def test_a_loop_is_interrupted_wherever_it_is(wire: Wire, session: str, code: str) -> None:
    await wire.execute("let kept = 'kept'", session=session)
    execution_id = await begun(wire, session, code)
    await asyncio.sleep(0.05)
    await interrupted(wire, execution_id)
    assert await value(wire, session, "kept") == "'kept'"


async def test_an_await_is_interrupted_and_goes_no_further(wire: Wire, session: str) -> None:
    await wire.execute("let steps = 0; let cleaned = false", session=session)
    code = "try {\n  while (true) { await new Promise(r => setTimeout(r, 20)); steps++ }\n} finally { cleaned = true }"
    error = (await interrupted(wire, await begun(wire, session, code)))["error"]
    assert "KeyboardInterrupt: interrupted\n    at cell-2:3:18" in "\n".join(error["traceback"])
    steps = await value(wire, session, "const before = steps; steps")
    assert (
        await value(wire, session, "await new Promise(r => setTimeout(r, 100)); [steps - before, cleaned]")
        == "[ 0, true ]"
    )
    assert int(steps) >= 0


async def test_a_prompt_is_interrupted_and_the_next_answer_is_for_the_next(wire: Wire, session: str) -> None:
    asked = await wire.execute("await readStdin(0)", session=session)
    await interrupted(wire, asked["execution_id"])
    again = await wire.execute("await readStdin(0)", session=session, stdin=["for the next"])
    assert again["outputs"][-1]["data"]["text/plain"] == "'for the next'"


async def test_one_of_many_is_interrupted_and_the_others_go_on(wire: Wire, session: str, directory: Path) -> None:
    open_at = directory / "gate"
    waiting = [await begun(wire, session, f"{gate(open_at)}console.log('ended')") for _ in range(3)]
    await interrupted(wire, waiting.pop(1))
    shared = await begun(
        wire, session, "let release; const shared = new Promise(r => (release = r)); await shared; 'goes on'"
    )
    busy = await begun(wire, session, "await 0; release(); while (true) {}")
    await interrupted(wire, busy)
    assert (await wire.done(shared))["text"] == "begun\n'goes on'\n"
    open_at.touch()
    for execution_id in waiting:
        assert (await wire.done(execution_id))["text"] == "begun\nended\n"


async def test_what_was_interrupted_is_collected_in_peace(wire: Wire, session: str) -> None:
    for code in ("await 0; while (true) {}", "while (true) { try { await new Promise(() => {}) } catch {} }"):
        await interrupted(wire, await begun(wire, session, code))
    garbage = "let all = []; for (let i = 0; i < 3e6; i++) all = i % 1e5 ? all.concat([{i}]).slice(-3) : []; all.length"
    assert await value(wire, session, garbage) == "3"


async def test_what_is_interrupted_is_not_what_runs(wire: Wire, session: str) -> None:
    waiting = await begun(wire, session, FOREVER)
    code = "const until = Date.now() + 1500; while (Date.now() < until) {} 'unharmed'"
    busy = await begun(wire, session, code)
    await interrupted(wire, waiting)
    assert (await wire.done(busy))["text"] == "begun\n'unharmed'\n"


@pytest.mark.parametrize(("count", "lines"), [(2, 20), (4, 200)])
async def test_outputs_side_by_side_do_not_mix(wire: Wire, session: str, count: int, lines: int) -> None:
    code = (
        "await (async () => {{ for (let i = 0; i < {lines}; i++) {{ await new Promise(r => setTimeout(r, i % 3)); "
        "(i % 2 ? console.log : console.error)({me}, i); }} }})(); 'result {me}'"
    )
    calls = [
        wire.begin("execute", code=code.format(me=me, lines=lines), session=session, wait=None, on_busy="concurrent")
        for me in range(count)
    ]
    for me, execution in enumerate(await asyncio.gather(*calls)):
        assert execution["state"] == "completed"
        events = await wire.events(execution["execution_id"])
        assert text_of(events) == "".join(f"{me} {i}\n" for i in range(lines))
        assert execution["outputs"][-1]["data"]["text/plain"] == f"'result {me}'"
    failed = wire.begin("execute", code=f"await 0; {gate(Path('/'))} throw new Error('mine')", session=session)
    fine = await wire.execute("'fine'", session=session, on_busy="concurrent")
    assert (fine["state"], (await failed)["error"]["evalue"]) == ("completed", "mine")


async def test_prompts_side_by_side_are_answered_each_for_itself(wire: Wire, session: str) -> None:
    asked = [
        await wire.execute(
            f"console.log('{name}', await readStdin(0))", session=session, wait=None, on_busy="concurrent"
        )
        for name in "abc"
    ]
    for execution, answer in reversed(list(zip(asked, "ABC", strict=True))):
        await wire.call("send_stdin", execution_id=execution["execution_id"], data=answer)
    done = [await wire.done(execution["execution_id"]) for execution in asked]
    assert [text["text"].splitlines()[-1] for text in done] == ["a A", "b B", "c C"]


async def test_a_hundred_thousand_lines_arrive_in_order(wire: Wire, session: str) -> None:
    execution = await wire.execute(
        "for (let i = 0; i < 100000; i++) console.log('line ' + i)", session=session, wait=None
    )
    assert execution["state"] == "completed"
    assert text_of(await wire.events(execution["execution_id"])) == "".join(f"line {i}\n" for i in range(100_000))


async def test_any_text_is_kept_as_it_is(wire: Wire, session: str) -> None:
    code = "const s = '\\u{1F600}é\\0'.repeat(100000); console.log(s); console.log(s.length)"
    execution = await wire.execute(code, session=session, max_output=200)
    expected = "\U0001f600é\0" * 100_000
    assert text_of(await wire.events(execution["execution_id"])) == f"{expected}\n400000\n"
