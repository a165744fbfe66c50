"""What every application has in common, the server included: one configuration file, and one data directory."""

from __future__ import annotations

from jupyter_core.application import JupyterApp
from traitlets import Unicode

from .. import __version__
from ..discovery import DATA_DIR_VARIABLE


class Text(Unicode[str, "str | bytes"]):
    """A string, taken from the command line as it stands: code must keep its quotes and its tildes."""

    def from_string(self, s: str) -> str:
        """``s``."""
        return s


class BaseApp(JupyterApp):
    """An application of this package. Its settings may be in ``jupyter_broker_config.py``."""

    version = __version__
    config_file_name = "jupyter_broker_config"

    broker_data_dir = Text(
        help=f"The data directory of the broker that is meant; also {DATA_DIR_VARIABLE} in the environment. "
        "The default is `broker` in the Jupyter data directory.",
    ).tag(config=True)

    @property
    def data_dir_given(self) -> str | None:
        """The data directory, None for the default one."""
        return self.broker_data_dir or None
