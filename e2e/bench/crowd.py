"""The hands of a crowd of users: the same work for each of many names, some at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

#: How much of it is on its way at once.
AT_ONCE = 16


async def for_each(names: Iterable[str], work: Callable[[str], Awaitable[object]]) -> None:
    """Do it for every name. What fails ends everything, as an `ExceptionGroup`."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with turns:
            await work(name)

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(one(name))
