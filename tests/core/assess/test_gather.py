from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.core.assess.world import HOST, KINDS, Clock, World, key
from tests.core.oci.support import Place, client_for, push_image
from trailgate.assess import gather
from trailgate.assess.evidence_source import WarmSource
from trailgate.assess.gather import Bounds, Freshness, RegistryEvidence
from trailgate.model.digest import Digest
from trailgate.model.evidence import Evidence, StatementKind, Unavailable, UnresolvedTag
from trailgate.model.image import ImageReference
from trailgate.oci.errors import (
    DigestMismatchError,
    HostRefusedError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)

BUILD = (key("build").public,)
OTHER = (key("other").public,)
Make = Callable[..., RegistryEvidence]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make(world: World, clock: Clock) -> AsyncIterator[Make]:
    made: list[RegistryEvidence] = []

    def build(**changes: Any) -> RegistryEvidence:
        given: dict[str, Any] = {"named": lambda: {HOST}, "clock": clock} | changes
        made.append(RegistryEvidence(world, **given))
        return made[-1]

    yield build
    for source in made:
        await source.close()


async def kinds(source: RegistryEvidence, image: ImageReference, keys: Any = BUILD) -> set[str]:
    found = await source.gather(image, keys)
    assert isinstance(found, Evidence), found
    return {statement.kind.value for statement in found.statements}


async def test_what_is_attached_is_fetched_verified_and_kept(world, make):
    source = make()
    image = await world.image("web", *KINDS)
    assert isinstance(source, WarmSource)
    assert source.peek(image, BUILD) is None
    found = await source.gather(image, BUILD)
    assert isinstance(found, Evidence)
    assert {statement.kind for statement in found.statements} == set(StatementKind)
    calls = world.calls
    assert await source.gather(image, BUILD) is found
    assert source.peek(image, BUILD) is found
    assert world.calls == calls > 0


async def test_a_tag_beside_the_digest_is_left_aside(world, make):
    source = make()
    image = await world.image("web", "signature")
    found = await source.gather(replace(image, tag="v9"), BUILD)
    assert found.image == image
    assert source.peek(image, BUILD) is found


async def test_other_keys_need_another_verification_but_no_other_fetch(world, make):
    source = make()
    image = await world.image("web", "signature")
    assert await kinds(source, image) == {"signature"}
    calls = world.calls
    assert await kinds(source, image, OTHER) == set()
    assert await kinds(source, image, (*BUILD, *OTHER)) == {"signature"}
    assert world.calls == calls


async def test_the_same_digest_elsewhere_is_another_image(world, make):
    source = make(named=lambda: {HOST, "other.example"})
    image = await world.image("web", "signature")
    assert await kinds(source, image) == {"signature"}
    for stranger in (
        replace(image, repository="acme/evil"),
        replace(image, registry="other.example"),
    ):
        assert source.peek(stranger, BUILD) is None
        assert await kinds(source, stranger) == set()


async def test_a_host_that_no_policy_names_is_never_asked(world, make):
    source = make(named=lambda: {"elsewhere.example"})
    image = await world.image("web", "signature")
    found = await source.gather(image, BUILD)
    assert isinstance(found, Unavailable)
    assert HOST in found.detail
    tag = await source.gather(ImageReference.parse(f"{HOST}/acme/web:v1"), BUILD)
    assert isinstance(tag, Unavailable)
    assert world.calls == 0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [((), 15.0), (("signature",), 30.0), (("signature", "tests"), 30.0), (KINDS, 300.0)],
    ids=str,
)
async def test_facts_are_fresh_for_as_long_as_is_written(world, clock, make, said, seconds):
    source = make()
    image = await world.image("web", *said)
    first = await source.gather(image, BUILD)
    clock.now += seconds - 0.1
    assert source.peek(image, BUILD) is first
    await world.say(image, "signature")
    calls = world.calls
    clock.now += 0.2
    assert source.peek(image, BUILD) is None
    assert "signature" in await kinds(source, image)
    assert world.calls > calls


async def test_a_fifth_kind_would_make_nothing_short_lived(world, clock, make, monkeypatch):
    monkeypatch.setattr(gather, "StatementKind", [*StatementKind, "sbom"])
    source = make()
    image = await world.image("web", *KINDS)
    first = await source.gather(image, BUILD)
    clock.now += 299
    assert source.peek(image, BUILD) is first


async def test_other_keys_get_no_older_content_than_a_moment(world, clock, make):
    source = make()
    image = await world.image("web", *KINDS)
    await source.gather(image, BUILD)
    clock.now += 31  # the facts under BUILD are good for five minutes, the list is not
    calls = world.calls
    await source.gather(image, OTHER)
    assert world.calls > calls


