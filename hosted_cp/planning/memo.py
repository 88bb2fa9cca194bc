"""Answers of pure functions, kept by the digest of what they were asked, or by the version of what they are about.

A tenant is planned about seven times until it runs, and asks each time whether the same four objects are as wanted:
that was half of the operator's CPU. A digest of both sides costs a hundredth of the comparison.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """The answers to the last `most` questions; the oldest go first. Questions are kept as digests only."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._answers: dict[bytes, T] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, *question: bytes, answer: Callable[[], T]) -> T:
        """The answer to this question, found out only if it is not known."""
        digest = hashlib.blake2b(digest_size=16)
        for part in question:
            digest.update(b"%d:" % len(part))
            digest.update(part)
        key = digest.digest()
        if key not in self._answers:
            found = answer()
            while len(self._answers) >= self._most:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = found
        return self._answers[key]


class Latest(Generic[T]):
    """One answer about each of many objects, for as long as the object stays as it was; the oldest go first."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._answers: dict[str, tuple[str, T]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, about: str, version: str, answer: Callable[[], T]) -> T:
        """The answer about an object (its UID) in this version, found out only if it is not known."""
        known = self._answers.get(about)
        if known is not None and known[0] == version:
            return known[1]
        found = answer()
        self._answers.pop(about, None)
        while len(self._answers) >= self._most:
            del self._answers[next(iter(self._answers))]
        self._answers[about] = (version, found)
        return found


class OfSubject(Generic[T]):
    """One answer about each of many objects, for as long as it is asked of the very same (frozen) subject with the same
    question; the oldest go first. For subjects that are costly to compare. (They are held, so none is mistaken.)"""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._answers: dict[str, tuple[object, object, T]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, about: str, subject: object, question: object, answer: Callable[[], T]) -> T:
        """The answer about an object (its UID), found out only if it is not known."""
        known = self._answers.get(about)
        if known is not None and known[0] is subject and known[1] == question:
            return known[2]
        found = answer()
        self._answers.pop(about, None)
        while len(self._answers) >= self._most:
            del self._answers[next(iter(self._answers))]
        self._answers[about] = (subject, question, found)
        return found
