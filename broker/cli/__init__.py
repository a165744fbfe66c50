"""The command line: ``jupyter broker``, an application of traitlets as every ``jupyter`` command is.

One module has one command, or a few that are alike; :mod:`broker.cli.command` is what they share.
"""

from __future__ import annotations

import sys
from inspect import cleandoc
from typing import Any

from jupyter_core.application import JupyterApp

from .. import __version__

_COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("broker.cli.run.RunApp", "Run code and show its output; starts a broker if none is running."),
    "attach": ("broker.cli.attach.AttachApp", "Show an execution from its start, and go on as `run` does."),
    "logs": ("broker.cli.logs.LogsApp", "Print what an execution has printed."),
    "ps": ("broker.cli.tables.PsApp", "List executions."),
    "sessions": ("broker.cli.tables.SessionsApp", "List sessions and their kernels."),
    "report": ("broker.cli.tables.ReportApp", "Say how each running execution stands."),
    "stdin": ("broker.cli.control.StdinApp", "Answer an execution that asks for input."),
    "interrupt": ("broker.cli.control.InterruptApp", "Interrupt an execution; its kernel and state stay."),
    "kill": ("broker.cli.control.KillApp", "End an execution, with its kernel if nothing less helps."),
    "open": ("broker.cli.open.OpenApp", "Open the broker's page in a browser."),
    "mcp": ("broker.mcp.command.McpApp", "Serve the broker's tools to an agent, by MCP on stdin and stdout."),
    "serve": ("broker.app.ServeApp", "Run a broker in the foreground."),
    "stop": ("broker.cli.stop.StopApp", "End the broker; kernels run on, unless told otherwise."),
}

_NO_OPTIONS: dict[str, Any] = {}


class BrokerApp(JupyterApp):
    """The root: it finds the command that is meant."""

    name = "jupyter-broker"
    version = __version__
    description = """Run code on Jupyter kernels: no execution ever times out, and nothing it prints is lost.

    Executions belong to a broker, which outlives the terminal they were started from. `jupyter broker run` starts
    one when none is running.
    """
    examples = cleandoc("""
    jupyter broker run -c 'print("hello")'        run code, see what it prints
    jupyter broker run train.py                   the same with a file; Ctrl-C leaves it running
    jupyter broker ps                             what runs
    jupyter broker attach 06f3                    see it again; a unique beginning of its id is enough
    jupyter broker logs -f 06f3                   or read along without answering its prompts
    jupyter broker run --help                     all about one command
    """)
    subcommand_description = "`jupyter broker COMMAND --help` tells more of each."
    subcommands = _COMMANDS
    config_file_name = "jupyter_broker_config"
    aliases = _NO_OPTIONS
    flags = _NO_OPTIONS

    def _find_subcommand(self, name: str) -> str:
        # JupyterApp would look for a program of that name in the path.
        return ""

    def start(self) -> None:
        """Run the command, or tell what commands there are."""
        super().start()
        if self.extra_args:
            print(
                f"jupyter broker: there is no command {self.extra_args[0]!r}; see `jupyter broker --help`",
                file=sys.stderr,
            )
            self.exit(2)
        self.print_help()


def main() -> None:
    """The entry point of ``jupyter broker``."""
    BrokerApp.launch_instance()
