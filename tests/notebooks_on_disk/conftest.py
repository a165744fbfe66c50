"""A broker in this process, for what cannot be seen from outside."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.composition import Composition, Settings
from broker.kernel.manager import make_manager
from broker.notebooks import Notebooks


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
