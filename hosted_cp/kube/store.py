"""What was seen of one kind, and the rule by which news from two directions are merged.

News come from a watch and from the answers to our own writes, and overtake one another. Resource versions decide: they
are numbers from one sequence (Kubernetes promises that they can be compared, KEP-5504), so whatever is not newer than
what is known is dropped. Three cases need more than that:

* the answer to a write arrives after the watch has told that the object is gone: the watch has passed the answer's
  version and the object is not there, so the answer is dropped;
* we delete, and the watch still tells older changes: a UID that has ended never comes back;
* a list was taken before a write of ours: it removes only what is not newer than the list itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hosted_cp.kube.observing import Glimpse
from hosted_cp.kube.resources import Resource
from hosted_cp.planning.observed import Observed

#: Namespace ("" for cluster-scoped kinds) and name.
Name = tuple[str, str]

IndexFunction = Callable[[Observed], Iterable[str]]

#: How many ended UIDs are remembered while the watch catches up.
_ENDED = 10_000


@dataclass(frozen=True, kw_only=True)
class Change:
    """One object came (no `old`), changed, or went (no `new`)."""

    resource: Resource
    old: Observed | None
    new: Observed | None
    #: Who caused it, if it was a write of ours: that key is planned again anyway.
    by: object = None

    @property
    def name(self) -> Name:
        """Namespace and name of the object."""
        some = self.new or self.old
        assert some is not None
        return some.ref.namespace or "", some.ref.name


class Store:
    """Objects of one kind. Reading is free of locks: everything happens in one event loop."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._objects: dict[Name, Observed] = {}
        self._functions: dict[str, IndexFunction] = {"controller": _controller}
        self._indexes: dict[str, dict[str, dict[Name, None]]] = {"controller": {}}
        #: Up to which version the watch of a namespace ("": all) has told everything.
        self._told: dict[str, int] = {}
        self._ended: dict[str, None] = {}

    # -- reading -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Observed]:
        return (_handed_out(each) for each in list(self._objects.values()))

    def get(self, namespace: str | None, name: str) -> Observed | None:
        """The object as seen last, or None."""
        found = self._objects.get((namespace or "", name))
        return None if found is None else _handed_out(found)

    def by(self, index: str, key: str) -> tuple[Observed, ...]:
        """The objects that the index function gave `key` for. `controller` is always there: by UID of the owner."""
        names = self._indexes[index].get(key, ())
        return tuple(_handed_out(self._objects[name]) for name in names)

    def names(self) -> Iterator[Name]:
        """Namespace and name of everything."""
        return iter(list(self._objects))

    # -- news ----------------------------------------------------------------------------------------------------

    def index(self, name: str, function: IndexFunction) -> None:
        """Keep an index, over what is there and what will come."""
        self._functions[name] = function
        self._indexes[name] = {}
        for key, each in self._objects.items():
            self._enter(name, key, each)

    def is_news(self, seen: Glimpse) -> bool:
        """Whether `offer` would take this object, told before the work of reading it is done."""
        known = self._objects.get((seen.namespace, seen.name))
        return seen.uid not in self._ended and (known is None or _newer(seen.resource_version, known.resource_version))

    def offer(self, new: Observed, *, by: object = None, fed: bool = False) -> Change | None:
        """An object as somebody saw it; None if that is no news. `fed`: it is the answer to a write of ours."""
        name = (new.ref.namespace or "", new.ref.name)
        known = self._objects.get(name)
        if new.uid in self._ended:
            return None
        if known is not None and not _newer(new.resource_version, known.resource_version):
            return None
        if known is None and fed and _version(new.resource_version) <= self._passed(name[0]):
            return None
        self._put(name, known, new)
        return Change(resource=self.resource, old=known, new=new, by=by)

    def gone(self, name: Name, *, uid: str, version: str | None = None, by: object = None) -> Change | None:
        """The object with this UID has ended: told by the watch (with the version of its end) or by our own delete."""
        known = self._objects.get(name)
        if version is None:
            self._ended[uid] = None
            if len(self._ended) > _ENDED:
                del self._ended[next(iter(self._ended))]
        else:
            self._ended.pop(uid, None)
        if known is None or known.uid != uid:
            return None
        self._put(name, known, None)
        return Change(resource=self.resource, old=known, new=None, by=by)

    def told(self, namespace: str, version: str) -> None:
        """The watch of this namespace ("": all) has told everything up to this version."""
        self._told[namespace] = max(self._told.get(namespace, 0), _version(version))

    def listed(self, namespace: str, present: set[Name], version: str) -> list[Change]:
        """A list is complete: what it does not have, and is not newer than the list, has gone."""
        limit = _version(version)
        self.told(namespace, version)
        missing = [
            (name, known)
            for name, known in self._objects.items()
            if name not in present
            and (not namespace or name[0] == namespace)
            and _version(known.resource_version) <= limit
        ]
        for name, known in missing:
            self._put(name, known, None)
        return [Change(resource=self.resource, old=known, new=None) for _, known in missing]

    def emptied(self, namespace: str) -> list[Change]:
        """The kind is not served any more: everything (of a namespace) has gone."""
        gone = [(name, known) for name, known in self._objects.items() if not namespace or name[0] == namespace]
        for name, known in gone:
            self._put(name, known, None)
        return [Change(resource=self.resource, old=known, new=None) for _, known in gone]

    def _passed(self, namespace: str) -> int:
        return max(self._told.get("", 0), self._told.get(namespace, 0))

    def _put(self, name: Name, old: Observed | None, new: Observed | None) -> None:
        for index, function in self._functions.items():
            before = set(function(old)) if old is not None else set()
            after = set(function(new)) if new is not None else set()
            entries = self._indexes[index]
            for key in before - after:
                del entries[key][name]
                if not entries[key]:
                    del entries[key]
            for key in after - before:
                entries.setdefault(key, {})[name] = None
        if new is None:
            del self._objects[name]
        else:
            self._objects[name] = new

    def _enter(self, index: str, name: Name, each: Observed) -> None:
        for key in self._functions[index](each):
            self._indexes[index].setdefault(key, {})[name] = None


def _controller(each: Observed) -> Iterable[str]:
    return (each.controller_uid,) if each.controller_uid else ()


def _handed_out(kept: Observed) -> Observed:
    """The same object for a reader. What he decodes of it (five times the bytes) goes when his copy goes."""
    copy = object.__new__(Observed)
    copy.__dict__.update(kept.__dict__)
    return copy


def _version(text: str) -> int:
    """A resource version as a number; 0 for one that is none (some other store than etcd's)."""
    return int(text) if text.isascii() and text.isdigit() else 0


def _newer(this: str, than: str) -> bool:
    a, b = _version(this), _version(than)
    return a > b if a and b else this != than
