"""A cache may change how long an answer takes, and nothing about the answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.assess.support import (
    LAPTOP,
    OwnersTwin,
    controller,
    owned_by,
    request,
    workload,
)
from tests.core.assess.world import HOST, KINDS, Clock, World, policy
from tests.core.policy.builders import NOW
from trailgate.assess.assessor import Assessor
from trailgate.assess.gather import RegistryEvidence
from trailgate.assess.images import DEPLOYMENT, POD, REPLICA_SET
from trailgate.model.admission import AdmissionRequest
from trailgate.model.assessment import Assessment
from trailgate.oci.errors import UnauthorizedError, UnavailableError

IMAGES = ("a", "b", "c")


@dataclass
class Gate:
    assessor: Assessor
    source: RegistryEvidence
    world: World
    clock: Clock

    @classmethod
    def new(cls, world: World, policies: list[Any], owners: OwnersTwin, **more: Any) -> Gate:
        clock = Clock()
        source = RegistryEvidence(world, lambda: {HOST}, clock=clock)
        assessor = Assessor(lambda: policies, source, owners, "c1", lambda: NOW, **more)
        return cls(assessor, source, world, clock)


def verdict(found: Assessment) -> tuple[Any, ...]:
    """All of an answer: the assessment but for the request's own time, which is fixed here."""
    return (
        found.change_class,
        found.decision,
        found.message,
        found.warnings,
        found.spec_digest,
        found.delta,
        found.changed_images,
    )


statements = st.sets(st.sampled_from(KINDS))
described = st.tuples(statements, st.sampled_from(["build", "other"]))
asks = st.sampled_from(
    [("signature",), ("provenance",), ("signature", "provenance"), ("provenance", "tests")]
)
policies_ = st.lists(
    st.tuples(asks, st.sampled_from(["build", "other"]), st.sampled_from(["Enforce", "Audit"])),
    min_size=1,
    max_size=2,
)
requests_ = st.lists(
    st.tuples(
        st.lists(st.sampled_from((*IMAGES, "tag", "stranger")), min_size=1, max_size=3),
        st.sampled_from(["deployer", "laptop", "child"]),
    ),
    min_size=1,
    max_size=6,
)
trouble = st.lists(
    st.sampled_from([UnavailableError("down"), UnauthorizedError("401"), RuntimeError("bug")]),
    max_size=12,
)
usual = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def build(
    said: list[tuple[set[str], str]], chosen: list[Any]
) -> tuple[World, dict[str, str], list[Any]]:
    world = World()
    texts = {"tag": f"{HOST}/acme/a:v1", "stranger": "docker.io/evil/x"}
    for name, (what, by) in zip(IMAGES, said, strict=True):
        texts[name] = str(await world.image(name, *sorted(what), by=by))
    policies = [
        policy(f"p{number}", ask=ask, by=by, mode=mode)
        for number, (ask, by, mode) in enumerate(chosen)
    ]
    return world, texts, policies


def asked(
    texts: dict[str, str], row: tuple[list[str], str], owners: OwnersTwin
) -> AdmissionRequest:
    images, who = [texts[name] for name in row[0]], row[1]
    if who != "child":
        item = workload(DEPLOYMENT, *images)
        return request(item, **({"caller": LAPTOP} if who == "laptop" else {}))
    name = "-".join(row[0])
    owner = workload(REPLICA_SET, *images, name=name)
    owners.add(owner)
    pod = workload(POD, *images, ownerReferences=owned_by(owner))
    return request(pod, caller=controller("replicaset-controller"))


@usual
@given(st.lists(described, min_size=3, max_size=3), policies_, policies_, requests_)
def test_a_warm_gate_answers_as_a_cold_one(said, before, after, rows):
    async def play() -> None:
        world, texts, earlier = await build(said, before)
        _, _, later = await build(said, after)
        owners = OwnersTwin()
        policies: list[Any] = []
        warm = Gate.new(world, policies, owners)
        for number, row in enumerate((*rows, *rows, *rows)):
            policies[:] = later if number >= len(rows) else earlier
            question = asked(texts, row, owners)
            cold = Gate.new(world, policies, owners)
            expected = await cold.assessor.assess(question)
            assert verdict(await warm.assessor.assess(question)) == verdict(expected)
            await cold.source.close()
        await warm.source.close()

    asyncio.run(play())


