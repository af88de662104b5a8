"""What arming decides, and in which order it acts and tells: on the twin, every case alone."""

import base64
import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from tests.core.ledger import example_records as ex
from tests.webhook.world import policy
from trailgate.ledger.errors import LedgerUnavailableError
from trailgate.ledger.people import Vault
from trailgate.ledger.record import commit, encode
from trailgate.policy.parse import parse_policy
from trailgate_kube.disarms import Disarm
from trailgate_kube.errors import ConflictError, ForbiddenError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.policies import Policies
from trailgate_kube.resources import (
    CLUSTER_ROLES,
    DEPLOY_POLICIES,
    DISARMS,
    VALIDATING_WEBHOOKS,
)
from trailgate_kube.webhooks import CONFIGURATION, Address, FailClosed, bundle_of, configuration
from trailgate_operator.arming import Arming, Parts
from trailgate_operator.arming_plan import (
    Ask,
    Create,
    Found,
    Observed,
    Remove,
    Replace,
    Settings,
    Stay,
    fail_closed,
    in_order,
    plan,
)
from trailgate_operator.loops import WaitingError
from trailgate_operator.metrics import Metrics

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n"
OTHER = CERTIFICATE.replace(b"QQ", b"Qg")
SETTINGS = Settings(Address(), "trailgate-system")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CLOSED = FailClosed.of(["shop"])


def disarm(*, created=NOW, until=NOW + timedelta(hours=1), name="emergency"):
    return Disarm(name, f"uid-{name}", 1, created, until, "broken", None)


def stored(closed=CLOSED, bundle=CERTIFICATE, owner="role-uid", **metadata):
    body = configuration(Address(), bundle, closed, owner)
    body["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": "1"} | metadata
    return Found(body)


def observed(**changes):
    made = Observed(found=None, closed=CLOSED, owner="role-uid", bundle=CERTIFICATE)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({}, Ask),
        ({"answer": ""}, Create),
        ({"answer": "nobody"}, Stay),
        ({"owner": None, "answer": ""}, Stay),
        ({"bundle": None, "answer": ""}, Stay),
        ({"disarm": disarm(), "answer": ""}, Stay),
        ({"found": stored()}, Stay),
        ({"found": stored(), "answer": "nobody"}, Stay),
        ({"found": stored(), "disarm": disarm()}, Remove),
        ({"found": stored(), "disarm": disarm(), "owner": None, "bundle": None}, Remove),
        ({"found": stored(), "owner": None}, Stay),
        ({"found": stored(), "bundle": None}, Stay),
        ({"found": stored(FailClosed.of(["x"])), "bundle": None}, Replace),
        ({"found": stored(bundle=b""), "bundle": None}, Stay),
        ({"found": stored(FailClosed.of(["x"]))}, Replace),
        ({"found": stored(bundle=OTHER)}, Replace),
        ({"found": stored(owner="before the upgrade")}, Replace),
        ({"found": stored(labels={})}, Replace),
        ({"found": stored(annotations={"a": "b"})}, Replace),
        ({"found": stored(finalizers=["a.b/c"])}, Replace),
        ({"found": stored(ownerReferences=[])}, Replace),
    ],
)
def test_what_is_done_when(changes, step):
    assert isinstance(plan(observed(**changes), SETTINGS), step)


def test_only_what_is_as_it_should_be_waits_for_nothing():
    assert plan(observed(found=stored()), SETTINGS) == Stay()
    assert plan(observed(disarm=disarm()), SETTINGS) == Stay()
    for changes, why in (
        ({"owner": None}, "trailgate-arming"),
        ({"bundle": None}, "authority"),
        ({"answer": "nobody home"}, "nobody home"),
    ):
        assert why in plan(observed(**changes), SETTINGS).waiting


