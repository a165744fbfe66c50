"""A cell that a person ran somewhere else: in the end the notebook has it, too."""

from __future__ import annotations

import asyncio

from jupyter_client.blocking.client import BlockingKernelClient

from broker.composition import Composition

from ..running import PATIENCE
from .test_live import until


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