async def test_an_artifact_that_could_not_be_read_is_looked_for_again_soon(world, clock, make):
    source = make()
    image = await world.image("web", *KINDS)
    found = await source.gather(image, BUILD)
    assert isinstance(found, Evidence)
    broken = found.statements[0].digest
    world.memory.corrupt(image, broken, b"other")
    again = make()
    assert len((await again.gather(image, BUILD)).statements) == 3
    clock.now += 15.1
    assert again.peek(image, BUILD) is None


async def test_an_image_that_is_not_there_is_absent_for_a_moment(world, clock, make):
    source = make()
    image = ImageReference(HOST, "acme/none", None, Digest("c" * 64))
    assert await kinds(source, image) == set()
    calls = world.calls
    assert await kinds(source, image) == set()
    assert world.calls == calls
    clock.now += 15.1
    await source.gather(image, BUILD)
    assert world.calls > calls


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("no connection"),
        UnauthorizedError("401"),
        DigestMismatchError("not what was asked for"),
        TooLargeError("too large"),
        HostRefusedError("private address"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_is_unavailable_and_never_kept(world, make, error):
    source = make()
    image = await world.image("web", "signature")
    world.failures = [error] * 8
    found = await source.gather(image, BUILD)
    assert isinstance(found, Unavailable)
    assert str(error) in found.detail
    assert source.peek(image, BUILD) is None
    world.failures = []
    assert await kinds(source, image) == {"signature"}


async def test_an_unforeseen_error_is_raised_and_never_kept(world, make):
    source = make()
    image = await world.image("web", "signature")
    world.failures = [RuntimeError("bug")] * 8
    with pytest.raises(BaseException) as caught:
        await source.gather(image, BUILD)
    assert "bug" in str(caught.value) or caught.group_contains(RuntimeError)
    world.failures = []
    assert await kinds(source, image) == {"signature"}


async def test_many_at_once_fetch_once(world, make):
    source = make()
    image = await world.image("web", *KINDS)
    await source.gather(image, BUILD)
    once = world.calls
    world.calls = 0
    fresh = make()
    found = await asyncio.gather(*(fresh.gather(image, BUILD) for _ in range(64)))
    assert len({id(one) for one in found}) == 1
    assert world.calls == once


async def test_two_sets_of_keys_at_once_fetch_once(world, make):
    source = make()
    image = await world.image("web", "signature")
    await source.gather(image, BUILD)
    once = world.calls
    world.calls = 0
    fresh = make()
    await asyncio.gather(fresh.gather(image, BUILD), fresh.gather(image, OTHER))
    assert world.calls == once


async def test_a_deadline_ends_the_wait_and_not_the_fetch(world, make):
    source = make()
    image = await world.image("web", *KINDS)
    world.hold = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await source.gather(image, BUILD)
    assert source.in_flight == 1
    assert source.peek(image, BUILD) is None
    world.hold.set()
    retry = await source.gather(image, BUILD)
    calls = world.calls
    assert isinstance(retry, Evidence)
    assert len(retry.statements) == 4
    assert source.peek(image, BUILD) is retry
    assert world.calls == calls


async def test_what_nobody_waits_for_any_more_is_warm_later(world, make):
    source = make()
    image = await world.image("web", *KINDS)
    world.hold = asyncio.Event()
    task = asyncio.create_task(source.gather(image, BUILD))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    world.hold.set()
    while source.in_flight:  # noqa: ASYNC110 - there is nothing else to wait for
        await asyncio.sleep(0.001)
    calls = world.calls
    assert source.peek(image, BUILD) is not None
    assert world.calls == calls


async def test_a_fetch_that_never_ends_is_ended(world, make):
    source = make(bounds=Bounds(fetch_seconds=0.02))
    image = await world.image("web", "signature")
    world.hold = asyncio.Event()
    found = await source.gather(image, BUILD)
    assert isinstance(found, Unavailable)
    assert "0.02 s" in found.detail
    assert source.in_flight == 0


async def test_too_many_fetches_are_unavailable(world, make):
    source = make(bounds=Bounds(flights=2))
    images = [await world.image(name, "signature") for name in ("a", "b", "c")]
    world.hold = asyncio.Event()
    tasks = [asyncio.create_task(source.gather(image, BUILD)) for image in images[:2]]
    await asyncio.sleep(0)
    found = await source.gather(images[2], BUILD)
    assert isinstance(found, Unavailable)
    assert "too many" in found.detail
    world.hold.set()
    await asyncio.gather(*tasks)
    assert await kinds(source, images[2]) == {"signature"}


async def test_one_registry_that_hangs_leaves_the_others_their_slots(world, clock, make):
    """32 images of a registry that does not answer once stopped every deployment."""
    hanging = "hanging.example"

    class Named(World):
        async def _pass(self) -> None:
            pass

        async def manifest(self, image):
            if image.registry == hanging:
                await asyncio.Event().wait()
            return await super().manifest(image)

    healthy = Named(world.memory)
    source = RegistryEvidence(healthy, lambda: {HOST, hanging}, clock=clock)
    image = await world.image("web", "signature")
    stuck = [
        asyncio.create_task(
            source.gather(replace(image, registry=hanging, digest=Digest.of(b"%d" % n)), BUILD)
        )
        for n in range(64)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await kinds(source, image) == {"signature"}
    for task in stuck:
        task.cancel()
    await source.close()


async def test_the_cache_is_bounded_in_bytes(world, make):
    source = make(bounds=Bounds(content_bytes=40_000, facts_bytes=40_000))
    images = [await world.image(f"i{number}", *KINDS) for number in range(12)]
    for image in images:
        await source.gather(image, BUILD)
        assert source.cached_bytes <= 80_000
    assert source.peek(images[0], BUILD) is None
    assert source.peek(images[-1], BUILD) is not None


class TestRunning:
    async def test_old_facts_will_do(self, world, clock, make):
        source = make()
        image = await world.image("web", "signature")
        await source.gather(image, BUILD)
        clock.now += 10_000
        assert source.peek(image, BUILD) is None
        found = source.peek(image, BUILD, running=True)
        assert isinstance(found, Evidence)
        assert found.statements

    async def test_an_old_absence_will_not(self, world, clock, make):
        source = make()
        image = await world.image("web")
        await source.gather(image, BUILD)
        assert source.peek(image, BUILD, running=True) is not None
        clock.now += 10_000
        assert source.peek(image, BUILD, running=True) is None

    async def test_old_content_is_verified_again_under_new_keys(self, world, clock, make):
        source = make()
        image = await world.image("web", "signature", by="other")
        await source.gather(image, BUILD)
        clock.now += 10_000
        world.memory.down.add(HOST)
        assert isinstance(await source.gather(image, OTHER), Unavailable)
        found = await source.recall(image, OTHER)
        assert found is not None
        assert {s.kind for s in found.statements} == {StatementKind.SIGNATURE}
        assert await source.recall(replace(image, digest=Digest("d" * 64)), OTHER) is None
        assert await source.recall(replace(image, digest=None), OTHER) is None


class TestTag:
    async def test_says_what_it_names(self, world, make):
        source = make()
        image = await world.image("web", "signature")
        tag = replace(image, tag="v1", digest=None)
        assert await source.gather(tag, BUILD) == UnresolvedTag(tag, image.digest)
        calls = world.calls
        assert await source.gather(tag, BUILD) == UnresolvedTag(tag, image.digest)
        assert world.calls == calls
        assert source.peek(tag, BUILD) is None

    async def test_that_moves_is_followed_within_a_moment(self, world, clock, make):
        source = make()
        tag = replace(await world.image("web"), tag="v1", digest=None)
        await source.gather(tag, BUILD)
        moved = await world.image("web")
        clock.now += 15.1
        assert await source.gather(tag, BUILD) == UnresolvedTag(tag, moved.digest)

    async def test_that_cannot_be_resolved_says_nothing(self, world, make):
        source = make()
        assert await source.gather(
            ImageReference.parse(f"{HOST}/acme/none:v1"), BUILD
        ) == UnresolvedTag(ImageReference.parse(f"{HOST}/acme/none:v1"))
        tag = replace(await world.image("web"), tag="v1", digest=None)
        world.memory.down.add(HOST)
        assert await source.gather(tag, BUILD) == UnresolvedTag(tag)

    async def test_takes_no_longer_than_a_courtesy(self, world, make):
        source = make(bounds=Bounds(tag_seconds=0.01))
        tag = replace(await world.image("web"), tag="v1", digest=None)
        world.hold = asyncio.Event()
        assert await source.gather(tag, BUILD) == UnresolvedTag(tag)
        world.hold.set()


async def test_named_hosts_are_read_at_every_call(world, make):
    named: set[str] = set()
    source = make(named=lambda: named)
    image = await world.image("web", "signature")
    assert isinstance(await source.gather(image, BUILD), Unavailable)
    named.add(HOST)
    assert await kinds(source, image) == {"signature"}


async def test_freshness_can_be_set(world, clock, make):
    source = make(freshness=Freshness(absent=1, partial=2, complete=3))
    image = await world.image("web", "signature")
    await source.gather(image, BUILD)
    clock.now += 1.9
    assert source.peek(image, BUILD) is not None
    clock.now += 0.2
    assert source.peek(image, BUILD) is None


async def test_a_real_registry_through_the_real_client(registry):
    async with client_for(registry.address) as client:
        world = World()
        world.memory = client
        image = await push_image(Place(client, registry.address, "assess/web", referrers=True))
        source = RegistryEvidence(client, lambda: {registry.address})
        assert await kinds(source, image) == set()
        for what in KINDS:
            await world.say(image, what)
        await source.close()
        again = RegistryEvidence(client, lambda: {registry.address})
        assert await kinds(again, image) == set(KINDS)
        absent = image.with_digest(Digest("e" * 64))
        assert await kinds(again, absent) == set()
        await again.close()
