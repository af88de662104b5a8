"""What our code relies on of the Kubernetes API, held on the twin and on the real one."""

import asyncio
from contextlib import aclosing

import pytest

from tests.kube.conftest import THINGS, THINGS_KIND, change
from trailgate.model.admission import Kind
from trailgate_kube.api import EventType
from trailgate_kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from trailgate_kube.resources import NAMESPACES, WORKLOADS


async def collect(kube, namespace, version, wanted, seconds=20):
    """Return the first ``wanted`` events that aren't bookmarks."""
    found = []
    events = kube.watch(THINGS, namespace, resource_version=version, seconds=seconds)
    async with aclosing(events):
        async for event in events:
            if event.type is not EventType.BOOKMARK:
                found.append((event.type, event.object["metadata"]["name"]))
            if len(found) == wanted:
                break
    return found


async def test_what_was_created_can_be_read(world):
    created = await world.create("a", color="blue")
    assert created["metadata"]["uid"]
    assert created["metadata"]["generation"] == 1
    assert created["metadata"]["namespace"] == world.namespace
    read = await world.kube.get(THINGS, "a", world.namespace)
    assert read["spec"] == {"color": "blue"}
    assert (
        read["metadata"] == created["metadata"]
        or read["metadata"]["uid"] == (created["metadata"]["uid"])
    )


async def test_what_is_not_there_is_not_found(world):
    with pytest.raises(NotFoundError, match="nothing"):
        await world.kube.get(THINGS, "nothing", world.namespace)
    with pytest.raises(NotFoundError):
        await world.kube.delete(THINGS, "nothing", world.namespace)


async def test_a_name_is_created_once(world):
    await world.create("a")
    with pytest.raises(AlreadyExistsError):
        await world.create("a", other=True)
    assert (await world.kube.get(THINGS, "a", world.namespace))["spec"] == {}