def edits():
    """Each way to weaken, or only change, one entry."""
    yield lambda hooks: hooks.pop()
    yield lambda hooks: hooks.reverse()
    for number in range(4):
        for name, value in (
            ("failurePolicy", "Other"),
            ("rules", []),
            ("objectSelector", {"matchLabels": {"a": "b"}}),
            ("namespaceSelector", {"matchLabels": {"a": "b"}}),
            ("timeoutSeconds", 1),
            ("matchPolicy", "Exact"),
            ("sideEffects", "None"),
            ("matchConditions", [{"name": "never", "expression": "false"}]),
            ("clientConfig", {"url": "https://example.com"}),
            ("unknown", 1),
        ):
            yield lambda hooks, n=number, k=name, v=value: hooks[n].update({k: v})


@pytest.mark.parametrize("edit", list(edits()))
def test_whatever_somebody_changes_is_put_back(edit):
    found = stored()
    edit(found.body["webhooks"])
    step = plan(observed(found=found), SETTINGS)
    assert isinstance(step, Replace)
    assert step.body["webhooks"] == stored().body["webhooks"]
    assert in_order(observed(found=found), SETTINGS) is False


def test_what_a_newer_api_server_fills_in_is_no_edit():
    written = stored().body
    filled = copy.deepcopy(written)
    filled["webhooks"][0]["added"] = "default"
    found = Found(filled)
    assert isinstance(plan(observed(found=found), SETTINGS), Replace)
    known = observed(found=found, written=written, stored=filled)
    assert plan(known, SETTINGS) == Stay()
    tampered = Found(copy.deepcopy(filled))
    tampered.body["webhooks"][0]["added"] = "else"
    assert isinstance(plan(replace(known, found=tampered), SETTINGS), Replace)
    wanted = replace(known, closed=FailClosed.of(["shop", "more"]))
    assert isinstance(plan(wanted, SETTINGS), Replace)


def test_the_published_authorities_are_those_that_all_entries_trust():
    body = configuration(Address(), CERTIFICATE + OTHER, CLOSED, "uid")
    assert bundle_of(body) == CERTIFICATE + OTHER
    body["webhooks"][2] = body["webhooks"][2] | {
        "clientConfig": {"caBundle": base64.b64encode(OTHER).decode()}
    }
    assert bundle_of(body) == OTHER
    body["webhooks"][3] = body["webhooks"][3] | {"clientConfig": {"caBundle": "not base64!"}}
    assert bundle_of(body) == b""
    assert bundle_of({}) == b""


# Where policies enforce.


def parsed(mode, *namespaces):
    document = policy(mode=mode)
    document["spec"]["namespaces"] = list(namespaces)
    return parse_policy(document)


def test_it_fails_closed_where_some_policy_enforces():
    given = [parsed("Enforce", "a", "b-*"), parsed("Audit", "c"), parsed("Warn", "d")]
    assert fail_closed([*given, parsed("Enforce", "a")], []) == FailClosed.of(["a", "b-*"])
    assert fail_closed([], []) == FailClosed()


@pytest.mark.parametrize(
    ("spec", "closed"),
    [
        ({"mode": "Enforce", "namespaces": ["x"]}, FailClosed.of(["a", "x"])),
        ({"mode": "Audit", "namespaces": ["x"]}, FailClosed.of(["a"])),
        ({"namespaces": ["x"]}, FailClosed.of(["a"])),
        ({"mode": "Warn"}, FailClosed.of(["a"])),
        ({"mode": "Enforce"}, FailClosed(everywhere=True)),
        ({"mode": "Enforce", "namespaces": "x"}, FailClosed(everywhere=True)),
        ({"mode": "Enforce", "namespaces": [1]}, FailClosed(everywhere=True)),
        ({"mode": "Enforce", "namespaces": ["X!"]}, FailClosed(everywhere=True)),
        ({"mode": "Later", "namespaces": ["x"]}, FailClosed.of(["a", "x"])),
        ("nonsense", FailClosed(everywhere=True)),
        (None, FailClosed(everywhere=True)),
    ],
)
def test_a_policy_that_cannot_be_read_counts_by_what_can(spec, closed):
    """On top of its last good form, which is among those that were read."""
    assert fail_closed([parsed("Enforce", "a")], [{"spec": spec}]) == closed


