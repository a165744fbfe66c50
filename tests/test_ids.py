from __future__ import annotations

from broker.ids import looks_like_session_id, new_id, new_session_id


def test_ids_sort_by_time_and_are_never_the_same() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {len(id) for id in ids} == {16}


def test_a_sessions_id_is_told_from_a_name() -> None:
    assert looks_like_session_id(new_session_id())
    assert not any(map(looks_like_session_id, ["default", "s-", "s-mine", "s-a-longer-name-xx", new_id()]))
