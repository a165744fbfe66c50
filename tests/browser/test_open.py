"""``jupyter broker open``, with a program in the browser's place."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from ..running import TOKEN, BrokerProcess, Wire

BROWSER = """#!{python}
import pathlib, sys, urllib.request
here = pathlib.Path(__file__).parent
(here / "arguments").write_text(" ".join(sys.argv))
(here / "page").write_bytes(urllib.request.urlopen(sys.argv[1]).read())
"""


async def test_the_browser_gets_the_token_from_a_file_that_is_then_gone(
    broker: BrokerProcess, wire: Wire, session: str
) -> None:
    execution = await wire.execute("1", session=session)
    browser = broker.root / "browser"
    browser.write_text(BROWSER.format(python=sys.executable))
    browser.chmod(0o700)
    opened = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "broker", "open", execution["execution_id"], "--OpenApp.patience=1"],
        env={**broker.environment, "BROWSER": f"{browser} %s"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout == f"opening {broker.url}\n"
    page = (broker.root / "page").read_text()
    assert f"{broker.url}#token={TOKEN}&amp;execution={execution['execution_id']}" in page
    assert TOKEN not in (broker.root / "arguments").read_text()
    assert list((broker.root / "run").glob("broker-open-*")) == []