# The order of acting and telling.


class Desk:
    """The loop on the twin; everything that it does and tells stands in ``log``, in order."""

    def __init__(self):
        self.kube, self.log, self.told = MemoryKube(), [], {}
        self.answers, self.now, self.fail = True, NOW, []
        self.republished = 0
        for name in ("create", "replace", "delete"):
            self._listen(name)

    def _listen(self, name):
        original = getattr(self.kube, name)

        async def heard(resource, *arguments, **how):
            if resource is VALIDATING_WEBHOOKS:
                self.log.append(name)
            return await original(resource, *arguments, **how)

        if not hasattr(self, "door"):
            self.door = Door(self.kube)
        setattr(self.door, name, heard)

    async def begin(self, *policies):
        await self.kube.create(CLUSTER_ROLES, {"metadata": {"name": "trailgate-arming"}})
        for document in policies:
            await self.kube.create(DEPLOY_POLICIES, document)
        self.start()

    def start(self):
        self.policies = Policies(self.kube)
        self.metrics = Metrics()
        self.arming = Arming(
            Parts(
                self.door,
                self.policies,
                self,
                self,
                self.tell,
                ex.CONTEXT,
                self.metrics,
                self.heard,
            ),
            SETTINGS,
            clock=lambda: self.now,
        )

    def heard(self):
        self.republished += 1

    async def look(self):
        await self.policies._mirror._list()
        return await self.arming.look()

    async def tell(self, statements):
        if statements and self.fail:
            raise self.fail.pop(0)
        new = [one for one in statements if one.key not in self.told]
        for one in new:
            self.told[one.key] = one.claim
            self.log.append(f"{one.claim['kind']}: {one.claim['state']}")
        return frozenset(one.key for one in new)

    def bundle(self):
        return CERTIFICATE

    async def problem(self, bundle):
        return None if self.answers else "nobody"

    async def disarm(self, name="emergency", hours=1):
        until = (self.now + timedelta(hours=hours)).isoformat()
        spec = {"reason": "broken", "until": until}
        made = await self.kube.create(DISARMS, {"metadata": {"name": name}, "spec": spec})
        await self.kube.change(
            DISARMS, name,
            {"metadata": made["metadata"] | {"creationTimestamp": self.now.isoformat()}},
        )  # fmt: skip

    async def edit(self, **fields):
        found = await self.kube.get(VALIDATING_WEBHOOKS, CONFIGURATION)
        hooks = copy.deepcopy(found["webhooks"])
        hooks[0] |= fields
        await self.kube.replace(VALIDATING_WEBHOOKS, found | {"webhooks": hooks})

    async def set_policy(self, mode, *namespaces):
        document = policy(mode=mode)
        document["spec"]["namespaces"] = list(namespaces)
        await self.kube.change(DEPLOY_POLICIES, "production", {"spec": document["spec"]})

    def since(self):
        log, self.log = self.log, []
        return log


class Door:
    """The twin, with its writes heard."""

    def __init__(self, kube):
        self._kube = kube

    def __getattr__(self, name):
        return getattr(self._kube, name)


@pytest.fixture
async def desk():
    desk = Desk()
    document = policy()
    document["spec"]["namespaces"] = ["shop"]
    await desk.begin(document)
    return desk


async def test_giving_control_is_told_after_and_taking_it_before(desk):
    await desk.look()
    assert desk.since() == ["create", "control-state: armed"]
    await desk.set_policy("Enforce", "shop", "more")
    await desk.look()
    assert desk.since() == ["replace", "control-state: adjusted"]
    await desk.set_policy("Enforce", "more")
    await desk.look()
    assert desk.since() == ["control-state: adjusted", "replace"]
    await desk.disarm()
    assert await desk.look() == 3600
    assert desk.since() == ["disarm: accepted", "control-state: disarmed", "delete"]
    desk.now += timedelta(hours=1)
    assert await desk.look() is None
    assert desk.since() == ["disarm: expired", "create", "control-state: armed"]


