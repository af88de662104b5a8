from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailgate.assess.cache import BoundedCache, BusyError, Flights, Slots


def test_the_least_recently_used_goes_first():
    cache = BoundedCache[str, int](30)
    for name in ("a", "b", "c"):
        cache.put(name, 1, 10, 0)
    assert cache.get("a") is not None
    cache.put("d", 1, 10, 0)
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]
    assert cache.weight == 30


def test_what_is_too_heavy_is_not_kept_and_takes_nothing_with_it():
    cache = BoundedCache[str, int](30)
    cache.put("a", 1, 10, 0)
    cache.put("b", 1, 31, 0)
    assert cache.get("a") is not None
    assert cache.get("b") is None
    # Not even in its earlier, lighter form: that is no longer what it is.
    cache.put("a", 2, 31, 0)
    assert cache.get("a") is None
    assert cache.weight == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20))), st.integers(0, 40))
def test_the_weight_is_what_is_in_it_and_never_over_the_limit(puts, limit):
    cache = BoundedCache[int, int](limit)
    for name, weight in puts:
        cache.put(name, weight, weight, 0)
        kept = [entry for key in range(6) if (entry := cache.get(key))]
        assert cache.weight == sum(entry.weight for entry in kept) <= limit
        assert len(cache) == len(kept)


async def test_all_who_ask_share_one_flight():
    flights = Flights[str, int](4)
    gate, started = asyncio.Event(), 0

    async def fly() -> int:
        nonlocal started
        started += 1
        await gate.wait()
        return 7

    tasks = [asyncio.create_task(flights.join("a", fly)) for _ in range(10)]
    await asyncio.sleep(0)
    assert len(flights) == 1
    gate.set()
    assert await asyncio.gather(*tasks) == [7] * 10
    assert started == 1
    assert len(flights) == 0


async def test_cancelling_all_who_wait_leaves_the_flight_in_the_air():
    flights = Flights[str, int](4)
    gate, landed = asyncio.Event(), asyncio.Event()

    async def fly() -> int:
        await gate.wait()
        landed.set()
        return 7

    tasks = [asyncio.create_task(flights.join("a", fly)) for _ in range(2)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    assert all(
        isinstance(result, asyncio.CancelledError)
        for result in await asyncio.gather(*tasks, return_exceptions=True)
    )
    gate.set()
    await landed.wait()


async def test_an_error_reaches_all_who_wait_and_is_not_kept():
    flights = Flights[str, int](4)
    answers = [ValueError("first"), 7]

    async def fly() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    both = await asyncio.gather(
        flights.join("a", fly), flights.join("a", fly), return_exceptions=True
    )
    assert [str(error) for error in both] == ["first", "first"]
    assert await flights.join("a", fly) == 7


async def test_more_flights_than_may_be_are_refused():
    flights = Flights[int, int](2)
    gate = asyncio.Event()

    async def fly() -> int:
        await gate.wait()
        return 1

    tasks = [asyncio.create_task(flights.join(number, fly)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await flights.join(3, fly)
    joined = asyncio.create_task(flights.join(0, fly))  # an existing one may be joined
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(joined, *tasks) == [1, 1, 1]
    assert await flights.join(3, fly) == 1


async def test_no_destination_gets_more_than_its_share_of_the_flights():
    flights = Flights[tuple[str, int], int](3, share=2, group=lambda key: key[0])
    gate = asyncio.Event()

    async def fly() -> int:
        await gate.wait()
        return 1

    tasks = [asyncio.create_task(flights.join(("slow", number), fly)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await flights.join(("slow", 2), fly)
    tasks.append(asyncio.create_task(flights.join(("other", 2), fly)))
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await flights.join(("third", 2), fly)
    gate.set()
    assert await asyncio.gather(*tasks) == [1, 1, 1]
    assert await flights.join(("slow", 2), fly) == 1


async def test_slots_have_a_share_and_a_total():
    slots = Slots(total=3, share=2)
    gate, inside = asyncio.Event(), []

    async def work(group: str) -> None:
        async with slots.of(group):
            inside.append(group)
            await gate.wait()

    tasks = [asyncio.create_task(work(group)) for group in ("a", "a", "a", "b", "c")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert inside == ["a", "a", "b"]
    tasks[2].cancel()  # one that waits leaves nothing behind
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside == ["a", "a", "b", "c"]
    await asyncio.wait_for(work("a"), 1)


async def test_close_ends_what_is_in_the_air():
    flights = Flights[int, int](2)

    async def fly() -> int:
        await asyncio.Event().wait()
        return 1

    task = asyncio.create_task(flights.join(1, fly))
    await asyncio.sleep(0)
    await flights.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(flights) == 0
