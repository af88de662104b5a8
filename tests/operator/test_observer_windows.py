"""When the gate wasn't asked, as arming tells it in the trail."""

from __future__ import annotations

import pytest

from tests.core.ledger import example_records as ex
from tests.operator.observing import CLUSTER, at
from tests.operator.test_observer import Scene
from tests.operator.waiting import until
from trailgate.ledger import record as rec
from trailgate.ledger.record import ControlState, ControlSubject, GapCause
from trailgate_operator.observer_past import Past
from trailgate_operator.observer_windows import Window, Windows

CONFIGURATION = ControlSubject.WEBHOOK_CONFIGURATION


def state(seconds, what, subject=CONFIGURATION):
    told = rec.control_state(ex.CONTEXT, at(seconds), subject, ControlState(what), name="trailgate")
    record, _ = rec.commit(told, rec.Vault(), recorded_at=at(seconds), position=None)
    return record


def windows(*states):
    found = Windows()
    return [window for one in states if (window := found.note(one)) is not None]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([(0, "armed")], []),
        ([(0, "armed"), (1, "adjusted"), (2, "put-back")], []),
        ([(0, "armed"), (5, "disarmed"), (9, "armed")], [(GapCause.DISARMED, 5, 9)]),
        ([(0, "armed"), (5, "deleted"), (9, "put-back")], [(GapCause.UNARMED, 5, 9)]),
        ([(0, "armed"), (5, "changed"), (9, "adjusted")], [(GapCause.UNARMED, 5, 9)]),
        (
            [(0, "armed"), (5, "changed"), (6, "deleted"), (9, "put-back")],
            [(GapCause.UNARMED, 5, 9)],
        ),
        ([(0, "armed"), (9, "armed")], [(GapCause.UNARMED, None, 9)]),
        ([(0, "armed"), (5, "disarmed")], []),
        (
            [(0, "armed"), (1, "disarmed"), (2, "armed"), (3, "deleted"), (4, "put-back")],
            [(GapCause.DISARMED, 1, 2), (GapCause.UNARMED, 3, 4)],
        ),
    ],
)
def test_a_window_ends_when_it_is_armed_again(states, expected):
    assert windows(*(state(*one) for one in states)) == [
        Window(cause, None if since is None else at(since), at(until))
        for cause, since, until in expected
    ]


def test_other_parts_of_the_control_open_none():
    policy = state(1, "deleted", ControlSubject.POLICY)
    assert windows(state(0, "armed"), policy, state(2, "adjusted")) == []


async def test_it_is_told_once_armed_again():
    scene = Scene()
    async with scene.watching() as observer:
        await until(lambda: observer.problem() is None)
        for one in (state(0, "armed"), state(5, "disarmed"), state(9, "armed")):
            observer.appended(0, rec.encode(one))
        await until(lambda: scene.kinds() == ["gap"])
        told = scene.said[0].claim
        assert (told["cause"], told["since"], told["until"]) == (
            "disarmed", rec.stamp(at(5)), rec.stamp(at(9))
        )  # fmt: skip


async def test_after_a_restart_it_goes_on_and_says_again_what_may_be_missing():
    past = Past(CLUSTER, baseline=True)
    states = [(0, "armed"), (1, "disarmed"), (2, "armed"), (5, "deleted")]
    for index, one in enumerate(states):
        past.note(index, rec.encode(state(*one)))
    past.last = None
    scene = Scene(past=past)
    async with scene.watching() as observer:
        await until(lambda: scene.kinds() == ["gap"])
        observer.appended(9, rec.encode(state(9, "put-back")))
        await until(lambda: scene.kinds() == ["gap", "gap"])
    assert [(one.claim["cause"], one.claim["since"]) for one in scene.said] == [
        ("disarmed", rec.stamp(at(1))),
        ("unarmed", rec.stamp(at(5))),
    ]
    assert len({one.key for one in scene.said}) == 2
