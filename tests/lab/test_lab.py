"""What JupyterLab sees of the broker's kernels, over the wire it uses; and that it is harmed in nothing else."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import pytest
import websockets

from ..running import PATIENCE, TOKEN, CallFailed, Wire
from .server import ServerProcess, listed, opened

STEP = """
import time
print("first", flush=True)
{}
print("last", flush=True)
"""


async def begin(wire: Wire, session: str, code: str) -> str:
    """Start code that is handed over at once, and return when it has printed something."""
    execution = await wire.execute(code, session=session, wait=0)
    await wire.until(execution["execution_id"], lambda e: bool(e["outputs"]))
    return str(execution["execution_id"])


async def test_a_session_is_listed_under_its_name_and_kernel_id_for_as_long_as_it_is_open(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    known = await wire.call("get_session", session=session)
    found = await listed(server, session)
    assert found["kernel"]["id"] == known["kernel_id"]
    assert found["kernel"]["id"] in [kernel["id"] for kernel in server.api("GET", "kernels")[1]]
    execution = await wire.execute("input()", session=session)
    await listed(server, session, "busy")
    await wire.call("send_stdin", execution_id=execution["execution_id"], data="")
    await listed(server, session, "idle")
    await wire.call("close_session", session=session)
    assert session not in server.sessions()
    assert known["kernel_id"] not in [kernel["id"] for kernel in server.api("GET", "kernels")[1]]


async def test_kernels_that_are_kept_ready_are_nobodys_and_not_listed(server: ServerProcess, wire: Wire) -> None:
    kernels = {kernel["id"] for kernel in server.api("GET", "kernels")[1]}
    sessions = {each["kernel_id"] for each in (await wire.call("list_sessions"))["sessions"]}
    assert kernels <= sessions


async def test_whoever_opens_a_busy_kernel_is_let_in_at_once_and_sees_it_all_from_the_first_line(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    code = "for i in range(3000): print('line', i, flush=True)\ninput()\nprint('end')"
    execution = await wire.execute(code, session=session)
    assert execution["state"] == "awaiting_input"
    id = execution["execution_id"]
    began = time.monotonic()
    async with opened(server, (await listed(server, session, "busy"))["kernel"]["id"]) as kernel:
        reply = await kernel.reply(await kernel.send("kernel_info_request", {}))
        assert time.monotonic() - began < 1
        assert reply["type"] == "kernel_info_reply"
        await kernel.until(lambda m: m["type"] == "input_request")
        await wire.call("send_stdin", execution_id=id, data="")
        await kernel.idle(id)
        types = [m["type"] for m in kernel.of(id)]
        assert types[:3] == ["status", "status", "execute_input"]
        assert kernel.of(id, "execute_input")[0]["content"] == {"code": code, "execution_count": 1}
        printed = [m["content"]["text"] for m in kernel.of(id, "stream") if m["content"]["name"] == "stdout"]
        assert "".join(printed) == "".join(f"line {i}\n" for i in range(3000)) + "\nend\n"
        # JupyterLab drops messages that come before one with another session.
        assert len({m["header"]["session"] for m in kernel.messages}) == 1


async def test_an_execution_that_begins_later_is_seen_live_and_in_order(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    async with opened(server, (await listed(server, session))["kernel"]["id"]) as kernel:
        await kernel.until(lambda m: m["type"] == "status")
        execution = await wire.execute("print(1)\nimport sys\nprint(2, file=sys.stderr)\n3", session=session)
        id = execution["execution_id"]
        await kernel.idle(id)
        shown = [m["type"] for m in kernel.of(id)]
        assert shown == ["status", "execute_input", "stream", "stream", "execute_result", "status"]
        assert kernel.of(id, "execute_result")[0]["content"]["data"] == {"text/plain": "3"}


async def test_a_flood_is_seen_whole(server: ServerProcess, wire: Wire, session: str) -> None:
    async with opened(server, (await listed(server, session))["kernel"]["id"]) as kernel:
        execution = await wire.execute("for i in range(100_000): print(i, '.' * 50)", session=session, wait=0)
        await kernel.idle(execution["execution_id"])
        assert kernel.text(execution["execution_id"]) == "".join(f"{i} {'.' * 50}\n" for i in range(100_000))


async def test_what_is_below_a_long_text_comes_in_few_pieces(server: ServerProcess, wire: Wire, session: str) -> None:
    code = "import time\nprint('.' * 1_500_000)\nfor i in range(60): print(i, flush=True); time.sleep(0.05)"
    async with opened(server, (await listed(server, session))["kernel"]["id"]) as kernel:
        execution = await wire.execute(code, session=session)
        id = execution["execution_id"]
        await kernel.idle(id)
        assert kernel.text(id) == "." * 1_500_000 + "\n" + "".join(f"{i}\n" for i in range(60))
        below = [message for message in kernel.of(id, "stream") if len(message["content"]["text"]) < 1000]
        assert len(below) < 20, "with each piece JupyterLab draws all of the text anew"


async def test_images_buffers_and_changing_displays_are_seen(server: ServerProcess, wire: Wire, session: str) -> None:
    code = """