async def test_nothing_more_is_done_or_told_while_nothing_changes(desk):
    await desk.look()
    desk.since()
    for _ in range(3):
        await desk.look()
    desk.start()
    await desk.look()
    assert desk.since() == []


async def test_killed_between_doing_and_telling_it_is_told_after_the_restart(desk):
    desk.fail = [LedgerUnavailableError("killed here")]
    with pytest.raises(LedgerUnavailableError):
        await desk.look()
    assert desk.since() == ["create"]
    desk.start()
    await desk.look()
    assert desk.since() == ["control-state: armed"]


async def test_killed_between_telling_and_doing_it_is_done_and_not_told_again(desk):
    await desk.look()
    await desk.disarm()
    desk.since()
    desk.kube.fail("delete", UnavailableError("killed here", maybe_done=False))
    with pytest.raises(UnavailableError):
        await desk.look()
    assert desk.since() == ["disarm: accepted", "control-state: disarmed", "delete"]
    desk.start()
    await desk.look()
    assert desk.since() == ["delete"]


async def test_where_the_ledger_takes_nothing_control_is_not_taken_away(desk):
    await desk.look()
    await desk.disarm()
    desk.fail = [LedgerUnavailableError("disk full")]
    desk.since()
    with pytest.raises(LedgerUnavailableError):
        await desk.look()
    assert desk.since() == []
    await desk.look()
    assert desk.since() == ["disarm: accepted", "control-state: disarmed", "delete"]


async def test_an_edit_while_it_was_down_is_told_and_a_flip_while_it_was_down_is_not_one(desk):
    await desk.look()
    desk.since()
    await desk.set_policy("Enforce", "shop", "more")
    desk.start()
    await desk.look()
    # Not knowing what it was before, it tells first.
    assert desk.since() == ["control-state: adjusted", "replace"]
    await desk.edit(failurePolicy="Ignore")
    desk.start()
    await desk.look()
    assert desk.since() == ["control-state: changed", "replace", "control-state: put-back"]


async def test_somebody_faster_than_we_is_looked_at_again(desk):
    await desk.look()
    await desk.edit(failurePolicy="Ignore")
    desk.kube.fail("replace", ConflictError("changed meanwhile"))
    desk.since()
    await desk.look()
    assert desk.since() == [
        "control-state: changed", "replace", "replace", "control-state: put-back",
    ]  # fmt: skip


async def test_somebody_who_keeps_writing_is_waited_out(desk):
    await desk.look()
    await desk.edit(failurePolicy="Ignore")
    for _ in range(10):
        desk.kube.fail("replace", ConflictError("changed meanwhile"))
    with pytest.raises(WaitingError, match="keeps changing"):
        await desk.look()


async def test_a_finalizer_does_not_keep_it_armed(desk):
    await desk.look()
    found = await desk.kube.get(VALIDATING_WEBHOOKS, CONFIGURATION)
    metadata = found["metadata"] | {"finalizers": ["example.com/stay"]}
    await desk.kube.replace(VALIDATING_WEBHOOKS, found | {"metadata": metadata})
    await desk.disarm()
    desk.since()
    await desk.look()
    assert desk.since()[-2:] == ["replace", "delete"]


async def test_two_disarms_last_until_the_last_one_ends(desk):
    await desk.look()
    await desk.disarm("short", 1)
    await desk.disarm("long", 2)
    assert await desk.look() == 3600
    desk.now += timedelta(hours=1)
    assert await desk.look() == 3600
    assert desk.since()[-1] == "disarm: expired"
    desk.now += timedelta(hours=1)
    await desk.look()
    assert desk.since() == ["disarm: expired", "create", "control-state: armed"]


async def test_a_disarm_that_is_being_deleted_has_ended_whatever_holds_it(desk):
    await desk.look()
    await desk.disarm()
    await desk.look()
    desk.since()
    found = await desk.kube.get(DISARMS, "emergency")
    metadata = found["metadata"] | {"deletionTimestamp": NOW.isoformat()}
    await desk.kube.change(DISARMS, "emergency", {"metadata": metadata})
    await desk.look()
    assert desk.since() == ["disarm: deleted", "create", "control-state: armed"]


