"""Waiting for changes of directories without polling (Linux inotify, which the standard library does not offer)."""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Iterable
from pathlib import Path

_MASK = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400  # modified, closed after writing, moved, created, deleted
_CLOEXEC = 0o2000000
_NONBLOCK = 0o4000


class Watcher:
    """Changes in a set of directories."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_CLOEXEC | _NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._waker, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def watch(self, directories: Iterable[Path]) -> None:
        """Also watch these; directories that are gone are skipped, those watched already stay so."""
        for directory in directories:
            self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until something changed or `wake` was called; False after the given time without either."""
        ready, _, _ = select.select([self._fd, self._waker], [], [], seconds)
        for descriptor in ready:
            try:
                while os.read(descriptor, 65536):
                    pass
            except BlockingIOError:
                continue
        return bool(ready)

    def wake(self) -> None:
        """Make `wait` return on another thread."""
        os.write(self._wake, b"x")
