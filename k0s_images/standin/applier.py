"""The manifest applier: `<data-dir>/manifests/<stack>/*.yaml` is what the cluster holds, stack by stack.

Only the leader applies. A stack is applied anew when its files change, and objects that left it are pruned; an empty
directory is an empty stack. There is no periodic repair of what others changed in the cluster.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import yaml

from k0s_images.standin import log, stacks
from k0s_images.standin.inotify import Watcher
from k0s_images.standin.kube import Api, ApiError, Object

#: A change is applied when nothing changed any more for this long: a manifest is often written in several steps.
_QUIET = 1.0
_RETRY = 30.0


def read_stack(directory: Path) -> list[Object]:
    """The objects in a stack's files. Raises `ValueError` for a file that is no YAML."""
    things: list[Object] = []
    for file in sorted(directory.glob("*.yaml")):
        try:
            documents = list(yaml.safe_load_all(file.read_text()))
        except yaml.YAMLError as fault:
            raise ValueError(f"{file}: {fault}") from None
        for document in filter(None, documents):
            things += document.get("items") or [] if document.get("kind") == "List" else [document]
    return things


def _fingerprint(directory: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(directory.glob("*.yaml")):
        total.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


class Applier:
    """Applies the stacks below one directory while leading."""

    def __init__(self, api: Api, root: Path) -> None:
        self._api, self._root = api, root
        self._applied: dict[str, str] = {}
        self._watcher = Watcher()

    def wake(self) -> None:
        """Look again at once (leadership changed, or the end is near)."""
        self._watcher.wake()

    def run(self, leading: threading.Event, stop: threading.Event) -> None:
        """Until told to stop."""
        while not stop.is_set():
            self._watcher.watch([self._root, *(d for d in self._root.iterdir() if d.is_dir())])
            if leading.is_set():
                complete = self._pass()
            else:
                self._applied.clear()
                complete = True
            changed = self._watcher.wait(
                None if complete and leading.is_set() else (_RETRY if leading.is_set() else 1.0)
            )
            while changed and not stop.is_set() and self._watcher.wait(_QUIET):
                pass

    def _pass(self) -> bool:
        complete = True
        present = {d.name: d for d in self._root.iterdir() if d.is_dir()}
        for name in sorted(present.keys() | self._applied.keys()):
            try:
                self._one(name, present.get(name))
            except (ApiError, ValueError, OSError, KeyError) as fault:
                log.warning(f"stack {name}: {fault}", component="applier")
                complete = False
        return complete

    def _one(self, name: str, directory: Path | None) -> None:
        if directory is None:
            stacks.apply(self._api, name, [], prune=True)
            del self._applied[name]
            return
        fingerprint = _fingerprint(directory)
        if self._applied.get(name) != fingerprint:
            stacks.apply(self._api, name, read_stack(directory), prune=True)
            self._applied[name] = fingerprint
            log.info(f"applied the stack {name}", component="applier")
