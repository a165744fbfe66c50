"""matplotlib's current figures, for each lane its own: one cell's end does not show, and close, another's."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import Any

from .cells import cells
from .interrupts import Lane


class _PerLane(MutableMapping[Any, Any]):
    """In place of ``Gcf.figs``, an ordered mapping from a figure's number to its manager."""

    def __init__(self) -> None:
        self._elsewhere: OrderedDict[Any, Any] = OrderedDict()

    @property
    def here(self) -> OrderedDict[Any, Any]:
        lane: Lane | None = cells.current().lane
        if lane is None:
            return self._elsewhere
        if lane.figures is None:
            lane.figures = OrderedDict()
        figures: OrderedDict[Any, Any] = lane.figures
        return figures

    def __getitem__(self, key: Any) -> Any:
        return self.here[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.here[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.here[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.here)

    def __len__(self) -> int:
        return len(self.here)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name == "here":
            return super().__getattribute__(name)
        # Its views are reversible, and it has an order that can be changed: an OrderedDict's own methods.
        return getattr(self.here, name)


def prepare() -> None:
    """Called at the end of a cell, before its figures are shown."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    backend = sys.modules.get("matplotlib_inline.backend_inline")
    if helpers is None or backend is None:
        return
    gcf: Any = helpers.Gcf  # type: ignore[attr-defined]
    if not isinstance(gcf.figs, _PerLane):
        figures, gcf.figs = gcf.figs, _PerLane()
        gcf.figs.update(figures)
    if gcf.figs.here and backend.InlineBackend.instance().close_figures:  # type: ignore[attr-defined]
        # Another cell's end may have taken back that there is something to draw.
        backend.show._draw_called = True  # type: ignore[attr-defined]
