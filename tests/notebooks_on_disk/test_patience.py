"""A cell that a person ran somewhere else: in the end the notebook has it, too."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from broker.composition import Composition, Settings
from broker.kernel.manager import make_manager
from broker.notebooks import Notebooks

from ..running import PATIENCE
from .test_live import until


@pytest.fixture
async def composition(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Composition]:
    """A broker in this process, with a front door for nobody."""
    root = Path(tempfile.mkdtemp(prefix="jb-"))
    for variable in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(root / variable.lower()[-8:]))
    (root / "data").mkdir()
    made = Composition(root / "data", make_manager, Settings(pool_size=0))
    made.readers.append(Notebooks(made.broker, root / "notebooks", patience=0.5))
    made.start()
    yield made
    for runner in made.broker.runners:
        await made.broker.close_session(runner)
    await made.stop()
    await made.close()
    shutil.rmtree(root)


async def test_what_nobody_saves_is_added_when_it_was_waited_for(composition: Composition) -> None:
    session = await composition.broker.create_session("me", name="work")
    client = BlockingKernelClient(connection_file=session.connection_file)
    client.load_connection_file()
    client.start_channels()
    try:
        await asyncio.to_thread(client.execute_interactive, "print('in a console')", timeout=PATIENCE)
    finally:
        client.stop_channels()
    path = composition.data_dir.parent / "notebooks" / "work.ipynb"
    notebook = await until(path, lambda n: n.cells)
    (cell,) = notebook.cells
    assert (cell.source, cell.metadata.broker.origin) == ("print('in a console')", "jupyter")
    assert cell.outputs[0].text == "in a console\n"
