"""What every application has in common, the server included: one configuration file, and one data directory."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from jupyter_core.application import JupyterApp
from traitlets import Unicode
from traitlets.config.loader import KVArgParseConfigLoader

from .. import __version__
from ..discovery import DATA_DIR_VARIABLE


class Text(Unicode[str, "str | bytes"]):
    """A string, taken from the command line as it stands: code must keep its quotes and its tildes."""

    def from_string(self, s: str) -> str:
        """``s``."""
        return s


class StrictLoader(KVArgParseConfigLoader):
    """Refuses an option that there is not. traitlets would warn, and go on in another session, say, than was meant."""

    title = "jupyter broker"

    def _handle_unrecognized_alias(self, arg: str) -> NoReturn:
        print(f"{self.title}: there is no option {arg!r}; `{self.title} --help` lists them", file=sys.stderr)
        sys.exit(2)


class BaseApp(JupyterApp):
    """An application of this package. Its settings may be in ``jupyter_broker_config.py``."""

    version = __version__
    config_file_name = "jupyter_broker_config"

    broker_data_dir = Text(
        help=f"The data directory of the broker that is meant; also {DATA_DIR_VARIABLE} in the environment. "
        "The default is `broker` in the Jupyter data directory.",
    ).tag(config=True)

    @property
    def title(self) -> str:
        """The command as it is typed."""
        return str(self.name).replace("jupyter-broker-", "jupyter broker ")

    @property
    def data_dir_given(self) -> str | None:
        """The data directory, None for the default one."""
        return self.broker_data_dir or None

    def _create_loader(self, argv: Any, aliases: Any, flags: Any, classes: Any) -> KVArgParseConfigLoader:
        loader = StrictLoader(argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands)
        loader.title = self.title
        return loader