async def test_delete_with_a_uid_deletes_only_that_one(world):
    first = await world.create("a")
    await world.kube.delete(THINGS, "a", world.namespace, uid=first["metadata"]["uid"])
    second = await world.create("a")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    with pytest.raises(ConflictError):
        await world.kube.delete(THINGS, "a", world.namespace, uid=first["metadata"]["uid"])
    await world.kube.delete(THINGS, "a", world.namespace, uid=second["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        await world.kube.delete(THINGS, "a", world.namespace, uid=second["metadata"]["uid"])


async def test_replacing_sets_what_is_given_and_keeps_who_it_is(world):
    first = await world.create("a", color="blue")
    first["spec"] = {"color": "red"}
    first["metadata"]["labels"] = {"team": "shop"}
    second = await world.kube.replace(THINGS, first, world.namespace)
    read = await world.kube.get(THINGS, "a", world.namespace)
    assert (read["spec"], read["metadata"]["labels"]) == ({"color": "red"}, {"team": "shop"})
    assert read["metadata"]["uid"] == first["metadata"]["uid"]
    assert read["metadata"]["generation"] == 2
    del second["metadata"]["labels"]
    await world.kube.replace(THINGS, second, world.namespace)
    read = await world.kube.get(THINGS, "a", world.namespace)
    assert "labels" not in read["metadata"]


async def test_replacing_what_has_changed_since_is_a_conflict(world):
    old = await world.create("a", color="blue")
    await change(world.kube, THINGS, "a", world.namespace, spec={"color": "red"})
    with pytest.raises(ConflictError):
        await world.kube.replace(THINGS, {**old, "spec": {}}, world.namespace)
    assert (await world.kube.get(THINGS, "a", world.namespace))["spec"] == {"color": "red"}


async def test_replacing_what_is_not_there_is_not_found(world):
    old = await world.create("a")
    await world.kube.delete(THINGS, "a", world.namespace)
    with pytest.raises((NotFoundError, ConflictError)):
        await world.kube.replace(THINGS, old, world.namespace)


async def test_replacing_the_status_leaves_the_rest(world):
    old = await world.create("a", color="blue")
    body = {**old, "spec": {"color": "red"}, "status": {"phase": "fine"}}
    await world.kube.replace(THINGS, body, world.namespace, subresource="status")
    read = await world.kube.get(THINGS, "a", world.namespace)
    assert (read["spec"], read["status"]) == ({"color": "blue"}, {"phase": "fine"})
    assert read["metadata"]["generation"] == 1


async def test_a_change_of_the_specification_is_a_generation_and_one_of_the_status_is_none(world):
    """What ``Policies`` relies on; the change itself is made by somebody else."""
    await world.create("a", color="blue")
    await change(world.kube, THINGS, "a", world.namespace, status={"phase": "fine"})
    read = await world.kube.get(THINGS, "a", world.namespace)
    assert (read["status"], read["metadata"]["generation"]) == ({"phase": "fine"}, 1)
    await change(world.kube, THINGS, "a", world.namespace, spec={"color": "red"})
    read = await world.kube.get(THINGS, "a", world.namespace)
    assert (read["spec"], read["metadata"]["generation"]) == ({"color": "red"}, 2)


async def test_pages_come_in_the_order_of_names_and_miss_nothing(world):
    for name in ("c", "a", "e", "b", "d"):
        await world.create(name)
    names, sizes, following = [], [], ""
    while True:
        page = await world.kube.page(THINGS, world.namespace, limit=2, following=following)
        names += [item["metadata"]["name"] for item in page.items]
        sizes.append(len(page.items))
        following = page.following
        if not following:
            break
    assert names == ["a", "b", "c", "d", "e"]
    assert sizes == [2, 2, 1]


async def test_an_empty_list_has_a_version_to_watch_from(world):
    page = await world.kube.page(THINGS, world.namespace)
    assert page.items == ()
    assert page.following == ""
    await world.create("a")
    events = await collect(world.kube, world.namespace, page.resource_version, 1)
    assert events == [(EventType.ADDED, "a")]


async def test_a_watch_tells_everything_after_its_version_in_order(world):
    version = (await world.create("before"))["metadata"]["resourceVersion"]
    await world.create("a")
    await change(world.kube, THINGS, "a", world.namespace, spec={"x": 1})
    await world.kube.delete(THINGS, "a", world.namespace)
    events = await collect(world.kube, world.namespace, version, 3)
    assert events == [
        (EventType.ADDED, "a"),
        (EventType.MODIFIED, "a"),
        (EventType.DELETED, "a"),
    ]


async def test_a_watch_hears_what_happens_while_it_waits(world):
    version = (await world.kube.page(THINGS, world.namespace)).resource_version
    waiting = asyncio.create_task(collect(world.kube, world.namespace, version, 1))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await world.create("late")
    assert await waiting == [(EventType.ADDED, "late")]


async def test_a_watch_keeps_to_its_namespace(world):
    version = (await world.kube.page(THINGS, world.namespace)).resource_version
    if not (await world.kube.page(NAMESPACES)).items:
        await world.kube.create(NAMESPACES, {"metadata": {"name": "default"}})
    await world.kube.create(THINGS, world.thing(f"other-{world.namespace}"), "default")
    await world.create("ours")
    assert await collect(world.kube, world.namespace, version, 1) == [(EventType.ADDED, "ours")]


async def test_a_watch_ends_by_itself(world):
    version = (await world.kube.page(THINGS, world.namespace)).resource_version
    async with asyncio.timeout(15):
        assert await collect(world.kube, world.namespace, version, 1, seconds=1) == []


async def test_kinds_are_discovered(world):
    assert await world.kube.discover(THINGS_KIND) == THINGS
    assert await world.kube.discover(Kind("apps", "Deployment")) in WORKLOADS
    assert await world.kube.discover(Kind("nowhere.example", "Nothing")) is None
    assert await world.kube.discover(Kind(THINGS.group, "Nothing")) is None


async def test_one_object_can_be_listed_and_watched_by_its_name(world):
    for name in ("a", "b"):
        await world.create(name)
    page = await world.kube.page(THINGS, world.namespace, name="b")
    assert [item["metadata"]["name"] for item in page.items] == ["b"]
    assert (await world.kube.page(THINGS, world.namespace, name="c")).items == ()
    events = world.kube.watch(
        THINGS, world.namespace, resource_version=page.resource_version, seconds=20, name="b"
    )
    await world.kube.delete(THINGS, "a", world.namespace)
    await world.kube.delete(THINGS, "b", world.namespace)
    async with aclosing(events):
        async for event in events:
            if event.type is not EventType.BOOKMARK:
                assert (event.type, event.object["metadata"]["name"]) == (EventType.DELETED, "b")
                break
