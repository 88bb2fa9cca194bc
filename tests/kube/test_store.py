"""Merging news from a watch, from lists and from the answers to our own writes."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.kube.resources import CONFIG_MAP
from hosted_cp.kube.store import Store
from hosted_cp.planning.observed import Observed


def seen(name: str = "a", *, version: int, uid: str = "u1", owner: str = "") -> Observed:
    ref = CONFIG_MAP.ref("ns", name)
    return Observed(ref=ref, uid=uid, resource_version=str(version), controller_uid=owner, raw=b'{"a":1}')


def version_of(store: Store, name: str = "a") -> str | None:
    found = store.get("ns", name)
    return found.resource_version if found else None


def test_the_echo_of_our_own_write_is_no_news() -> None:
    store = Store(CONFIG_MAP)
    assert store.offer(seen(version=5), fed=True) is not None
    assert store.offer(seen(version=5)) is None
    assert store.offer(seen(version=4)) is None
    assert store.offer(seen(version=6)) is not None


def test_an_answer_that_comes_after_the_end_does_not_bring_the_object_back() -> None:
    store = Store(CONFIG_MAP)
    store.offer(seen(version=5))
    store.gone(("ns", "a"), uid="u1", version="7")
    store.told("", "7")
    assert store.offer(seen(version=6), fed=True) is None
    assert version_of(store) is None
    assert store.offer(seen(version=8, uid="u2"), fed=True) is not None


def test_what_we_have_deleted_stays_so_while_the_watch_catches_up() -> None:
    store = Store(CONFIG_MAP)
    store.offer(seen(version=5))
    assert store.gone(("ns", "a"), uid="u1") is not None
    assert store.offer(seen(version=6)) is None
    assert store.gone(("ns", "a"), uid="u1", version="9") is None
    assert store.offer(seen(version=10, uid="u2")) is not None
    assert store.gone(("ns", "a"), uid="u1") is None, "the end of another life"
    assert version_of(store) == "10"


def test_a_list_removes_only_what_is_not_newer() -> None:
    store = Store(CONFIG_MAP)
    store.offer(seen("old", version=5))
    store.offer(seen("ours", version=12, uid="u2"), fed=True)
    gone = store.listed("", set(), "10")
    assert [change.name for change in gone] == [("ns", "old")]
    assert version_of(store, "ours") == "12"


def test_indexes_follow() -> None:
    store = Store(CONFIG_MAP)
    store.offer(seen("a", version=1, owner="o1"))
    store.offer(seen("b", version=2, uid="u2", owner="o1"))
    assert [each.ref.name for each in store.by("controller", "o1")] == ["a", "b"]
    store.offer(seen("a", version=3, owner="o2"))
    assert [each.ref.name for each in store.by("controller", "o1")] == ["b"]
    store.index("initial", lambda each: each.ref.name[:1])
    assert [each.ref.name for each in store.by("initial", "b")] == ["b"]
    store.gone(("ns", "b"), uid="u2", version="9")
    assert store.by("initial", "b") == ()


def test_what_a_reader_decodes_does_not_stay_in_the_cache() -> None:
    store = Store(CONFIG_MAP)
    store.offer(seen(version=1))
    found = store.get("ns", "a")
    assert found is not None
    assert found.body == {"a": 1}
    again = store.get("ns", "a")
    assert again is not None
    assert "body" in found.__dict__
    assert "body" not in again.__dict__
    assert dataclasses.replace(again) == again


# An object's life: creation, changes, its end, and the next life under the same name.
_LIVES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(lives=_LIVES, data=st.data())
def test_whatever_overtakes_what_the_end_is_the_truth(lives: list[int], data: st.DataObject) -> None:
    """A watch tells everything in order; answers of our own writes come at any moment, before or after."""
    history: list[tuple[str, Observed]] = []
    version = 0
    for number, changes in enumerate(lives):
        for _ in range(changes):
            version += 1
            history.append(("put", seen(version=version, uid=f"u{number}")))
        if number < len(lives) - 1 or data.draw(st.booleans()):
            version += 1
            history.append(("end", seen(version=version, uid=f"u{number}")))
    store = Store(CONFIG_MAP)
    answers = [(kind, each) for kind, each in history if data.draw(st.booleans())]
    # An answer exists from the moment of its write on; the watch may be far behind, or ahead.
    pending = list(history)
    while pending or answers:
        if answers and (not pending or data.draw(st.booleans())):
            kind, each = answers.pop(0)
            if kind == "put":
                store.offer(each, fed=True)
            else:
                store.gone(("ns", "a"), uid=each.uid)
        else:
            kind, each = pending.pop(0)
            if kind == "put":
                store.offer(each)
            else:
                store.gone(("ns", "a"), uid=each.uid, version=each.resource_version)
            store.told("", each.resource_version)
    kind, last = history[-1]
    assert version_of(store) == (last.resource_version if kind == "put" else None)
