"""Each tool, called by the SDK's client over stdio."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitResult

from ..running import PATIENCE, BrokerProcess
from .agent import ERAS, Agent, agent, text

COUNT = "import time\nfor i in range(4):\n    print('step', i)\n    time.sleep(0.5)\n'end'"
STUBBORN = """
import time
until = time.monotonic() + 600
while time.monotonic() < until:
    try:
        while time.monotonic() < until:
            time.sleep(0.01)
    except KeyboardInterrupt:
        pass
"""

both_eras = pytest.mark.parametrize("era", ERAS)
"""For what goes through the protocol differently."""


@pytest.fixture
def era() -> str:
    return ERAS[1]


async def done(call: Agent, execution_id: str) -> dict[str, Any]:
    """The execution, once it is over."""
    return await call("wait", execution_id=execution_id, wait=PATIENCE)


@both_eras
async def test_the_tools_say_what_they_take(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        tools = (await call.client.list_tools()).tools
        assert [tool.name for tool in tools] == ["execute", "wait", "read", "input", "stop", "list"]
        assert all(tool.input_schema["type"] == "object" and tool.description for tool in tools)
        assert "wait" in (call.client.instructions or "")
        assert (call.client.protocol_version == "2026-07-28") == (era == "auto")
        assert "execute needs code" in await call.refuses("execute")
        assert "nonsense" in await call.refuses("execute", code="1", nonsense=1)
        assert "execution_id" in await call.refuses("wait")
        assert "there is no tool 'run'" in (await call.refuses("run")).lower()
        for tool in ("wait", "read", "input", "stop"):
            refused = await call.refuses(tool, execution_id="none", **({"text": ""} if tool == "input" else {}))
            assert "none" in refused


@both_eras
async def test_code_runs_and_its_variables_stay(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        first = await call("execute", code="import os\nx = 6\nprint('hello')\nos.getcwd()")
        assert first["state"] == "completed"
        assert first["text"] == f"hello\n'{tmp_path}'\n"
        assert await call.says("execute", code="x * 7") == "42\n"
        assert await call.says("execute", code="y = 1") == "(completed; it printed nothing)"
        assert "NameError" in await call.says("execute", code="x", session=f"other-{tmp_path.name}")


async def test_what_raises_is_a_result_and_no_error(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        failed = await call("execute", code="print('before')\n1/0")
        assert failed["state"] == "failed"
        assert failed["error"] == {"ename": "ZeroDivisionError", "evalue": "division by zero"}
        assert failed["text"].startswith("before\n")
        assert "ZeroDivisionError" in failed["text"]
        assert "\x1b" not in failed["text"]


@both_eras
async def test_at_handover_the_caller_gets_control_back_and_it_runs_on(
    broker: BrokerProcess, tmp_path: Path, era: str
) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        handed = await call("execute", code=COUNT, wait=0.7)
        assert handed["state"] == "running"
        assert handed["detached"]
        assert "step 0" in handed["text"]
        id = handed["execution_id"]
        assert f"wait(execution_id={id!r}, after={handed['seq']})" in handed["next"]
        assert "Do not run the code again" in handed["next"]
        # The next one runs beside it, with the same variables.
        assert (await call("execute", code="i >= 0"))["text"] == "True\n"
        ended = await call("wait", execution_id=id, after=handed["seq"], wait=PATIENCE)
        assert ended["state"] == "completed"
        assert handed["text"] + ended["text"] == "step 0\nstep 1\nstep 2\nstep 3\n'end'\n"


async def test_read_has_what_was_printed_so_far_and_all_of_it_in_pages(
    broker: BrokerProcess, tmp_path: Path, era: str
) -> None:
    lines = "".join(f"line {i} of many\n" for i in range(20_000))
    async with agent(broker, tmp_path, era=era) as call:
        code = "for i in range(20_000):\n    print('line', i, 'of many')"
        cut = await call("execute", code=code)
        id = cut["execution_id"]
        assert cut["omitted_characters"] > 0
        assert cut["text"].startswith("line 0 of many\n")
        assert cut["text"].endswith("line 19999 of many\n")
        ends = await call("read", execution_id=id)
        assert ends["text"].startswith("line 0 of many\n")
        assert ends["omitted_characters"] > 0
        pages, after, eof = [], 0, False
        while not eof:
            page = await call("read", execution_id=id, after=after, whole=True, max_tokens=100_000)
            pages.append(page["text"])
            after, eof = page["seq"], page["eof"]
        assert len(pages) > 1
        assert "".join(pages) == lines
        assert (await call("read", execution_id=id, after=after))["text"] == ""
        assert "ISO 8601" in await call.refuses("read", execution_id=id, since="yesterday")
        assert (await call("read", execution_id=id, since="2000-01-01T00:00:00Z"))["text"].startswith("line 0")


async def test_wait_until_output(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        handed = await call("execute", code="import time\ntime.sleep(1)\nprint('now')\ntime.sleep(60)", wait=0)
        id = handed["execution_id"]
        seen = await call("wait", execution_id=id, until="output", after=handed["seq"], wait=PATIENCE)
        assert seen["state"] == "running"
        assert seen["text"] == "now\n"
        assert (await call("stop", execution_id=id))["state"] == "interrupted"


async def test_a_prompt_is_answered_by_the_input_tool(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        asked = await call("execute", code="a = input('First: ')\nb = input('Second: ')\nprint(a, b)")
        assert asked["state"] == "awaiting_input"
        assert asked["input_request"] == {"prompt": "First: ", "password": False}
        id = asked["execution_id"]
        assert f"input(execution_id={id!r}, text=..., after={asked['seq']})" in asked["next"]
        again = await call("input", execution_id=id, text="one", after=asked["seq"])
        assert again["input_request"]["prompt"] == "Second: "
        assert "First" not in again["text"]
        ended = await call("input", execution_id=id, text="two")
        assert ended["state"] == "completed"
        assert ended["text"].endswith("one two\n")
        assert "is over" in await call.refuses("input", execution_id=id, text="three")
        assert "input needs text" in await call.refuses("input", execution_id=id)
        ahead = await call("execute", code="input() + input()", stdin=["x", "y"])
        assert ahead["text"].endswith("'xy'\n")
        asked = await call("execute", code="input()")
        assert (await call("input", execution_id=asked["execution_id"], eof=True))["error"]["ename"] == "EOFError"


@both_eras
async def test_a_prompt_is_put_to_the_person_where_the_client_can(
    broker: BrokerProcess, tmp_path: Path, era: str
) -> None:
    asked = []

    async def elicited(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"answer": f"answer {len(asked)}"})

    async with agent(broker, tmp_path, era=era, elicitation_callback=elicited) as call:
        code = "print(input('First: '))\nprint(input('Second: '))\nruns = globals().get('runs', 0) + 1\nruns"
        ended = await call("execute", code=code)
        assert asked == ["First:", "Second:"]
        assert ended["state"] == "completed"
        assert ended["text"].endswith("answer 2\n1\n")
        handed = await call("execute", code="import time\ntime.sleep(1)\ninput('Third: ')", wait=0)
        ended = await call("wait", execution_id=handed["execution_id"])
        assert ended["text"].endswith("'answer 3'\n")


@both_eras
async def test_a_secret_is_not_asked_for_by_elicitation(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async def elicited(context: Any, params: Any) -> ElicitResult:
        raise AssertionError(params.message)

    async with agent(broker, tmp_path, era=era, elicitation_callback=elicited) as call:
        for code in ("import getpass\ngetpass.getpass('Who? ')", "input('Your API key: ')"):
            asked = await call("execute", code=code)
            assert asked["state"] == "awaiting_input"
            assert f"jupyter broker attach {asked['execution_id']}" in asked["next"]
            assert (await call("stop", execution_id=asked["execution_id"]))["state"] == "interrupted"


async def test_a_person_who_will_not_answer_gives_the_model_control_back(
    broker: BrokerProcess, tmp_path: Path, era: str
) -> None:
    async def elicited(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="decline")

    async with agent(broker, tmp_path, era=era, elicitation_callback=elicited) as call:
        asked = await call("execute", code="input('Name: ')")
        assert asked["state"] == "awaiting_input"
        assert "input(execution_id=" in asked["next"]
        assert (await call("input", execution_id=asked["execution_id"], text="Ada"))["text"] == "Name: Ada\n'Ada'\n"


async def test_an_answer_that_comes_too_late_goes_to_no_other_prompt(
    broker: BrokerProcess, tmp_path: Path, era: str
) -> None:
    """Somebody at a terminal is quicker, and the code asks the same again."""
    answers = iter(["late", "for the second"])

    async def elicited(context: Any, params: Any) -> ElicitResult:
        answer = next(answers)
        if answer == "late":
            async with broker.connect() as wire:
                found = await wire.call("list_executions", session=str(tmp_path), state="awaiting_input")
                (running,) = found["executions"]
                await wire.call("send_stdin", execution_id=running["execution_id"], data="from the terminal")
        return ElicitResult(action="accept", content={"answer": answer})

    async with agent(broker, tmp_path, era=era, elicitation_callback=elicited) as call:
        ended = await call("execute", code="[input('Name: '), input('Name: ')]")
        assert ended["text"].endswith("['from the terminal', 'for the second']\n")


async def test_stop_interrupts_and_kills(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        handed = await call("execute", code="x = 1\nwhile True: pass", wait=0.5)
        stopped = await call("stop", execution_id=handed["execution_id"])
        assert (stopped["state"], stopped["kernel_state"]) == ("interrupted", "preserved")
        assert (await call("execute", code="x"))["text"] == "1\n"
        # One that catches it is named as such, and with it the way to end it.
        handed = await call("execute", code=STUBBORN, wait=1)
        id = handed["execution_id"]
        refused = await call("stop", execution_id=id)
        assert refused["state"] == "running"
        assert f"stop(execution_id={id!r}, kill=true)" in refused["next"]
        killed = await call("stop", execution_id=id, kill=True)
        assert (killed["state"], killed["kernel_state"]) == ("killed", "lost")
        assert "NameError" in await call.says("execute", code="x")


async def test_list_shows_what_is_not_over(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        handed = await call("execute", code="import time  # to be listed\ntime.sleep(60)", wait=0)
        ended = await call("execute", code="'over'")
        listed = (await call("list"))["executions"]
        (found,) = [each for each in listed if each["execution_id"] == handed["execution_id"]]
        assert found["session"] == str(tmp_path)
        assert found["title"] == "import time  # to be listed"
        assert ended["execution_id"] not in {each["execution_id"] for each in listed}
        everything = (await call("list", all=True))["executions"]
        assert ended["execution_id"] in {each["execution_id"] for each in everything}
        assert handed["execution_id"] in await call.says("list")
        await call("stop", execution_id=handed["execution_id"])


@pytest.mark.parametrize("size", [5, 300])
async def test_a_figure_is_image_content(broker: BrokerProcess, tmp_path: Path, era: str, size: int) -> None:
    # Noise does not compress: 300 pixels square are more than a reply has inline, and are fetched.
    code = f"""
