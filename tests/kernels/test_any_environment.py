"""Any environment that has ipykernel gets our kernel, by its own interpreter, with nothing installed into it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.kernel.launcher import DIRECTORY

from ..kernelspecs import install, install_ipykernel, install_python
from ..running import BrokerProcess, CallFailed


def make_environment(root: Path) -> Path:
    """A virtual environment with the packages of this one, but for the broker. Returns its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    (site,) = root.glob("lib/python*/site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not (path.name.startswith(("broker", "jupyter_broker", "_")) or path.suffix == ".pth"):
            (site / path.name).symlink_to(path)
    return site


def make_old(site: Path) -> None:
    """Let its ipykernel say that it is an old one."""
    package = site / "ipykernel"
    real = package.resolve()
    package.unlink()
    package.mkdir()
    for path in real.iterdir():
        if path.name not in ("_version.py", "__pycache__"):
            (package / path.name).symlink_to(path)
    version = (real / "_version.py").read_text()
    (package / "_version.py").write_text(version + '\n__version__ = "6.29.5"\nversion_info = (6, 29, 5)\n')


@pytest.fixture
def with_environment(start_broker: Callable[..., BrokerProcess], tmp_path: Path) -> tuple[BrokerProcess, Path]:
    broker = start_broker("--pool-size=0")
    site = make_environment(tmp_path / "env")
    argv = [str(tmp_path / "env" / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    install(broker, "elsewhere", argv)
    return broker, site


async def test_another_environment_s_ipykernel_keeps_all_promises(with_environment: tuple[BrokerProcess, Path]) -> None:
    broker, site = with_environment
    async with broker.connect() as wire:
        session = await wire.call("create_session", name="s", kernel="elsewhere")
        assert session["promises"]
        assert all(session["promises"].values())
        code = "import sys, importlib.util\nprint(sys.prefix, importlib.util.find_spec('broker'), sys.path)"
        execution = await wire.execute(code, session="s")
        prefix, spec, _ = execution["text"].split(" ", 2)
        assert (prefix, spec) == (str(site.parents[2]), "None")
        assert "kernels" not in execution["text"]
        detached = await wire.execute("input()", session="s", wait=0)
        assert (await wire.execute("1", session="s"))["state"] == "completed"
        await wire.call("kill", execution_id=detached["execution_id"])


async def test_an_ipykernel_that_is_too_old_runs_as_it_is_and_promises_nothing(
    with_environment: tuple[BrokerProcess, Path],
) -> None:
    broker, site = with_environment
    make_old(site)
    async with broker.connect() as wire:
        session = await wire.call("create_session", name="s", kernel="elsewhere")
        assert not any(session["promises"].values())
        execution = await wire.execute("import ipykernel\nprint(ipykernel.__version__)", session="s")
        assert execution["text"] == "6.29.5\n"
    assert not list((broker.root / "run").rglob("*.outbox"))


async def test_a_kernelspec_that_asks_for_the_stock_kernel_gets_it(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--pool-size=0")
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    install(broker, "asks", argv, metadata={"jupyter-broker": {"launcher": "stock"}})
    install_ipykernel(broker, "otherwise", "pass")
    async with broker.connect() as wire:
        for kernel in ("asks", "otherwise"):
            session = await wire.call("create_session", name=kernel, kernel=kernel)
            assert not any(session["promises"].values())
            assert (await wire.execute("print(6 * 7)", session=kernel))["text"] == "42\n"


async def test_the_kernelspec_that_is_installed_with_the_broker_keeps_all_promises(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker("--pool-size=0", "--ServeApp.start_timeout=20")
    assert DIRECTORY is not None
    # As the package installs it: a copy, away from the broker's own.
    shutil.copytree(DIRECTORY, broker.root / "data" / "kernels" / "jupyter-broker-python")
    async with broker.connect() as wire:
        session = await wire.call("create_session", name="s", kernel="jupyter-broker-python")
        assert session["promises"]
        assert all(session["promises"].values())
        assert (await wire.execute("print(6 * 7)", session="s"))["text"] == "42\n"


async def test_a_kernelspec_that_starts_a_copy_of_the_launcher_unknown_to_the_broker_is_as_any_other(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker("--pool-size=0")
    assert DIRECTORY is not None
    copy = broker.root / "copy"
    shutil.copytree(DIRECTORY, copy)
    install(broker, "older", [sys.executable, str(copy / "launch.py"), "-f", "{connection_file}"])
    async with broker.connect() as wire:
        assert (await wire.call("create_session", name="s", kernel="older"))["promises"] == {}
        asking = await wire.execute("print(6 * int(input()))", session="s", stdin=["7"])
        assert asking["text"].endswith("42\n")


async def test_what_a_kernelspec_says_of_interpreter_arguments_and_environment_holds(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path
) -> None:
    broker = start_broker("--pool-size=0")
    argv = [sys.executable, "-X", "utf8", "-m", "ipykernel_launcher", "-f", "{connection_file}", "--Kernel.banner=x"]
    install(broker, "arguments", argv, env={"FROM_THE_SPEC": "yes"})
    code = "import sys, os\nprint(sys.flags.utf8_mode, os.environ['FROM_THE_SPEC'], os.getcwd())"
    async with broker.connect() as wire:
        execution = await wire.execute(code, session="s", kernel="arguments", working_directory=str(tmp_path))
        assert execution["text"] == f"1 yes {tmp_path}\n"


async def test_a_kernel_whose_launcher_fails_says_why(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--pool-size=0")
    install_python(broker, "broken", "raise SystemExit('no such luck')")
    async with broker.connect() as wire:
        with pytest.raises(CallFailed, match="no such luck"):
            await wire.call("create_session", name="s", kernel="broken")
