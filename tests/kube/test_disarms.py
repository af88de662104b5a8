"""A Disarm: what the API server takes, what the operator makes of it, what its conditions say."""

import uuid
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from e2e.controlplane.cluster import ApiError
from tests.core.ledger import example_records as ex
from trailgate.ledger.record import DisarmState
from trailgate.model.errors import MalformedError
from trailgate_kube import crd
from trailgate_kube.conditions import Condition, status_with
from trailgate_kube.disarms import LONGEST, MAX_REASON, MAX_TICKET, Disarm, State, definition
from trailgate_kube.resources import DISARMS
from trailgate_operator.arming_trail import Words

CREATED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def item(until=CREATED + HOUR, **spec):
    until = until.isoformat() if isinstance(until, datetime) else until
    return {
        "metadata": {
            "name": "emergency", "uid": "u", "generation": 1,
            "creationTimestamp": "2026-11-23T12:00:00Z",
        },
        "spec": {"reason": "broken", "until": until} | spec,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("until", "now", "state"),
    [
        (CREATED + HOUR, CREATED, State.IN_EFFECT),
        (CREATED + HOUR, CREATED + HOUR - timedelta(microseconds=1), State.IN_EFFECT),
        (CREATED + HOUR, CREATED + HOUR, State.EXPIRED),
        (CREATED + LONGEST, CREATED, State.IN_EFFECT),
        (CREATED + LONGEST + timedelta(seconds=1), CREATED, State.TOO_LONG),
        # Refused once, it is refused for good: not accepted when less of it is left.
        (CREATED + LONGEST + timedelta(seconds=1), CREATED + HOUR, State.TOO_LONG),
        (CREATED, CREATED, State.TOO_LATE),
        (CREATED - HOUR, CREATED - 2 * HOUR, State.TOO_LATE),
        ("2026-11-23T13:00:00", CREATED, State.UNREADABLE),
        ("later", CREATED, State.UNREADABLE),
        ("2026-11-23T15:00:00+02:00", CREATED + timedelta(minutes=59), State.IN_EFFECT),
    ],
)
def test_what_it_does_when(until, now, state):
    disarm = Disarm.of(item(until))
    assert disarm.state(now) is state
    accepted, active = disarm.conditions(now)
    assert accepted.status is state.accepted
    assert active.status is (state is State.IN_EFFECT)
    assert active.reason == (state.value if state.accepted else "Refused")


@given(
    st.sampled_from(["9999-12-31", "9999-12-30", "0001-01-01", "0001-01-02", "2026-11-23"]),
    st.times(),
    st.integers(-1439, 1439),
)
@example("9999-12-31", time(23, 59, 59), -1439)
@example("0001-01-01", time(0, 0), 1439)
def test_whatever_its_until_says_it_can_be_told(day, clock, offset):
    """At both ends of the calendar an offset leads to a time that isn't one in UTC."""
    hours, minutes = divmod(abs(offset), 60)
    sign = "-" if offset < 0 else "+"
    text = f"{day}T{clock.isoformat('microseconds')}{sign}{hours:02}:{minutes:02}"
    disarm = Disarm.of(item(text))
    told = Words(ex.CONTEXT, lambda: CREATED).disarm(disarm, DisarmState.REFUSED)
    event(disarm.state(CREATED).value)
    assert all(one.message for one in disarm.conditions(CREATED))
    minute = clock.hour * 60 + clock.minute - offset
    beyond = (day == "9999-12-31" and minute >= 1440) or (day == "0001-01-01" and minute < 0)
    assert (disarm.state(CREATED) is State.UNREADABLE) is beyond
    assert (told.claim["until"] is None) is beyond


def test_one_that_was_never_stored_is_none():
    bare = item()
    del bare["metadata"]["creationTimestamp"]
    with pytest.raises(MalformedError, match="creationTimestamp"):
        Disarm.of(bare)


def test_a_condition_keeps_its_time_while_its_status_does():
    seen = item()
    one = Condition("Active", "InEffect", "until noon", status=True)
    seen["status"] = first = status_with(seen, [one], CREATED)
    assert first["observedGeneration"] == 1
    assert first["conditions"][0]["lastTransitionTime"] == "2026-11-23T12:00:00Z"
    same = status_with(seen, [Condition("Active", "Else", "x", status=True)], CREATED + HOUR)
    assert same["conditions"][0]["lastTransitionTime"] == "2026-11-23T12:00:00Z"
    assert same["conditions"][0]["reason"] == "Else"
    other = status_with(seen, [Condition("Active", "Expired", "", status=False)], CREATED + HOUR)
    assert other["conditions"][0]["lastTransitionTime"] == "2026-11-23T13:00:00Z"