from IPython.display import display, Image
from IPython import get_ipython
handle = display("before", display_id=True)
display(Image(data=b"\\x89PNG", format="png"))
get_ipython().kernel.session.send(get_ipython().kernel.iopub_socket, "comm_open",
    {"comm_id": "c", "target_name": "t", "data": {}}, parent=get_ipython().kernel.get_parent(), buffers=[b"\\0\\1"],
    metadata={"version": "2.1.0"})
print("printed")
for step in range(50): handle.update(f"step {step}")
input("Go on? ")
"""
    execution = await wire.execute(code, session=session)
    id = execution["execution_id"]
    async with opened(server, (await listed(server, session, "busy"))["kernel"]["id"]) as kernel:
        await kernel.until(lambda m: m["type"] == "clear_output")
        await kernel.until(lambda m: m["content"].get("data") == {"text/plain": "'step 49'"})
        images = [
            m["content"]["data"]["image/png"]
            for m in kernel.of(id, "display_data")
            if m["content"]["data"].get("image/png")
        ]
        assert {base64.b64decode(image) for image in images} == {b"\x89PNG"}
        (opened_comm,) = kernel.of(id, "comm_open")
        assert (opened_comm["buffers"], opened_comm["metadata"]) == ([b"\0\1"], {"version": "2.1.0"})
        assert not kernel.of(id, "update_display_data"), "a console cannot show it for another's cell"

        def drawn() -> str:
            """What was drawn last, as text."""
            messages = kernel.of(id)
            last = max(index for index, m in enumerate(messages) if m["type"] == "clear_output")
            return "".join(m["content"]["text"] for m in messages[last:] if m["type"] == "stream")

        # All of it, once; and, as before, where it can be answered.
        await kernel.until(lambda m: "jupyter broker stdin" in drawn())
        assert drawn().startswith("printed\nGo on? \n[it waits for input")
        assert drawn().count("jupyter broker stdin") == 1
        await wire.call("send_stdin", execution_id=id, data="yes")
        await kernel.idle(id)
        assert kernel.text(id).endswith("yes\n")


async def test_a_prompt_can_be_answered_by_whoever_shows_it(server: ServerProcess, wire: Wire, session: str) -> None:
    execution = await wire.execute("print('Hello', input('Name: ')); input('Well? ')", session=session)
    async with opened(server, (await listed(server, session, "busy"))["kernel"]["id"]) as kernel:
        asked = await kernel.until(lambda m: m["type"] == "input_request")
        assert asked["channel"] == "stdin"
        assert asked["content"] == {"prompt": "Name: ", "password": False}
        assert asked["parent"]["msg_id"] == execution["execution_id"]
        await kernel.send("input_reply", {"value": "Ada"}, "stdin", asked["header"])
        await kernel.until(lambda m: m["content"].get("prompt") == "Well? ")
        await wire.call("send_stdin", execution_id=execution["execution_id"], data="yes")
        over = await wire.until(execution["execution_id"], lambda e: bool(e["finished_at"]))
        assert over["text"] == "Name: Ada\nHello Ada\nWell? yes\n'yes'\n"
        await kernel.idle(execution["execution_id"])
        said = "".join(m["content"].get("text", "") for m in kernel.messages)
        assert said.count("jupyter broker stdin") == 1, "where one answers is said once"
    events = await wire.events(execution["execution_id"])
    assert [e["value"] for e in events if e["type"] == "input_reply"] == ["Ada", "yes"], "it is on record"


async def test_a_persons_cell_runs_beside_the_agents_and_comes_from_the_kernel(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    id = await begin(wire, session, "x = 1\nprint('x')\nwhile x == 1: pass")
    async with opened(server, (await listed(server, session, "busy"))["kernel"]["id"]) as kernel:
        own = await kernel.execute("print('mine', x)\nx = 2")
        await kernel.idle(own)
        await kernel.reply(own)
        assert kernel.text(own) == "mine 1\n"
        assert [m["type"] for m in kernel.of(own) if m["channel"] == "iopub"] == [
            "status",
            "execute_input",
            "stream",
            "status",
        ]
        assert (await wire.done(id))["state"] == "completed"
        await kernel.idle(id)
        assert kernel.text(id) == "x\n"


async def test_a_kernel_is_busy_to_a_person_whose_own_cell_ends_while_the_agents_runs(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    id = await begin(wire, session, "x = 1\nprint('x')\nwhile x == 1: pass")
    async with opened(server, (await listed(server, session, "busy"))["kernel"]["id"]) as kernel:
        await kernel.until(lambda m: m["type"] == "stream")

        def states() -> list[tuple[str, str]]:
            return [
                (m["parent"]["msg_id"], m["content"]["execution_state"])
                for m in kernel.messages
                if m["type"] == "status"
            ]

        for own in (await kernel.execute("1"), await kernel.send("comm_info_request", {})):
            await kernel.idle(own)
            await kernel.until(lambda _, own=own: (id, "busy") in states()[states().index((own, "idle")) :])
        last = await kernel.execute("x = 2")
        await kernel.idle(last)
        await kernel.until(lambda _: (id, "idle") in states())
        assert states()[-1][1] == "idle"


async def test_a_persons_cell_is_on_record_and_other_people_see_it_once(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    kernel_id = (await listed(server, session))["kernel"]["id"]
    async with opened(server, kernel_id) as one, opened(server, kernel_id) as other:
        for kernel in (one, other):
            await kernel.reply(await kernel.send("kernel_info_request", {}))
        own = await one.execute("print('Hello', input('Name: '))")
        asked = await one.until(lambda m: m["type"] == "input_request")
        await one.send("input_reply", {"value": "Ada"}, "stdin", asked["header"])
        await one.idle(own)
        assert one.text(own) == "Hello Ada\n", "its prompt is the person's to answer"
        await other.idle(own)
        assert [m["type"] for m in other.of(own)].count("execute_input") == 1
        assert "Hello Ada\n" in other.text(own)
    record = await wire.call("get_execution", execution_id=own)
    assert (record["origin"], record["state"]) == ("jupyter", "completed")


async def test_a_person_who_comes_back_has_what_their_cell_printed_meanwhile(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    kernel_id = (await listed(server, session))["kernel"]["id"]
    code = "import time\nfor i in range(20): print('line', i, flush=True); time.sleep(0.1)"
    async with opened(server, kernel_id) as kernel:
        own = await kernel.execute(code)
        await kernel.until(lambda m: m["type"] == "stream")
    async with opened(server, kernel_id, kernel.session) as back:
        await back.idle(own)
        await back.reply(own)
        assert kernel.text(own) + back.text(own) == "".join(f"line {i}\n" for i in range(20))


async def test_a_person_may_shut_down_a_kernel_in_which_only_their_own_cell_runs(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    kernel_id = (await listed(server, session))["kernel"]["id"]
    async with opened(server, kernel_id) as kernel:
        own = await kernel.execute("import time; time.sleep(1000)")
        await listed(server, session, "busy")
        assert server.api("DELETE", f"kernels/{kernel_id}")[0] == 204
        await kernel.until(lambda m: m["content"].get("execution_state") == "dead")
    record = await wire.call("get_execution", execution_id=own)
    assert record["state"] == "killed"


async def test_interrupt_is_the_brokers_and_on_record(server: ServerProcess, wire: Wire, session: str) -> None:
    id = await begin(wire, session, STEP.format("import time; time.sleep(1000)"))
    kernel_id = (await listed(server, session, "busy"))["kernel"]["id"]
    assert server.api("POST", f"kernels/{kernel_id}/interrupt")[0] == 204
    execution = await wire.done(id)
    assert execution["state"] == "interrupted"
    assert execution["kernel_state"] == "preserved"
    await listed(server, session, "idle")


async def test_a_kernel_in_which_something_runs_is_not_shut_down_and_it_is_said_why(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    id = await begin(wire, session, STEP.format("import time; time.sleep(1000)"))
    found = await listed(server, session, "busy")
    events = f"{server.url.replace('http', 'ws', 1)}api/events/subscribe"
    async with (
        opened(server, found["kernel"]["id"]) as kernel,
        websockets.connect(events, additional_headers={"Authorization": f"token {TOKEN}"}) as emitted,
    ):
        await kernel.until(lambda m: m["type"] == "stream")
        for path in (f"kernels/{found['kernel']['id']}", f"sessions/{found['id']}"):
            status, answer = server.api("DELETE", path)
            assert status == 409
            assert id in answer["message"]
            assert "was not shut down" in answer["message"]
        await kernel.until(lambda m: "was not shut down" in m["content"].get("text", ""))
        told = json.loads(await asyncio.wait_for(emitted.recv(), PATIENCE))
        assert (told["action"], told["status"], told["msg"]) == ("shutdown", "error", answer["message"])
    assert (await wire.call("get_execution", execution_id=id))["state"] == "running"
    assert server.sessions()[session]["id"] == found["id"]
    await wire.call("interrupt", execution_id=id)
    assert server.api("DELETE", f"sessions/{found['id']}")[0] == 204
    assert session not in server.sessions()
    known = (await wire.call("list_sessions"))["sessions"]
    assert session not in [each["name"] for each in known], "with nothing running, that closes the session"


async def test_a_notebook_that_gets_another_kernel_leaves_the_sessions_alone(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    await wire.execute("kept = 1", session=session)
    found = await listed(server, session)
    await asyncio.to_thread(server.until, lambda: f"{session}.ipynb" in server.sessions())
    path = f"sessions/{server.sessions()[f'{session}.ipynb']['id']}"
    for code in ("pass", "import time; time.sleep(1000)"):
        execution = await wire.execute(code, session=session, wait=0.2)
        status, answer = server.api("PATCH", path, {"kernel": {"name": "python3"}})
        assert status == 200, answer
        another = answer["kernel"]["id"]
        assert another != found["kernel"]["id"]
        status, answer = server.api("PATCH", path, {"kernel": {"id": found["kernel"]["id"]}})
        assert (status, answer["kernel"]["id"]) == (200, found["kernel"]["id"])
        assert server.api("GET", f"kernels/{another}")[0] == 404, "any other is shut down, as ever"
    await wire.call("interrupt", execution_id=execution["execution_id"])
    assert (await wire.execute("kept", session=session))["text"] == "1\n"
    assert server.api("DELETE", path)[0] == 204
    with pytest.raises(CallFailed, match=session):
        await wire.call("get_session", session=session)


async def test_restart_is_the_brokers_and_those_who_watch_are_told_to_connect_anew(
    server: ServerProcess, wire: Wire, session: str
) -> None:
    id = await begin(wire, session, STEP.format("import time; time.sleep(1000)"))
    kernel_id = (await listed(server, session, "busy"))["kernel"]["id"]
    async with opened(server, kernel_id) as kernel:
        assert server.api("POST", f"kernels/{kernel_id}/restart")[0] == 200
        await kernel.until(lambda m: m["content"].get("execution_state") == "restarting")
    execution = await wire.done(id)
    assert execution["state"] == "killed"
    assert execution["kernel_state"] == "lost"
    assert (await listed(server, session))["kernel"]["id"] == kernel_id
    async with opened(server, kernel_id) as kernel:
        own = await kernel.execute("print('x' in globals())")
        await kernel.idle(own)
        assert kernel.text(own) == "False\n"


async def test_the_end_of_a_kernel_is_told_to_those_who_watch(server: ServerProcess, wire: Wire, session: str) -> None:
    async with opened(server, (await listed(server, session))["kernel"]["id"]) as kernel:
        await kernel.until(lambda m: m["type"] == "status")
        execution = await wire.execute("import os; os._exit(3)", session=session)
        assert execution["state"] == "lost"
        await kernel.until(lambda m: m["content"].get("execution_state") == "dead")
    assert session not in server.sessions()
    await wire.execute("1", session=session)
    await listed(server, session)


async def test_a_stock_kernel_is_watched_too_and_opens_at_once_while_it_is_busy(
    server: ServerProcess, wire: Wire
) -> None:
    await wire.call("create_session", name="stocky", kernel="stock")
    id = await begin(wire, "stocky", STEP.format("import time; time.sleep(1000)"))
    kernel_id = (await listed(server, "stocky", "busy"))["kernel"]["id"]
    began = time.monotonic()
    async with opened(server, kernel_id) as kernel:
        request = await kernel.send("kernel_info_request", {})
        reply = await kernel.reply(request)
        await kernel.idle(request)
        assert time.monotonic() - began < 1
        assert reply["content"]["implementation"] == "ipython"
        await kernel.until(lambda m: m["type"] == "stream" and "first" in m["content"]["text"])
        assert server.api("POST", f"kernels/{kernel_id}/interrupt")[0] == 204
        await kernel.idle(id)
        assert kernel.of(id, "error")[0]["content"]["ename"] == "KeyboardInterrupt"
        assert len({m["header"]["session"] for m in kernel.messages}) == 1


async def test_a_kernel_that_a_person_starts_is_as_it_was_without_the_broker(server: ServerProcess, wire: Wire) -> None:
    _, started = server.api("POST", "kernels", {"name": "python3"})
    ours = [each["kernel_id"] for each in (await wire.call("list_sessions"))["sessions"]]
    assert started["id"] not in ours
    connection = next((server.root / "run").glob(f"kernel-{started['id']}.json")).read_text()
    assert '"transport": "tcp"' in connection, "it listens where the server's kernels do"
    async with opened(server, started["id"]) as kernel:
        await kernel.reply(await kernel.send("kernel_info_request", {}))
        asks = await kernel.execute("print('hi', input('? '))")
        asked = await kernel.until(lambda m: m["type"] == "input_request")
        await kernel.send("input_reply", {"value": "there"}, "stdin", asked["header"])
        await kernel.idle(asks)
        assert kernel.text(asks) == "hi there\n"
        busy = await kernel.execute("import time; time.sleep(1000)")
        await kernel.until(lambda m: m["type"] == "execute_input" and m["parent"]["msg_id"] == busy)
        assert server.api("POST", f"kernels/{started['id']}/interrupt")[0] == 204
        assert (await kernel.reply(busy))["content"]["ename"] == "KeyboardInterrupt"
        assert server.api("POST", f"kernels/{started['id']}/restart")[0] == 200
        assert server.api("GET", f"kernels/{started['id']}")[1]["id"] == started["id"]
    assert server.api("DELETE", f"kernels/{started['id']}")[0] == 204
    assert started["id"] not in [each["id"] for each in server.api("GET", "kernels")[1]]
