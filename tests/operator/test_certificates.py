"""The loop: installed, renewed, rotated, asked, damaged; on the twin and the real API server."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.operator.certificates_world import NAMES, World
from tests.operator.test_authority import handshake
from tests.operator.waiting import until
from trailgate_kube.client import KubeClient
from trailgate_kube.errors import ConfigurationError, ConflictError, ForbiddenError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import SECRETS
from trailgate_operator.authority import Pair, bundle_pem, issue, new_authority, read_bundle
from trailgate_operator.certificates_plan import Lifetimes, LifetimesError
from trailgate_operator.certificates_state import AUTHORITY, SERVING
from trailgate_operator.keyring_secret import Secret

MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def twin():
    return World()


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.cluster)])
async def world(request):
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    if request.param == "memory":
        yield World(MemoryKube(), namespace)
        return
    plane = request.getfixturevalue("control_plane")
    plane.namespace(namespace)
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        yield World(client, namespace)


async def installed(world):
    """Both Secrets are there, the pods serve the leaf, and it is armed."""
    assert await world.look() is None
    world.pass_time(200)
    world.arm()
    world.pass_time(60)
    world.check()
    assert await world.look() is None
    return world


async def pair_of(world):
    found = await world.box.get(SERVING)
    return Pair.read(found.data["tls.crt"], found.data["tls.key"])


# Installed


async def test_the_first_pass_makes_both_secrets_and_a_strict_client_takes_them(world, tmp_path):
    assert world.loop.bundle() is None
    assert await world.look() is None
    authority, serving = await world.box.get(AUTHORITY), await world.box.get(SERVING)
    assert set(authority.data) == {"ca.crt", "ca.key"}
    assert (set(serving.data), serving.type) == ({"tls.crt", "tls.key"}, "kubernetes.io/tls")
    assert world.loop.bundle() == authority.data["ca.crt"]
    for name in NAMES:
        await handshake(tmp_path, await pair_of(world), world.loop.bundle(), name)
    before = authority.read, serving.read
    world.start()  # a restart changes nothing
    assert await world.look() is None
    after = (await world.box.get(AUTHORITY)).read, (await world.box.get(SERVING)).read
    assert before == after


async def test_until_the_configuration_was_read_nothing_is_made(twin):
    twin.published.known = False
    assert "waits for the webhook configuration to be read" in await twin.look()
    assert await twin.box.get(AUTHORITY) is None
    assert twin.loop.bundle() is None


async def test_no_usable_kubeconfig_ends_it(twin):
    twin.kube.fail("get", ConfigurationError("no"))
    with pytest.raises(ConfigurationError):
        await twin.loop.run(asyncio.Event())


# Renewed


async def test_the_leaf_is_renewed_at_two_thirds_of_its_life_by_the_same_authority(world):
    await installed(world)
    first, bundle = await world.leaf(), world.loop.bundle()
    world.pass_time(20 * DAY - HOUR)
    assert await world.look() is None
    assert await world.leaf() == first
    world.pass_time(2 * HOUR)
    assert await world.look() is None
    assert await world.leaf() != first
    assert world.loop.bundle() == bundle
    world.check()


async def test_a_name_that_the_leaf_lacks_renews_it(twin):
    await installed(twin)
    first = await twin.leaf()
    twin.loop._names = (*NAMES, "gate.example")
    assert await twin.look() is None
    assert await twin.leaf() != first
    twin.loop._names = NAMES
    second = await twin.leaf()
    assert await twin.look() is None
    assert await twin.leaf() == second


async def test_where_renewal_fails_health_says_so_while_there_is_time(twin):
    await installed(twin)
    twin.pass_time(26 * DAY)
    twin.kube.fail("replace", ForbiddenError("PUT secrets/trailgate-webhook-tls: 403"))
    assert "403" in await twin.look()
    twin.check()


async def test_a_leaf_that_can_t_be_renewed_is_told_before_it_ends(twin):
    """The authority ends, and its successor is never published."""
    await installed(twin)
    twin.published.bundle = twin.loop.bundle()  # for ever: nobody arms any more
    problem = None
    for _ in range(400):
        twin.pass_time(DAY)
        problem = await twin.look()
        if problem is not None:
            break
    left = (await twin.leaf()).not_valid_after_utc - twin.now
    assert timedelta(days=2) < left < timedelta(days=6)
    assert "is not renewed because the webhook configuration doesn't carry" in problem
    assert len((await twin.authority())[0]) == 2


async def test_the_metrics_say_when_they_end(twin):
    await installed(twin)
    leaf, (authority,) = await twin.leaf(), (await twin.authority())[0]

    def value(name, **labels):
        return twin.registry.get_sample_value(name, labels)

    ends = "trailgate_issued_certificate_not_after_seconds"
    assert value(ends, certificate="leaf") == leaf.not_valid_after_utc.timestamp()
    assert value(ends, certificate="authority") == authority.not_valid_after_utc.timestamp()
    steps = "trailgate_certificate_steps_total"
    assert value(steps, step="AddAuthority") == value(steps, step="IssueLeaf") == 1


# Rotated


async def test_an_authority_is_rotated_when_asked_with_both_waits(world, tmp_path):
    await installed(world)
    (old,), _ = await world.authority()
    first = await pair_of(world)
    await world.annotate("authority")
    assert await world.look() is None
    both, annotations = await world.authority()
    assert both[0] == old
    assert len(both) == 2
    assert annotations["trailgate.dev/rotate"] == "authority"
    world.pass_time(11 * MINUTE)
    assert await world.look() is None
    assert await world.leaf() == first.certificate  # nobody has published it yet
    world.arm()
    assert await world.look() is None
    world.pass_time(9 * MINUTE)
    assert await world.look() is None
    assert await world.leaf() == first.certificate  # not long enough
    world.pass_time(2 * MINUTE)
    assert await world.look() is None
    second = await pair_of(world)
    assert second.certificate != first.certificate
    assert second.certificate.issuer == both[1].subject
    for pair in (first, second):
        await handshake(tmp_path, pair, world.loop.bundle(), NAMES[0])
    world.pass_time(50 * MINUTE)
    assert await world.look() is None
    assert len((await world.authority())[0]) == 2  # within the grace time
    world.pass_time(11 * MINUTE)
    assert await world.look() is None
    (new,), annotations = await world.authority()
    assert new == both[1]
    assert annotations == {}
    assert set((await world.box.get(AUTHORITY)).data) == {"ca.crt", "ca.key"}
    world.arm()
    world.pass_time(60)
    world.check()


async def test_an_authority_is_rotated_at_two_thirds_of_its_life(twin):
    await installed(twin)
    (old,), _ = await twin.authority()
    for _ in range(242):
        twin.pass_time(DAY)
        await twin.look()
        assert (await twin.authority())[0] == (old,)
    for _ in range(3):
        twin.pass_time(DAY)
        await twin.look()
        twin.arm()
    assert await twin.settle() is None
    assert (await twin.authority())[0] != (old,)


async def test_a_leaf_is_renewed_when_asked_once(world):
    await installed(world)
    first = await world.leaf()
    await world.annotate("leaf")
    assert await world.look() is None
    second = await world.leaf()
    assert second != first
    assert (await world.authority())[1] == {}
    assert await world.look() is None
    assert await world.leaf() == second
    await world.annotate("leaf")
    assert await world.look() is None
    assert await world.leaf() != second


async def test_what_is_asked_for_but_unknown_is_told(twin):
    await installed(twin)
    await twin.annotate("everything")
    assert "got 'everything', expected leaf or authority" in await twin.look()
    await twin.annotate(None)
    assert await twin.look() is None


async def test_a_request_that_was_taken_back_leaves_no_mark(twin):
    """Else the next one would count as done before it began."""
    await installed(twin)
    await twin.annotate("authority")
    await twin.look()
    await twin.annotate(None)
    assert await twin.settle() is None
    (old,), annotations = await twin.authority()
    assert annotations == {}
    await twin.annotate("authority")
    assert await twin.settle() is None
    assert (await twin.authority())[0] != (old,)


async def test_a_restart_begins_the_waits_anew(twin):
    await installed(twin)
    first = await twin.leaf()
    await twin.annotate("authority")
    await twin.look()
    twin.arm()
    for _ in range(5):
        twin.pass_time(9 * MINUTE)
        twin.start()
        await twin.look()
    assert await twin.leaf() == first
    twin.pass_time(11 * MINUTE)
    await twin.look()
    assert await twin.leaf() != first


async def test_a_configuration_put_back_begins_the_overlap_anew(twin):
    await installed(twin)
    first, before = await twin.leaf(), twin.loop.bundle()
    await twin.annotate("authority")
    await twin.look()
    twin.arm()
    await twin.look()
    twin.pass_time(9 * MINUTE)
    twin.published.bundle = before
    await twin.look()
    twin.published.bundle = twin.loop.bundle()
    await twin.look()
    twin.pass_time(9 * MINUTE)
    await twin.look()
    assert await twin.leaf() == first


async def test_a_clock_that_goes_back_issues_nothing(world):
    await installed(world)
    world.skew = -(world.seconds + 600)
    await world.annotate("leaf")
    first = await world.leaf()
    assert "the clock went back" in await world.look()
    assert await world.leaf() == first
    world.skew = 0.0
    assert await world.look() is None
    assert await world.leaf() != first


async def test_a_clock_that_is_ahead_of_the_api_servers_issues_no_leaf(control_plane, namespace):
    async with await KubeClient.open(control_plane.admin.kubeconfig) as client:
        world = World(client, namespace)
        world.most_ahead, world.skew = timedelta(minutes=30), 2 * HOUR
        world.start()
        world.loop._clock = lambda: datetime.now(UTC) + timedelta(seconds=world.skew)
        assert "the clock is ahead" in await world.look()
        assert await world.box.get(SERVING) is None
        world.skew = 0.0
        assert await world.look() is None
        first = await world.leaf()
        world.skew = 29 * MINUTE
        await world.annotate("leaf")
        assert await world.look() is None
        second = await world.leaf()
        assert second != first
        world.skew = 32 * MINUTE
        await world.annotate("leaf")
        assert "the clock is ahead" in await world.look()
        assert await world.leaf() == second


# Damaged, lost, foreign


async def test_a_lost_authority_comes_back_beside_the_one_that_is_published(world):
    await installed(world)
    (old,), _ = await world.authority()
    first = await world.leaf()
    await world.lose(AUTHORITY)
    await world.look()
    assert old in (await world.authority())[0]
    assert old in read_bundle(world.loop.bundle())
    assert await world.leaf() == first
    assert await world.settle() is None
    assert old not in (await world.authority())[0]


async def test_where_both_are_lost_the_pods_go_on_with_what_they_have(world):
    await installed(world)
    for name in (AUTHORITY, SERVING):
        await world.lose(name)
    assert "waits until the webhook configuration carries" in await world.look()
    assert await world.box.get(SERVING) is None
    assert await world.settle() is None
    assert len((await world.authority())[0]) == 1


async def test_a_lost_leaf_comes_back_at_once(world):
    await installed(world)
    world.pass_time(10 * MINUTE)
    await world.lose(SERVING)
    assert await world.look() is None
    world.pass_time(200)
    world.check()


DAMAGE = {
    "no bundle": (AUTHORITY, "ca.crt", None),
    "no key": (AUTHORITY, "ca.key", None),
    "a bundle that is none": (AUTHORITY, "ca.crt", b"garbage"),
    "a key that is none": (AUTHORITY, "ca.key", b"garbage"),
    "another's key": (AUTHORITY, "ca.key", "other key"),
    "another's bundle": (AUTHORITY, "ca.crt", "other"),
    "a next key that is none": (AUTHORITY, "next.key", b"garbage"),
    "a leaf that is none": (SERVING, "tls.crt", b"garbage"),
    "another's leaf": (SERVING, "tls.crt", "other"),
    "a leaf's key that is none": (SERVING, "tls.key", b"garbage"),
}


@pytest.mark.parametrize("name", DAMAGE)
async def test_what_was_damaged_is_mended_and_nobody_is_locked_out(twin, name):
    await installed(twin)
    secret, key, content = DAMAGE[name]
    other = new_authority(twin.now, timedelta(days=365))
    content = {"other": other.certificate_pem, "other key": other.key_pem}.get(content, content)
    await twin.damage(secret, key, content)
    assert await twin.settle() is None
    twin.check()
    assert twin.published.bundle == twin.loop.bundle()


async def test_a_backup_of_an_earlier_authority_locks_nobody_out(twin):
    await installed(twin)
    yesterday = await twin.box.get(AUTHORITY)
    await twin.annotate("authority")
    await twin.settle()
    (new,), _ = await twin.authority()
    found = await twin.box.get(AUTHORITY)
    await twin.box.replace(Secret(AUTHORITY, yesterday.data, {}, found.type, found.read))
    twin.start()  # and nothing is remembered
    await twin.look()
    assert new in read_bundle(twin.loop.bundle())
    assert await twin.settle() is None


async def test_a_working_pair_of_somebody_elses_is_no_reason_to_lock_out(twin):
    """Published and served, but of an authority that isn't in our Secret: it stays trusted."""
    await installed(twin)
    other = new_authority(twin.now, timedelta(days=365))
    leaf = issue(other, NAMES, twin.now, timedelta(days=30))
    found = await twin.box.get(SERVING)
    await twin.box.replace(found.with_(tls_crt=leaf.certificate_pem, tls_key=leaf.key_pem))
    bundle = bundle_pem([*(await twin.authority())[0], other.certificate])
    twin.configurations.append((twin.seconds, bundle))
    twin.arm = lambda: setattr(twin.published, "bundle", twin.configurations[-1][1])
    twin.arm()
    await twin.see_leaf()
    twin.pass_time(200)
    twin.check()
    await twin.look()
    assert other.certificate in read_bundle(twin.loop.bundle())
    assert await twin.leaf() == leaf.certificate  # until ours was published long enough


