"""A brake for fights: somebody undoes what we write, we write it again, he undoes it again, without end.

A drift that a person makes is repaired at once. But two installations of the operator that look after the same objects
(with leases in different namespaces, nothing tells them of each other) and want different things would write as fast as
the API server lets them, and restart pods each time. So what is undone again and again in the same place is written
again only after pauses that grow.

A fight is told from a drift by its mark: what we want is the very thing that we wrote last, and what is there instead
is a whole of the same kind (the stamp of another operator's wish, another status), no field that somebody touched.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

#: How often something may be undone before we wait.
FREE = 4
#: Seconds of the first pause, doubled with each further one up to the limit.
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
#: Seconds without a blow after which a fight is over.
PEACE = 900.0

#: Of how many places it is remembered what was written there last: a thousand tenants have fewer that ever change.
_PLACES = 20_000


@dataclass(kw_only=True)
class _Place:
    """What is known of one thing that we write."""

    mark: str
    blows: int = 0
    last: float = 0.0
    until: float = 0.0
    told: bool = False


@dataclass(frozen=True, kw_only=True)
class Held:
    """A write that has to wait."""

    #: For so many more seconds.
    seconds: float
    #: Whether this is the first time in this fight, so that it is worth telling people.
    first: bool


class Fights:
    """What was written last, by place, and how often it was undone. For one process; a new one begins in peace."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()

    def wrote(self, place: Hashable, mark: str) -> None:
        """This stands there now."""
        known = self._places.pop(place, None) or _Place(mark=mark)
        known.mark = mark
        self._places[place] = known
        if len(self._places) > _PLACES:
            self._places.popitem(last=False)

    def held(self, place: Hashable, mark: str) -> Held | None:
        """Asked before something is written over what another has put there; None: it may be written now."""
        known = self._places.get(place)
        if known is None or known.mark != mark:
            return None
        now = self._clock()
        if now < known.until:
            first, known.told = not known.told, True
            return Held(seconds=known.until - now, first=first)
        if now - known.last > PEACE:
            known.blows, known.told = 0, False
        known.blows += 1
        known.last = now
        if (over := known.blows - FREE) > 0:  # this one may be the last; the next one has to wait
            known.until = now + min(FIRST_PAUSE * 2.0 ** min(over - 1, 10), LONGEST_PAUSE)
        return None
