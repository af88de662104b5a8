"""Small tools for facts that are dear to get: a bounded cache, slots, one flight per key.

None knows what it holds. All belong to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BusyError(Exception):
    """As many flights are in the air as may be."""


@dataclass(slots=True)
class Entry(Generic[V]):
    """A value, its weight in bytes, and the time until which it is fresh."""

    value: V
    weight: int
    fresh_until: float


class BoundedCache(Generic[K, V]):
    """The least recently used goes first when the weight is over the limit.

    An entry that is no longer fresh stays until then: whether an old value will do is
    for the reader to say.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, Entry[V]] = OrderedDict()
        self.weight = 0
        self.evicted = 0
        """How many were put out to make room."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> Entry[V] | None:
        """Return the entry, fresh or not."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: K, value: V, weight: int, fresh_until: float) -> None:
        """Keep a value; one that is heavier than the whole cache is not kept."""
        old = self._entries.pop(key, None)
        if old is not None:
            self.weight -= old.weight
        if weight > self._limit:
            return
        self._entries[key] = Entry(value, weight, fresh_until)
        self.weight += weight
        while self.weight > self._limit:
            _, gone = self._entries.popitem(last=False)
            self.weight -= gone.weight
            self.evicted += 1


class Slots:
    """So many may work at once, and no group of them takes more than its share."""

    def __init__(self, total: int, share: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._share = share
        self._groups: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, group: Hashable) -> AsyncIterator[None]:
        """Hold a slot for a member of the group; who waits for the group's holds none."""
        mine = self._groups.get(group)
        if mine is None:
            mine = self._groups[group] = asyncio.Semaphore(self._share)
        async with mine, self._total:
            yield


class Flights(Generic[K, V]):
    """One flight per key, shared by all who wait for it.

    A flight belongs to nobody: when all who waited are gone (their deadline passed) it
    flies on, and its result is there for who asks again.

    ``group`` says where a flight goes to: no one destination gets more than ``share``
    of the flights, so that one where nothing lands leaves room for the others.
    """

    def __init__(
        self,
        limit: int,
        *,
        share: int | None = None,
        group: Callable[[K], Hashable] = lambda _: None,
    ) -> None:
        self._limit = limit
        self._share = limit if share is None else share
        self._group = group
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._going: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Wait for the flight of this key, starting it where there is none.

        Raises ``BusyError``, and whatever the flight raises. Cancelling cancels the wait.
        """
        task = self._tasks.get(key)
        if task is None:
            where = self._group(key)
            if len(self._tasks) >= self._limit or self._going[where] >= self._share:
                raise BusyError
            task = asyncio.create_task(start())
            self._tasks[key] = task
            self._going[where] += 1
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel what is in the air, and wait until it is down."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: K, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        where = self._group(key)
        self._going[where] -= 1
        if not self._going[where]:
            del self._going[where]
        if not task.cancelled():
            task.exception()  # seen: whoever still waits gets it from the shield
