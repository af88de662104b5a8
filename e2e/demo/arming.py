"""Steps 0 and h: the operator arms the gate, and somebody removes it."""

from __future__ import annotations

import time
from typing import Any

from e2e.controlplane.cluster import ApiError
from e2e.demo import manifests
from e2e.demo.stories import apply, refused
from e2e.demo.world import World
from trailgate_kube.webhooks import ARMING_ROLE, CONFIGURATION, ENFORCE
from trailgate_operator.arming_plan import digest_of

_PATH = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CONFIGURATION}"
_BACK = 5.0
_TOLD = 40.0


def installed(world: World) -> None:
    """0. Nobody arms by hand; the ledger says what was armed, tested, and for which policy."""
    narrator = world.narrator
    narrator.step("0", "The operator arms the gate, and a policy makes it fail closed")
    narrator.tried("carol (cluster admin)", f"kubectl get {_KIND} {CONFIGURATION}")
    narrator.answer(world.cluster.kubectl(world.users["carol"], "get", _KIND, CONFIGURATION).stdout)
    found = _configuration(world) or {"metadata": {}}
    owners = [one["name"] for one in found["metadata"].get("ownerReferences", ())]
    narrator.expect(
        "the operator made the webhook configuration", f"owned by {ARMING_ROLE}",
        f"owned by {', '.join(owners) or 'nobody'}", met=owners == [ARMING_ROLE],
    )  # fmt: skip
    world.wait(lambda: "armed" in _states(world), _TOLD)
    narrator.expect(
        "the ledger says that it is armed", "armed", ", ".join(_states(world)) or "nothing",
        met=_states(world)[:1] == ["armed"],
    )  # fmt: skip
    narrator.tried("carol (cluster admin)", "kubectl apply -f production.yaml")
    narrator.answer(apply(world, "carol", [world.policy()])[1])
    world.wait(lambda: _closed(world) and _is_told(world), _TOLD)
    narrator.expect(
        "its namespace fails closed now, and the ledger says so", "adjusted",
        ", ".join(_states(world)), met=_closed(world) and _is_told(world),
    )  # fmt: skip
    who = ("--kind", "control-state", "--caller", world.users["carol"].name)
    world.wait(lambda: bool(world.rows(*who)), _TOLD)
    narrator.expect(
        "and who made the policy", "1 entry", f"{len(world.rows(*who))} entries",
        met=len(world.rows(*who)) == 1,
    )  # fmt: skip
    narrator.answer("\n".join(world.show(row["index"]) for row in world.rows(*who)))
    world.wait(lambda: _refuses(world), _TOLD)


def removed(world: World, image: str) -> None:
    """h. A cluster admin deletes the configuration: it comes back, and the ledger tells."""
    narrator = world.narrator
    narrator.step("h", "A cluster admin removes the gate")
    world.wait_until_armed()
    before = _uid(world)
    narrator.tried("carol (cluster admin)", f"kubectl delete {_KIND} {CONFIGURATION}")
    done = world.cluster.kubectl(world.users["carol"], "delete", _KIND, CONFIGURATION)
    started = time.monotonic()
    narrator.answer(done.stdout)
    world.wait(lambda: _uid(world) not in (None, before), _BACK)
    took = time.monotonic() - started
    narrator.expect(
        "the operator puts it back", f"within {_BACK:.0f} s", f"{took:.1f} s",
        met=_uid(world) not in (None, before),
    )  # fmt: skip
    narrator.tried("dana's laptop", "kubectl apply -f web.yaml")
    refused(
        world, "and the laptop is refused as before", "CallerNotAllowed",
        apply(world, "dana", [manifests.deployment(image)]),
    )  # fmt: skip
    _told(world)


def _told(world: World) -> None:
    narrator = world.narrator
    world.wait(lambda: bool(_unarmed(world)) and bool(_tests(world)), _TOLD)
    narrator.expect(
        "the ledger says: deleted, put back", "deleted, put-back", ", ".join(_states(world)[-2:]),
        met=_states(world)[-2:] == ["deleted", "put-back"],
    )  # fmt: skip
    gaps = _unarmed(world)
    for gap in gaps:
        narrator.answer(world.show(gap["index"]))
    narrator.expect(
        "and from when to when the gate was not asked", "1 gap: unarmed", f"{len(gaps)} gaps",
        met=len(gaps) == 1 and gaps[0]["since"] < gaps[0]["until"],
    )  # fmt: skip
    tests = _tests(world)
    narrator.answer("\n".join(f"{name}: {outcome}" for name, outcome in tests.items()))
    narrator.expect(
        "then the gate was tried both ways, and that is there too", "refusal, admission passed",
        ", ".join(f"{name} {outcome}" for name, outcome in tests.items()) or "nothing",
        met=tests == {"refusal": "passed", "admission": "passed"},
    )  # fmt: skip
    found = world.records("discrepancy")
    narrator.expect(
        "nothing runs that no admission explains", "0 discrepancies",
        f"{len(found)} discrepancies", met=not found,
    )  # fmt: skip


_KIND = "validatingwebhookconfiguration"


def _configuration(world: World) -> dict[str, Any] | None:
    try:
        return dict(world.cluster.api("GET", _PATH))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def _uid(world: World) -> str | None:
    found = _configuration(world)
    return None if found is None else str(found["metadata"]["uid"])


def _closed(world: World) -> bool:
    """Whether the entry that fails closed has the shop's namespace."""
    entries = (_configuration(world) or {}).get("webhooks", ())
    return any(
        f'"{manifests.SHOP}"' in condition["expression"]
        for entry in entries
        if entry["name"] == ENFORCE
        for condition in entry["matchConditions"]
    )


def _refuses(world: World) -> bool:
    """Whether the API server asks that entry already: a dry run, so nothing is recorded."""
    nothing = manifests.deployment("trailgate.invalid/nothing", name="nothing")
    went, text = apply(world, "dana", [nothing], "--dry-run=server")
    return not went and ENFORCE in text and "CallerNotAllowed" in text


def _is_told(world: World) -> bool:
    """Whether the newest that the ledger says of the configuration is what is stored."""
    told = _told_of_it(world)[-1:]
    stored = str(digest_of(_configuration(world) or {}))
    return bool(told) and (told[0]["state"], told[0]["digest"]) == ("adjusted", stored)


def _told_of_it(world: World) -> list[dict[str, Any]]:
    return [
        one for one in world.records("control-state") if one["subject"] == "webhook-configuration"
    ]


def _states(world: World) -> list[str]:
    """What the ledger says of the webhook configuration, in order."""
    return [str(one["state"]) for one in _told_of_it(world)]


def _unarmed(world: World) -> list[dict[str, Any]]:
    return [gap for gap in world.records("gap") if gap["cause"] == "unarmed"]


def _tests(world: World) -> dict[str, str]:
    """Outcomes of the control tests since the configuration was put back, by what was asked."""
    back = [
        one["index"] for one in world.records("control-state") if one["state"] == "put-back"
    ][-1:]  # fmt: skip
    return {
        str(one["test"]): str(one["outcome"])
        for one in world.records("control-test")
        if back and one["index"] > back[0]
    }
