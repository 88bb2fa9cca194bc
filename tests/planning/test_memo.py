"""The memory of pure functions: asks once, tells apart, and stays small."""

from __future__ import annotations

import copy
from typing import Any

import orjson

from hosted_cp.planning import diff
from hosted_cp.planning.actions import Ref
from hosted_cp.planning.memo import Latest, Memo, OfSubject
from hosted_cp.planning.observed import Observed


def test_a_question_is_answered_once() -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return text.upper()

    memo: Memo[str] = Memo(most=10)
    assert [memo.get(b"a", answer=lambda: answer("a")) for _ in range(3)] == ["A", "A", "A"]
    assert asked == ["a"]


def test_none_is_an_answer_too() -> None:
    memo: Memo[str | None] = Memo(most=10)
    assert memo.get(b"a", answer=lambda: None) is None
    assert memo.get(b"a", answer=lambda: "asked again") is None


def test_where_one_part_of_a_question_ends_matters() -> None:
    memo: Memo[int] = Memo(most=10)
    assert memo.get(b"ab", b"c", answer=lambda: 1) == 1
    assert memo.get(b"a", b"bc", answer=lambda: 2) == 2
    assert memo.get(b"abc", answer=lambda: 3) == 3


def test_it_forgets_the_oldest() -> None:
    memo: Memo[int] = Memo(most=2)
    for number in range(5):
        memo.get(b"%d" % number, answer=lambda number=number: number)  # type: ignore[misc]
    assert len(memo) == 2
    assert memo.get(b"4", answer=lambda: -1) == 4
    assert memo.get(b"0", answer=lambda: -1) == -1


def test_a_change_on_either_side_is_noticed_although_the_question_was_asked_before() -> None:
    wanted: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"type": "NodePort", "ports": [{"name": "api", "port": 6443}]},
    }  # fmt: skip
    stamped = diff.stamped(wanted)

    def seen(body: dict[str, Any]) -> Observed:
        annotations = body["metadata"]["annotations"]
        return Observed(
            ref=Ref.of(body), uid="u", resource_version="1", annotations=annotations, raw=orjson.dumps(body)
        )

    drifted = copy.deepcopy(stamped)
    drifted["spec"]["type"] = "ClusterIP"
    for _ in range(2):
        assert diff.first_difference(wanted, seen(stamped)) is None
        assert diff.first_difference(wanted, seen(drifted)) == "spec.type"
    wanted["spec"]["type"] = "ClusterIP"
    assert diff.first_difference(wanted, seen(stamped)) == "the desired hash"


def test_of_each_object_the_answer_about_its_latest_version_is_kept() -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return text

    latest: Latest[str] = Latest(most=2)
    for about, version in (("a", "1"), ("a", "1"), ("b", "1"), ("a", "2"), ("a", "2"), ("a", "1")):
        assert latest.get(about, version, lambda a=about, v=version: answer(a + v)) == about + version  # type: ignore[misc]
    assert asked == ["a1", "b1", "a2", "a1"]
    latest.get("c", "1", lambda: answer("c1"))
    assert len(latest) == 2
    assert latest.get("b", "1", lambda: answer("again")) == "again", "the oldest went"


def test_another_subject_or_another_question_is_asked_anew() -> None:
    asked: list[int] = []

    def answer() -> int:
        asked.append(len(asked))
        return asked[-1]

    memo: OfSubject[int] = OfSubject(most=2)
    subject, twin = ["a"], ["a"]
    assert [memo.get("uid", subject, "q", answer) for _ in range(2)] == [0, 0]
    assert memo.get("uid", twin, "q", answer) == 1, "equal is not the same: what is compared may be costly"
    assert memo.get("uid", twin, "another", answer) == 2
    assert memo.get("uid", twin, "another", answer) == 2
    for number in range(5):
        memo.get(f"other {number}", twin, "q", answer)
    assert len(memo) == 2
