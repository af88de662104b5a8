"""At every moment, whoever lags behind: the leaf that is served verifies under the bundle trusted.

Time, restarts, kills, conflicts, lost and damaged Secrets, a clock that jumps, an API server and
kubelets that lag, an arming that doesn't come: in any order.
"""

import asyncio
import contextlib
from datetime import timedelta

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.operator.certificates_world import API_LAG, World
from tests.operator.test_prepare import Killed, Killing
from trailgate_kube.errors import ConflictError, UnavailableError
from trailgate_operator.certificates_plan import Lifetimes
from trailgate_operator.certificates_state import AUTHORITY, ROTATE, SERVING

DAY = 86_400.0
GARBAGE = b"garbage"
LIFETIMES = Lifetimes(overlap=timedelta(minutes=5), grace=timedelta(minutes=15))


async def time(world, seconds):
    world.pass_time(seconds)
    world.check()
    await world.look()


async def kill(world, write, after):
    world.start(Killing(world.kube, write, after=after))
    with contextlib.suppress(Killed):
        await world.look()
    await world.see_leaf()
    world.start()


async def restart(world):
    world.pass_time(API_LAG)  # a start takes longer than that
    world.start()


async def hitch(world, method, error, after):
    world.kube.fail(method, error, after=after)
    await world.look()
    world.kube._failures.clear()


async def harm(world, what):
    """Damage what is stored, while it is armed: before that there is nobody to lock out."""
    if world.configurations[-1][1] is None or world.published.bundle is None:
        return
    await what(world)
    await world.look()


def moment(method):
    async def do(world, *arguments):
        method(world, *arguments)

    return do


steps = st.one_of(
    st.tuples(st.just(time), st.sampled_from([1.0, 20.0, 70.0, 300.0, 900.0, 7200.0, 3 * DAY])),
    st.tuples(st.just(moment(World.arm))),
    st.tuples(st.just(moment(World.arm))),
    st.tuples(st.just(moment(World.disarm))),
    st.tuples(st.just(moment(lambda w, i: w.catch_up(w.pods[i]))), st.integers(0, 1)),
    st.tuples(st.just(moment(lambda w, i: w.catch_up(w.api_servers[i]))), st.integers(0, 1)),
    st.tuples(st.just(World.annotate), st.sampled_from(["leaf", "authority", "nonsense", None])),
    st.tuples(st.just(restart)),
    st.tuples(st.just(kill), st.integers(1, 6), st.booleans()),
    st.tuples(
        st.just(hitch),
        st.sampled_from(["create", "replace"]),
        st.sampled_from([ConflictError("x"), UnavailableError("x", maybe_done=True)]),
        st.booleans(),
    ),
    st.tuples(
        st.just(moment(lambda w, s: setattr(w, "skew", s))), st.sampled_from([-1800.0, 0.0, 1800.0])
    ),
    st.tuples(st.just(moment(lambda w, k: setattr(w.published, "known", k))), st.booleans()),
    st.tuples(
        st.just(harm),
        st.sampled_from(
            [
                World.restore,
                lambda w: w.lose(AUTHORITY),
                lambda w: w.lose(SERVING),
                lambda w: w.damage(AUTHORITY, "ca.key", GARBAGE),
                lambda w: w.damage(AUTHORITY, "ca.key", None),
                lambda w: w.damage(AUTHORITY, "ca.crt", GARBAGE),
                lambda w: w.damage(AUTHORITY, "next.key", GARBAGE),
                lambda w: w.damage(SERVING, "tls.crt", GARBAGE),
                lambda w: w.damage(SERVING, "tls.key", None),
            ]
        ),
    ),
)


@settings(max_examples=25, phases=[Phase.generate])
@given(st.booleans(), st.lists(steps, min_size=8, max_size=40))
def test_the_leaf_that_is_served_verifies_under_the_bundle_that_is_trusted(installed, events):
    async def live():
        world = World(lifetimes=LIFETIMES)
        if installed:
            for _ in range(3):
                await world.look()
                world.pass_time(200)
                world.arm()
        world.check()
        for do, *arguments in events:
            if do is World.annotate and await world.box.get(AUTHORITY) is None:
                continue
            await do(world, *arguments)
            await world.see_leaf()
            world.check()
        world.published.known, world.skew = True, 0.0
        if await world.box.get(AUTHORITY) is not None:
            found = await world.box.get(AUTHORITY)
            if found.annotations.get(ROTATE) == "nonsense":
                await world.annotate(None)
        assert await world.settle() is None
        trusted, annotations = await world.authority()
        assert len(trusted) == 1
        assert annotations == {}
        assert world.published.bundle == world.loop.bundle()

    asyncio.run(live())
