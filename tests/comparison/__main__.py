"""``python -m tests.comparison [CASE ...] [--peers PEER,...] [--json FILE] [--markdown FILE]``: run, look, and say."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from .cases import CASES, observe
from .installs import Installs, NotInstalled
from .looking import Cell
from .peers import PEERS
from .table import MARKS, Seen, compact, document

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path(tempfile.gettempdir()))) / "jupyter-broker-comparison"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.comparison", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all, if none is named")
    parser.add_argument("--peers", metavar="PEER,...", help=f"of {', '.join(PEERS)}; all, if not given")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="what was seen; cells there that are not run again stay"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, metavar="DIR", help="where the peers are installed (%(default)s)"
    )
    options = parser.parse_args()
    peers = options.peers.split(",") if options.peers else list(PEERS)
    if unknown := [name for name in options.cases if name not in CASES] + [name for name in peers if name not in PEERS]:
        parser.error(f"there is no {', '.join(unknown)}: see --help")
    seen = Seen()
    if options.json and options.json.exists():
        seen = msgspec.json.decode(options.json.read_bytes(), type=Seen)
    console = Console(soft_wrap=True)
    installs = Installs(options.cache)
    for peer in peers:
        for case in options.cases or CASES:
            with console.status(f"{peer}: {case}"):
                cell = asyncio.run(look(peer, case, installs, seen))
            seen.cells.setdefault(case, {})[peer] = cell
            console.print(f"{MARKS[cell.verdict]} {peer}: {case}: {cell.words}", markup=False)
            if options.json:
                options.json.write_bytes(msgspec.json.format(msgspec.json.encode(seen)))
    if options.markdown:
        options.markdown.write_text(document(seen))
    console.print()
    console.print(compact(seen), markup=False)


async def look(peer: str, case: str, installs: Installs, seen: Seen) -> Cell:
    """One cell."""
    kind = PEERS[peer]
    try:
        # So that the time an installation takes is not the case's.
        seen.versions[peer] = await asyncio.to_thread(kind.installed, installs)
    except NotInstalled as why:
        seen.versions.setdefault(peer, "(not installed)")
        return Cell("not run", f"could not be installed: {why}", "not installed")
    return await observe(kind, CASES[case], installs)


if __name__ == "__main__":
    main()