def test_what_others_wrote_into_a_status_stays():
    seen = item() | {"status": {"counts": 3, "conditions": [{"type": "Other", "status": "True"}]}}
    status = status_with(seen, [Condition("Active", "InEffect", "", status=True)], CREATED)
    assert status["counts"] == 3
    assert [one["type"] for one in status["conditions"]] == ["Other", "Active"]


def test_a_message_fits_into_the_schema():
    (one,) = status_with(item(), [Condition("A", "B", "x" * 40_000, status=True)], CREATED)[
        "conditions"
    ]
    assert len(one["message"]) == 32_768


def test_the_definitions_are_written_each_into_a_file(tmp_path):
    written = crd.write(tmp_path)
    assert [path.name for path in written] == [
        "admissions.trailgate.dev.yaml",
        "deploypolicies.trailgate.dev.yaml",
        "disarms.trailgate.dev.yaml",
    ]


# On a real API server.


@pytest.fixture
def disarms(control_plane):
    control_plane.install_crds(definition())
    made = []

    def create(**changes):
        spec = {"reason": "registry is down", "until": "2099-01-31T12:00:00Z"} | changes
        spec = {name: value for name, value in spec.items() if value is not None}
        name = f"d-{uuid.uuid4().hex[:8]}"
        body = {
            "apiVersion": DISARMS.api_version, "kind": DISARMS.kind,
            "metadata": {"name": name}, "spec": spec,
        }  # fmt: skip
        query = "?fieldValidation=Strict"
        found = control_plane.api("POST", DISARMS.path(None) + query, body)
        made.append(name)
        return found

    yield create
    for name in made:
        control_plane.api("DELETE", DISARMS.path(None, name))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"ticket": "INC-7"},
        {"reason": "r" * MAX_REASON, "ticket": "t" * MAX_TICKET},
        {"until": "2099-01-31T12:00:00.123456+02:00"},
    ],
)
def test_the_api_server_takes(disarms, spec):
    found = disarms(**spec)
    assert found["spec"].items() >= spec.items()
    assert Disarm.of(found).until is not None


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"reason": None}, "spec.reason"),
        ({"reason": ""}, "spec.reason"),
        ({"reason": "  "}, "spec.reason"),
        ({"reason": "r" * (MAX_REASON + 1)}, "spec.reason"),
        ({"ticket": ""}, "spec.ticket"),
        ({"ticket": "t" * (MAX_TICKET + 1)}, "spec.ticket"),
        ({"until": None}, "spec.until"),
        ({"until": "tomorrow"}, "spec.until"),
        ({"until": "2099-01-31"}, "spec.until"),
        ({"until": "2099-01-31T12:00:00"}, "spec.until"),
        ({"until": "2099-13-31T12:00:00Z"}, "spec.until"),
        ({"until": "9999-12-31T23:59:59-23:59"}, "spec.until"),
        ({"until": "0001-01-01T00:00:00+23:59"}, "spec.until"),
        ({"for": "1h"}, "spec.for"),
    ],
)
def test_the_api_server_refuses(disarms, spec, field):
    with pytest.raises(ApiError) as refused:
        disarms(**spec)
    assert refused.value.status in (400, 422)
    assert field in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [{"until": "2099-02-01T12:00:00Z"}, {"reason": "something else"}, {"ticket": "INC-8"}],
)
def test_it_never_changes(disarms, control_plane, change):
    found = disarms()
    path = DISARMS.path(None, found["metadata"]["name"])
    with pytest.raises(ApiError, match="a Disarm never changes"):
        control_plane.api("PUT", path, found | {"spec": found["spec"] | change})
    found["metadata"]["labels"] = {"a": "b"}
    assert control_plane.api("PUT", path, found)["metadata"]["labels"] == {"a": "b"}


def test_a_status_is_written_beside_it_and_shown(disarms, control_plane):
    found = disarms(ticket="INC-7", until=(datetime.now(UTC) + HOUR).strftime("%Y-%m-%dT%H:%M:%SZ"))
    now = datetime.now(UTC)
    status = status_with(found, Disarm.of(found).conditions(now), now)
    path = DISARMS.path(None, found["metadata"]["name"])
    stored = control_plane.api("PUT", f"{path}/status", found | {"status": status, "spec": {}})
    assert stored["status"] == status
    assert stored["spec"] == found["spec"]
    shown = control_plane.kubectl(control_plane.admin, "get", "disarm", found["metadata"]["name"])
    head, row = shown.stdout.splitlines()
    assert head.split() == ["NAME", "REASON", "TICKET", "UNTIL", "STATE", "AGE"]
    assert "INC-7" in row
    assert "InEffect" in row
