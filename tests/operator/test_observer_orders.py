"""What is said depends on what was there, not on who told it first: random histories."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operator.observing import (
    DEPLOYMENT,
    REPLICA_SET,
    Watch,
    claim,
    pod,
    rolled,
    workload,
)

_END = timedelta(hours=2)


@st.composite
def histories(draw):
    """One Deployment's life: each step with or without an admission, rolled out or not."""
    steps = []
    release, replicas, before = "1", 2, None
    for generation in range(1, draw(st.integers(1, 5)) + 1):
        kinds = ["release", "fewer", "more"] if generation > 1 else ["release"]
        what = draw(st.sampled_from(kinds))
        admitted = draw(st.booleans())
        if what == "release":
            release = str(generation)
        replicas += {"release": 0, "fewer": -1, "more": 3}[what]
        replicas = max(replicas, 1)
        item = workload(generation=generation, release=release, replicas=replicas)
        told = None
        if admitted and what == "more":
            told = claim(generation, item, item, scale=replicas)
        elif admitted and what == "release":
            told = claim(generation, before, item)
        steps.append((told, item, draw(st.booleans()), release, replicas))
        before = item
    gone = draw(st.sampled_from([None, "by nobody", "admitted"]))
    return steps, gone


def events(history):
    """(claims, sights): each to be told in its own order, or (claims) in any."""
    steps, gone = history
    claims, sights = [], []
    for told, item, done, release, replicas in steps:
        if told is not None:
            claims.append(told)
        sights.append(("see", item))
        if done:
            generation = item["metadata"]["generation"]
            parts = [
                workload(REPLICA_SET, uid=f"rs{release}", release=release, owner=(DEPLOYMENT, "d"))
            ]
            pods = [
                pod(f"p{generation}-{n}", (REPLICA_SET, f"rs{release}"), release)
                for n in range(replicas)
            ]
            sights += [("see", one) for one in parts + pods]
            status = rolled(generation, replicas)
            sights.append(("see", {**item, "status": status}))
            sights += [("leave", one["metadata"]["uid"]) for one in pods]
    if gone is not None:
        if gone == "admitted":
            claims.append(claim(99, steps[-1][1], None))
        sights.append(("leave", "d"))
    return claims, sights


def run(claims, sights, order, looks):
    """Tell everything in one order; look at what is due whenever ``looks`` says so."""
    watch, claims, sights = Watch(), list(claims), list(sights)
    while claims or sights:
        take_claim = bool(claims) and (not sights or next(order))
        if take_claim:
            watch.claim(claims.pop(0))
        else:
            what, item = sights.pop(0)
            (watch.see if what == "see" else watch.leave)(item)
        watch.time += 1
        if next(looks):
            # The recorder says that everything is here only when it is.
            watch.due(recorded=None, heard={})
    watch.later(100)
    watch.later(100)
    watch.later(100)
    return {outline(one) for one in watch.said}


def outline(statement):
    told = statement.claim
    return (
        statement.key,
        told["kind"],
        told.get("cause"),
        told.get("by"),
        told.get("seen"),
        told.get("why"),
        told.get("claim"),
        str(told.get("images")),
    )


def endless(values, last):
    yield from values
    while True:
        yield last


@settings(max_examples=100, deadline=None)
@given(
    histories(),
    st.randoms(use_true_random=False),
    st.lists(st.booleans(), max_size=60),
    st.lists(st.booleans(), max_size=60),
)
def test_any_order_says_the_same(history, random, order, looks):
    claims, sights = events(history)
    expected = run(claims, sights, endless([], True), endless([], False))
    shuffled = list(claims)
    random.shuffle(shuffled)
    assert run(shuffled, sights, endless(order, False), endless(looks, True)) == expected


@settings(max_examples=100, deadline=None)
@given(histories())
def test_every_step_is_accounted_for(history):
    """Each admission is answered, each release that nobody admitted is told, each end once."""
    claims, sights = events(history)
    said = run(claims, sights, endless([], True), endless([], False))
    kinds = [one[1] for one in said]
    assert kinds.count("persisted") + kinds.count("not-persisted") == len(claims)
    steps, gone = history
    admitted = {int(s[1]["metadata"]["generation"]) for s in steps if s[0] is not None}
    for told, item, *_ in steps:
        generation = item["metadata"]["generation"]
        persisted = [one for one in said if one[1] == "persisted" and one[6] == generation]
        assert len(persisted) == (told is not None and generation in admitted)
    released = {one[0].split("/")[1] for one in said if one[1] == "persisted"}
    assert {one[0].split("/")[1] for one in said if one[1] in ("running", "ended")} <= released
    if gone == "admitted":
        assert any(one[1] == "persisted" and one[6] == 99 for one in said)
