"""The three machines: every transition of the tables, and that any other raises and changes nothing."""

from __future__ import annotations

import itertools

import pytest

from broker.core.state import (
    ATTACHMENT_TRANSITIONS,
    ENDED,
    RUN_TRANSITIONS,
    Attachment,
    IllegalTransition,
    Run,
    advance,
    detach,
)


@pytest.mark.parametrize(("run", "to"), list(itertools.product(Run, Run)))
def test_run_goes_where_its_table_leads_and_nowhere_else(run: Run, to: Run) -> None:
    if to in RUN_TRANSITIONS[run]:
        assert advance(run, to) is to
    else:
        with pytest.raises(IllegalTransition):
            advance(run, to)


def test_every_state_has_a_row_and_what_has_ended_goes_nowhere() -> None:
    assert set(RUN_TRANSITIONS) == set(Run)
    assert all(not RUN_TRANSITIONS[ended] for ended in ENDED)
    assert set(ATTACHMENT_TRANSITIONS) == set(Attachment)


def test_every_state_can_end() -> None:
    for run in set(Run) - ENDED:
        assert RUN_TRANSITIONS[run] & ENDED


def test_attachment_goes_one_way() -> None:
    assert detach(Attachment.ATTACHED) is Attachment.DETACHED
    with pytest.raises(IllegalTransition):
        detach(Attachment.DETACHED)