async def test_a_status_is_written_when_it_changes_and_not_at_every_look(desk):
    async def status():
        found = await desk.kube.get(DISARMS, "emergency")
        conditions = found["status"]["conditions"]
        return found["metadata"]["resourceVersion"], [one["reason"] for one in conditions]

    await desk.disarm()
    await desk.look()
    first = await status()
    assert first[1] == ["Accepted", "InEffect"]
    await desk.look()
    assert await status() == first
    desk.now += timedelta(hours=1)
    await desk.look()
    second = await status()
    assert second[1] == ["Accepted", "Expired"]
    desk.kube.fail("replace", ConflictError("changed meanwhile"))
    desk.now += timedelta(hours=1)
    await desk.look()
    assert await status() == second


async def test_nothing_is_decided_before_the_policies_were_read(desk):
    with pytest.raises(WaitingError, match="policies have not been read"):
        await desk.arming.look()
    assert desk.since() == []


async def test_what_is_published_is_known_once_read_and_not_while_it_cannot_be(desk):
    with pytest.raises(UnavailableError):
        desk.arming.published()
    desk.answers = False
    with pytest.raises(WaitingError):
        await desk.look()
    assert desk.arming.published() is None
    desk.answers = True
    await desk.look()
    assert desk.arming.published() == CERTIFICATE
    desk.kube.fail("get", UnavailableError("away", maybe_done=True))
    with pytest.raises(UnavailableError):
        await desk.look()
    with pytest.raises(UnavailableError, match="away"):
        desk.arming.published()
    await desk.look()
    assert desk.arming.published() == CERTIFICATE


async def test_whether_it_is_armed_is_known_once_read_and_not_while_it_cannot_be(desk):
    assert desk.arming.armed() is None
    desk.answers = False
    with pytest.raises(WaitingError):
        await desk.look()
    assert desk.arming.armed() is False
    desk.answers = True
    await desk.look()
    assert desk.arming.armed() is True
    desk.kube.fail("get", UnavailableError("away", maybe_done=True))
    with pytest.raises(UnavailableError):
        await desk.look()
    assert desk.arming.armed() is None
    await desk.disarm()
    await desk.look()
    assert desk.arming.armed() is False


async def test_an_edit_that_somebody_undid_leaves_no_put_back_behind(desk):
    await desk.look()
    before = await desk.kube.get(VALIDATING_WEBHOOKS, CONFIGURATION)
    await desk.edit(failurePolicy="Ignore")
    desk.kube.fail("replace", UnavailableError("away", maybe_done=False))
    with pytest.raises(UnavailableError):
        await desk.look()
    found = await desk.kube.get(VALIDATING_WEBHOOKS, CONFIGURATION)
    await desk.kube.replace(VALIDATING_WEBHOOKS, found | {"webhooks": before["webhooks"]})
    await desk.look()
    desk.since()
    await desk.set_policy("Enforce", "shop", "more")
    await desk.look()
    assert desk.since() == ["replace", "control-state: adjusted"]


async def test_deleted_by_somebody_it_is_put_back_however_long_no_gate_answers(desk):
    await desk.look()
    await desk.kube.delete(VALIDATING_WEBHOOKS, CONFIGURATION)
    desk.answers = False
    desk.since()
    for _ in range(2):
        with pytest.raises(WaitingError):
            await desk.look()
    desk.answers = True
    await desk.look()
    assert desk.since() == ["control-state: deleted", "create", "control-state: put-back"]


async def test_after_a_disarm_it_is_armed_and_not_put_back(desk):
    await desk.look()
    await desk.kube.delete(VALIDATING_WEBHOOKS, CONFIGURATION)
    await desk.disarm()
    await desk.look()
    assert desk.since()[-2:] == ["disarm: accepted", "control-state: deleted"]
    await desk.kube.delete(DISARMS, "emergency")
    await desk.look()
    assert desk.since() == ["disarm: deleted", "create", "control-state: armed"]