import os, struct, zlib
from IPython.display import Image, display
def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = b"".join(b"\\0" + os.urandom({size} * 3) for _ in range({size}))
png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", {size}, {size}, 8, 2, 0, 0, 0))
png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
display(Image(png))
"""
    async with agent(broker, tmp_path, era=era) as call:
        result = await call.client.call_tool("execute", {"code": code})
        image = result.content[-1]
        assert image.type == "image"
        assert image.mime_type == "image/png"
        printed = await call("execute", code="import base64; base64.b64encode(png).decode()[:60]")
        assert image.data.startswith(printed["text"].strip().strip("'"))
        assert base64.b64decode(image.data).endswith(b"IEND\xaeB`\x82")
        assert not text(result).count(image.data[:100])


@both_eras
async def test_progress_is_told_to_a_client_that_wants_it(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    told: list[tuple[float, float | None, str]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message or ""))

    code = (
        "import time\nfor i in range(40):\n    print('step', i)\n    time.sleep(0.1)\n"
        "globals().setdefault('n', []).append(1)\nlen(n)"
    )
    async with agent(broker, tmp_path, era=era) as call:
        result = await call.client.call_tool("execute", {"code": code, "wait": 20}, progress_callback=hear)
        assert text(result).endswith("step 39\n1\n")
        assert len(told) >= 2
        assert [progress for progress, _, _ in told] == sorted({progress for progress, _, _ in told})
        assert {total for _, total, _ in told} == {20}
        assert any(message.startswith("step ") for _, _, message in told)
        told.clear()
        handed = await call("execute", code=code, wait=0)
        await call.client.call_tool("wait", {"execution_id": handed["execution_id"]}, progress_callback=hear)
        assert any(message.startswith("step ") for _, _, message in told)


async def test_code_without_end_hands_over_on_time(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        await call("execute", code="1")
        began = time.monotonic()
        handed = await call("execute", code="while True: pass", wait=1)
        assert 1 <= time.monotonic() - began < 3
        await call("stop", execution_id=handed["execution_id"])


async def test_calls_at_once_each_get_their_own(broker: BrokerProcess, tmp_path: Path, era: str) -> None:
    async with agent(broker, tmp_path, era=era) as call:
        results = await asyncio.gather(*(call("execute", code=f"print({n})\n{n} * {n}") for n in range(8)))
        assert [result["text"] for result in results] == [f"{n}\n{n * n}\n" for n in range(8)]
