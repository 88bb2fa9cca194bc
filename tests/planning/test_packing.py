"""Objects packed beside one another: nothing is lost, and what is alike takes little."""

from __future__ import annotations

import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.planning import packing
from hosted_cp.planning.packing import pack, unpack


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without dictionaries."""
    monkeypatch.setattr(packing, "_dictionaries", [b""])
    monkeypatch.setattr(packing, "_numbers", {})


def text(name: str, **more: object) -> bytes:
    labels = {f"label-{number}": f"value-{number * 7919 % 1013}" for number in range(90)}
    return orjson.dumps({"kind": "Toy", "metadata": {"name": name, "labels": labels}, **more})


@given(
    st.lists(st.dictionaries(st.text(max_size=8), st.text(max_size=2000), max_size=6), max_size=8),
    st.sampled_from(["a", "b"]),
)
def test_nothing_is_lost(bodies: list[dict[str, str]], sort: str) -> None:
    texts = [orjson.dumps(body) for body in bodies]
    packed = [pack(each, sort=sort) for each in texts]
    assert [unpack(each) for each in packed] == texts


def test_what_is_alike_takes_little() -> None:
    assert len(text("a")) > 1500
    pack(text("a"), sort="Toy")
    alone = len(zlib.compress(text("b")))
    assert len(pack(text("b"), sort="Toy")) < alone / 3
    assert len(pack(text("b"), sort="other")) < alone / 3, "(each sort has its own)"


def test_a_dictionary_that_knows_more_takes_the_place_of_the_first() -> None:
    before = pack(text("a"), sort="Toy")
    status = {"conditions": [{"type": f"C{number}", "message": f"{number**5}" * 9} for number in range(40)]}
    pack(text("b", status=status), sort="Toy")
    assert len(pack(text("c", status=status), sort="Toy")) < len(zlib.compress(text("c", status=status))) / 3
    assert unpack(before) == text("a")


def test_short_texts_stay_as_they_are() -> None:
    assert pack(b'{"a":1}', sort="Toy") == b'{"a":1}'
    assert unpack(b"") == b""


def test_many_sorts_have_a_bound() -> None:
    packed = [pack(text(f"n{number}"), sort=f"sort {number}") for number in range(300)]
    assert [unpack(each) for each in packed] == [text(f"n{number}") for number in range(300)]
    assert len(packing._dictionaries) == 100
    assert all(each[:1] != b"{" for each in packed)