async def test_after_a_restart_nothing_is_said_of_what_cannot_be_judged(desk):
    await desk.look()
    await desk.edit(failurePolicy="Ignore")
    await desk.kube.delete(CLUSTER_ROLES, "trailgate-arming")
    desk.start()
    desk.since()
    with pytest.raises(WaitingError, match="trailgate-arming"):
        await desk.look()
    assert desk.since() == []
    assert desk.arming.armed() is None
    await desk.kube.create(CLUSTER_ROLES, {"metadata": {"name": "trailgate-arming"}})
    await desk.look()
    assert desk.since() == ["control-state: changed", "replace", "control-state: put-back"]


async def test_the_authorities_loop_is_told_of_what_is_published_when_it_changes(desk):
    desk.answers = False
    with pytest.raises(WaitingError):
        await desk.look()
    assert desk.republished == 1  # that there is none
    desk.answers = True
    await desk.look()
    assert desk.republished == 2
    await desk.look()
    await desk.set_policy("Audit", "shop")
    await desk.look()
    assert desk.republished == 2


async def test_everything_told_is_a_record_of_the_schema(desk):
    await desk.look()
    await desk.edit(failurePolicy="Ignore")
    await desk.look()
    await desk.kube.delete(VALIDATING_WEBHOOKS, CONFIGURATION)
    await desk.look()
    await desk.set_policy("Audit", "shop")
    await desk.disarm("refused", hours=25)
    await desk.disarm("deleted")
    await desk.look()
    await desk.kube.delete(DISARMS, "deleted")
    await desk.disarm("expired")
    await desk.look()
    desk.now += timedelta(hours=2)
    await desk.look()
    schema = json.loads((files("trailgate.ledger") / "schema" / "record-v1.json").read_bytes())
    validator = Draft202012Validator(schema)
    for claim in desk.told.values():
        record, _ = commit(claim, Vault(), recorded_at=NOW, position=None)
        validator.validate(json.loads(encode(record)))
    said = {(one["kind"], one["state"]) for one in desk.told.values()}
    assert said == {
        *(("control-state", one) for one in ("armed", "changed", "put-back", "deleted", "disarmed")),
        *(("disarm", one) for one in ("accepted", "refused", "expired", "deleted")),
    }  # fmt: skip


async def test_the_metrics_say_whether_it_is_armed(desk):
    def shown():
        text = desk.metrics.render().decode()
        return {
            line.split()[0]: float(line.split()[1])
            for line in text.splitlines()
            if line.startswith(("trailgate_armed", "trailgate_disarmed"))
        }

    await desk.look()
    assert shown() == {"trailgate_armed": 1, "trailgate_disarmed_until_seconds": 0}
    await desk.disarm()
    await desk.look()
    until = (NOW + timedelta(hours=1)).timestamp()
    assert shown() == {"trailgate_armed": 0, "trailgate_disarmed_until_seconds": until}


async def test_while_it_cannot_be_read_nothing_says_that_it_is_armed(desk):
    await desk.look()
    assert desk.arming.note() == "armed"
    desk.kube.fail("get", UnavailableError("away", maybe_done=True))
    with pytest.raises(UnavailableError):
        await desk.look()
    assert desk.arming.note() is None
    assert "trailgate_armed 0.0" in desk.metrics.render().decode()
    await desk.look()
    assert desk.arming.note() == "armed"
    assert "trailgate_armed 1.0" in desk.metrics.render().decode()


async def test_who_may_not_read_the_role_still_tells_that_the_configuration_is_gone(desk):
    await desk.look()
    await desk.kube.delete(VALIDATING_WEBHOOKS, CONFIGURATION)
    desk.since()
    original = desk.kube.get

    async def get(resource, *arguments):
        if resource is CLUSTER_ROLES:
            raise ForbiddenError("no right")
        return await original(resource, *arguments)

    desk.door.get = get
    with pytest.raises(ForbiddenError):
        await desk.look()
    assert desk.since() == ["control-state: deleted"]
    assert desk.arming.armed() is None