@pytest.mark.parametrize("name", [AUTHORITY, SERVING])
async def test_a_secret_that_somebody_else_made_is_left_alone(world, name):
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque"}
    await world.kube.create(SECRETS, body, world.namespace)
    before = (await world.box.get(name)).read
    assert f"Secret {name}: not made by this operator" in await world.look()
    assert (await world.box.get(name)).read == before
    assert world.loop.bundle() is None


async def test_somebody_who_keeps_changing_them_is_told(twin):
    await installed(twin)
    await twin.annotate("leaf")
    for _ in range(20):
        twin.kube.fail("replace", ConflictError("x"))
    assert "somebody else keeps changing" in await twin.look()


# The loop


async def test_it_runs_wakes_and_stops(twin):
    stop = asyncio.Event()
    running = asyncio.create_task(twin.loop.run(stop))
    await until(lambda: twin.loop.bundle() is not None)
    await until(lambda: twin.loop.problem() is None)
    first = await twin.leaf()
    await twin.annotate("leaf")
    twin.loop.wake()
    for _ in range(200):
        if await twin.leaf() != first:
            break
        await asyncio.sleep(0.01)
    assert await twin.leaf() != first
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_whoever_publishes_is_told_of_a_new_bundle(twin):
    told = []
    twin.loop._changed = lambda: told.append(twin.loop.bundle())
    await twin.look()
    await twin.look()
    assert told == [twin.loop.bundle()]


@pytest.mark.parametrize(
    ("lifetimes", "text"),
    [
        ({"overlap": timedelta(seconds=59)}, "overlap 0:00:59, expected at least 0:01:00"),
        ({"grace": timedelta(minutes=4)}, "grace 0:04:00, expected at least 0:05:00"),
        ({"leaf": timedelta(minutes=59)}, "leaf lifetime"),
        ({"leaf": timedelta(hours=1), "overlap": timedelta(minutes=30)}, "leaf lifetime"),
        ({"authority": timedelta(days=179)}, "authority lifetime 179 days"),
    ],
)
def test_lifetimes_that_could_lock_out_are_refused(lifetimes, text):
    with pytest.raises(LifetimesError, match=text):
        Lifetimes(**lifetimes)


def test_no_secret_is_in_the_text_of_a_state():
    pair = new_authority(World().now, timedelta(days=1))
    assert "object at" not in repr(pair)
    assert "PRIVATE" not in repr(pair)
