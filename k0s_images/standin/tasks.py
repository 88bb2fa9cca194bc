"""Background work of a controller: threads that end together and never end silently."""

from __future__ import annotations

import threading
from collections.abc import Callable

from k0s_images.standin import log
from k0s_images.standin.errors import Fatal
from k0s_images.standin.kube import ApiError


class Tasks:
    """Functions on threads of their own; each is run again after a pause when it fails."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[], None], *, retry: float = 5.0) -> None:
        """Run `work` until it returns; after an API or system error, again in `retry` seconds."""

        def run() -> None:
            while not self.stop.is_set():
                try:
                    return work()
                except (ApiError, OSError, Fatal) as fault:
                    if self.stop.is_set():
                        return None
                    log.warning(str(fault), component=name)
                except Exception as fault:  # noqa: BLE001 - a task of the supervisor outlives its own faults
                    log.error(f"{type(fault).__name__}: {fault}", component=name)
                self.stop.wait(retry)
            return None

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def every(self, name: str, period: float, work: Callable[[], None], *, at_once: bool = False) -> None:
        """Run `work` every `period` seconds; its errors are logged, and the next tick tries again."""

        def loop() -> None:
            first = at_once
            while first or not self.stop.wait(period):
                first = False
                try:
                    work()
                except (ApiError, OSError, Fatal) as fault:
                    log.warning(str(fault), component=name)

        self.start(name, loop)

    def end(self, *, timeout: float = 2.0) -> None:
        """Tell all to end and wait a moment; a thread inside a request is left to the end of the process."""
        self.stop.set()
        for thread in self._threads:
            thread.join(timeout)
