"""Ending the operator between two requests, where `hosting.Freezer` ends it between two steps.

One step may make several requests: it reads and writes again after a 409, makes the fields of a POST those of an apply,
deletes what is of no use and creates it anew. And the worst moment to die is none of the executor's: the server has
done what was asked, and nobody hears its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from hosted_cp.executor import Hooks
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.resources import Resource
from tests.component.hosting import Freezer, Frozen, Object, Stage, Turns

Moment = Literal["unsent", "unanswered"]

#: When an operator dies: around a step of the executor, or around a request.
MOMENTS = ("before", "after", "unsent", "unanswered")


@dataclass(kw_only=True)
class Cutter:
    """Lets the operator die for each object at a writing request of its own, be it to the management cluster or to a
    tenant; the others go on. `limits`: by name of the object which request that is, from 1."""

    turns: Turns
    limits: Mapping[str, int]
    #: Whether that request is never sent, or done and its answer lost.
    moment: Moment
    done: dict[str, int] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    #: Each object's writing requests, for messages.
    requests: dict[str, list[str]] = field(default_factory=dict)

    @contextmanager
    def cutting(self) -> Iterator[None]:
        """All clients of this process are watched for so long; those that work on no object are left alone."""
        original = ApiClient._request

        async def request(client: ApiClient, verb: str, method: str, path: str, **words: Any) -> bytes:
            name = self._name()
            if name in self.frozen:
                raise Frozen
            if not name or method == "GET":
                return await original(client, verb, method, path, **words)
            if self.moment == "unsent":
                self._count(name, f"{method} {path}")
                return await original(client, verb, method, path, **words)
            try:
                return await original(client, verb, method, path, **words)
            finally:
                self._count(name, f"{method} {path}")

        ApiClient._request = request  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            ApiClient._request = original  # type: ignore[method-assign]

    def _name(self) -> str:
        try:
            return self.turns.now()[1].name
        except KeyError:
            return ""

    def _count(self, name: str, request: str) -> None:
        self.done[name] = self.done.get(name, 0) + 1
        self.requests.setdefault(name, []).append(request)
        if self.done[name] >= self.limits.get(name, 10**9):
            self.frozen.add(name)
            raise Frozen


async def one_life(
    stage: Stage,
    limits: Mapping[str, int],
    moment: str,
    act: Callable[[], Any],
    *,
    resource: Resource,
    done: Callable[[Object], bool],
    undisturbed: Iterable[str] = (),
) -> Freezer | Cutter:
    """One life of the operator: `act`, and every object of `limits` dies at its step (or request) or is `done` before
    it; those that are `undisturbed` are done."""
    turns = Turns()
    dying: Freezer | Cutter
    cutting: AbstractContextManager[None] = nullcontext()
    if moment in {"before", "after"}:
        dying = freezer = Freezer(turns=turns, limits=limits, moment=moment)
        hooks = freezer.hooks
    else:
        dying = cutter = Cutter(turns=turns, limits=limits, moment="unsent" if moment == "unsent" else "unanswered")
        hooks, cutting = Hooks(), cutter.cutting()
    with cutting:
        async with stage.operating(hooks=hooks, turns=turns, crash=True):
            await act()
            names = [*limits, *undisturbed]
            await stage.until(resource, names, done, enough=lambda missing: missing <= dying.frozen)
            await asyncio.sleep(0.5)  # what was not reached by its crash may still have a word to say
    return dying