@usual
@given(
    st.lists(described, min_size=3, max_size=3),
    policies_,
    requests_,
    trouble,
    st.lists(st.sampled_from([0.0, 10.0, 40.0, 1000.0]), min_size=6, max_size=6),
)
def test_errors_and_time_never_make_an_allow(said, chosen, rows, errors, waits):
    async def play() -> None:
        world, texts, policies = await build(said, chosen)
        owners = OwnersTwin()
        gate = Gate.new(world, policies, owners)
        for row, wait in zip(rows, waits, strict=False):
            question = asked(texts, row, owners)
            cold = Gate.new(replace(world, failures=[]), policies, owners)
            expected = await cold.assessor.assess(question)
            world.failures = list(errors)
            found = await gate.assessor.assess(question)
            assert not found.decision.allowed or expected.decision.allowed
            # And when the trouble is over, the answer is what it would always have been.
            world.failures = []
            gate.clock.now += wait
            again = await gate.assessor.assess(question)
            assert again.decision.allowed == expected.decision.allowed
            await cold.source.close()
        await gate.source.close()

    asyncio.run(play())


@usual
@given(st.lists(described, min_size=3, max_size=3), policies_, requests_)
def test_running_out_of_time_never_makes_an_allow(said, chosen, rows):
    async def play() -> None:
        world, texts, policies = await build(said, chosen)
        owners = OwnersTwin()
        hurried = Gate.new(world, policies, owners, budget=0.0)
        for row in rows:
            question = asked(texts, row, owners)
            cold = Gate.new(world, policies, owners)
            expected = await cold.assessor.assess(question)
            found = await hurried.assessor.assess(question)
            assert not found.decision.allowed or expected.decision.allowed
            await cold.source.close()
        # What was begun is finished: first the owner, then the evidence, with no time at all.
        for row in rows:
            question = asked(texts, row, owners)
            cold = Gate.new(world, policies, owners)
            expected = await cold.assessor.assess(question)
            for _ in range(2):
                await hurried.assessor.assess(question)
                while hurried.source.in_flight:  # noqa: ASYNC110 - nothing else to wait for
                    await asyncio.sleep(0)
            again = await hurried.assessor.assess(question)
            assert again.decision.allowed == expected.decision.allowed
            await cold.source.close()
        await hurried.source.close()

    asyncio.run(play())


def test_an_outage_stops_roots_and_not_the_pods_of_a_running_release():
    async def play() -> None:
        world = World()
        image = str(await world.image("web", "signature"))
        owners = OwnersTwin()
        gate = Gate.new(world, [policy()], owners)
        root = request(workload(DEPLOYMENT, image))
        owner = workload(REPLICA_SET, image)
        owners.add(owner)
        pod = workload(POD, image, ownerReferences=owned_by(owner))
        child = request(pod, caller=controller("replicaset-controller"))
        assert (await gate.assessor.assess(root)).decision.allowed
        gate.clock.now += 10_000
        world.memory.down.add(HOST)
        denied = await gate.assessor.assess(root)
        assert not denied.decision.allowed
        assert denied.decision.retryable
        assert (await gate.assessor.assess(child)).decision.allowed
        await gate.source.close()

    asyncio.run(play())


def test_new_keys_during_an_outage_do_not_stop_the_pods_that_they_cover():
    async def play() -> None:
        world = World()
        image = str(await world.image("web", "signature"))
        owners = OwnersTwin()
        policies = [policy()]
        gate = Gate.new(world, policies, owners)
        owner = workload(REPLICA_SET, image)
        owners.add(owner)
        pod = workload(POD, image, ownerReferences=owned_by(owner))
        child = request(pod, caller=controller("replicaset-controller"))
        assert (await gate.assessor.assess(child)).decision.allowed
        gate.clock.now += 10_000
        world.memory.down.add(HOST)
        rules = [policy(by="build").rules[0], policy(by="other").rules[0]]
        policies[:] = [
            replace(policies[0], rules=(replace(rules[0], keys=(*rules[0].keys, *rules[1].keys)),))
        ]
        assert (await gate.assessor.assess(child)).decision.allowed
        policies[:] = [policy(by="other")]
        found = await gate.assessor.assess(child)
        assert not found.decision.allowed  # a key that is no longer trusted is not trusted
        await gate.source.close()

    asyncio.run(play())


def test_a_stale_refusal_does_not_outlive_the_signature():
    async def play() -> None:
        world = World()
        image = await world.image("web", "tests")
        owners = OwnersTwin()
        gate = Gate.new(world, [policy()], owners)
        owner = workload(REPLICA_SET, str(image))
        owners.add(owner)
        pod = workload(POD, str(image), ownerReferences=owned_by(owner))
        child = request(pod, caller=controller("replicaset-controller"))
        assert not (await gate.assessor.assess(child)).decision.allowed
        await world.say(image, "signature")
        gate.clock.now += 31
        assert (await gate.assessor.assess(child)).decision.allowed
        await gate.source.close()

    asyncio.run(play())
