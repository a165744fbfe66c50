"""Images, HTML, changing displays, colours, progress bars: events keep it all, `text` shows what a terminal would."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import nbformat

from ..running import Wire


def outputs(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == "output"]


async def test_an_image_is_in_its_event_and_only_referred_to_in_the_reply(wire: Wire, session: str) -> None:
    execution = await wire.execute(
        "import base64, os\n"
        "from IPython.display import display\n"
        "picture = os.urandom(750_000)\n"
        'display({"image/png": base64.b64encode(picture).decode(), "text/plain": "<a picture>"}, raw=True)\n'
        "import hashlib; print(hashlib.sha256(picture).hexdigest())",
        session=session,
    )
    assert execution["text"].startswith("<a picture>\n")
    assert len(json.dumps(execution)) < 5000
    reference = execution["outputs"][0]["metadata"]["broker"]["references"]["image/png"]
    assert reference["bytes"] > 1_000_000
    page = await wire.call("get_async_log", execution_id=execution["execution_id"], after=reference["seq"] - 1, limit=1)
    (event,) = page["events"]
    picture = base64.b64decode(event["content"]["data"]["image/png"])
    assert hashlib.sha256(picture).hexdigest() == execution["text"].split("\n")[1]


async def test_a_figure_of_matplotlib_is_an_image(wire: Wire, session: str) -> None:
    execution = await wire.execute(
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()",
        session=session,
        wait=120,
    )
    assert execution["state"] == "completed"
    assert "<Figure size" in execution["text"]
    images = [
        event
        for event in outputs(await wire.events(execution["execution_id"]))
        if "image/png" in event["content"].get("data", {})
    ]
    assert len(images) == 1
    assert base64.b64decode(images[0]["content"]["data"]["image/png"]).startswith(b"\x89PNG")


async def test_html_is_kept_and_its_plain_text_is_shown(wire: Wire, session: str) -> None:
    execution = await wire.execute("from IPython.display import HTML\nHTML('<b>bold</b>')", session=session)
    assert execution["text"] == "<IPython.core.display.HTML object>\n"
    assert execution["outputs"][0]["data"]["text/html"] == "<b>bold</b>"


async def test_a_display_that_changes_shows_its_last_state_and_keeps_every_one(wire: Wire, session: str) -> None:
    execution = await wire.execute(
        "handle = display('0%', display_id=True)\n"
        "print('between')\n"
        "for percent in (50, 100): handle.update(f'{percent}%')",
        session=session,
    )
    assert execution["text"] == "'100%'\nbetween\n"
    kinds = [event["msg_type"] for event in outputs(await wire.events(execution["execution_id"]))]
    assert sorted(kinds) == ["display_data", "stream", "update_display_data", "update_display_data"]


async def test_what_was_cleared_is_kept_but_not_shown(wire: Wire, session: str) -> None:
    execution = await wire.execute(
        "from IPython.display import clear_output\n"
        "for step in range(3):\n"
        "    clear_output(wait=True)\n"
        "    print('step', step, flush=True)\n",
        session=session,
    )
    assert execution["text"] == "step 2\n"
    assert [output["text"] for output in execution["outputs"]] == ["step 2\n"]
    printed = [e["content"].get("text") for e in outputs(await wire.events(execution["execution_id"]))]
    assert [text for text in printed if text] == ["step 0\n", "step 1\n", "step 2\n"]


async def test_a_traceback_is_coloured_in_its_event_and_plain_in_the_text(wire: Wire, session: str) -> None:
    execution = await wire.execute("def broken():\n    return 1 / 0\nbroken()", session=session)
    assert execution["state"] == "failed"
    assert execution["error"]["ename"] == "ZeroDivisionError"
    assert "\x1b[" in "".join(execution["error"]["traceback"])
    assert "\x1b" not in execution["text"]
    assert "ZeroDivisionError: division by zero" in execution["text"]
    assert "----> 1 def broken" not in execution["text"].splitlines()[0]


async def test_a_progress_bar_is_one_line_of_text_and_all_of_its_frames(wire: Wire, session: str) -> None:
    execution = await wire.execute(
        "import sys\n"
        "for n in range(101):\n"
        "    print(f'\\r{n:3d}%|{\"#\" * (n // 10)}', end='', file=sys.stderr, flush=True)\n"
        "print('\\ndone', file=sys.stderr)",
        session=session,
    )
    assert execution["text"] == "100%|##########\ndone\n"
    events = outputs(await wire.events(execution["execution_id"]))
    assert "".join(event["content"]["text"] for event in events).count("\r") == 101


async def test_a_session_can_be_had_as_a_notebook(wire: Wire, session: str, broker: Any) -> None:
    await wire.execute("x = 6", session=session)
    await wire.execute("print('seven')\nx * 7", session=session)
    status, headers, body = broker.request(f"api/broker/v1/sessions/{session}/notebook")
    assert status == 200
    assert headers["Content-Type"] == "application/x-ipynb+json"
    notebook = nbformat.reads(body.decode(), as_version=4)
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells] == ["x = 6", "print('seven')\nx * 7"]
    assert notebook.cells[1].outputs[1].data["text/plain"] == "42"
