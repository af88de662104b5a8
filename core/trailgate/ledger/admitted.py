"""The claim of an admission: everything that was known of a change when it was let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trailgate.ledger.changes import Place, change_fields
from trailgate.ledger.claim import Cluster, Context, Kind, caller_entry, head, policy_entry
from trailgate.ledger.form import (
    Null,
    RecordError,
    Roster,
    known,
    settle_within,
)
from trailgate.ledger.images import (
    digest_in,
    digest_of,
    image_digest,
    image_entry,
    reference_of,
)
from trailgate.model.admission import Operation
from trailgate.model.assessment import Assessment
from trailgate.model.canonical import fingerprint
from trailgate.model.decision import Check, CheckResult, Decision, Finding, ImageVerdict
from trailgate.model.digest import Digest
from trailgate.model.reason import Absence
from trailgate.model.workload import WORKLOADS

_SCALED = {one.plural: (one.kind.group, one.kind.kind) for one in WORKLOADS if one.scaled}
_OF_THE_CHANGE = (Check.REVIEW, Check.DEPLOYMENT_APPROVAL, Check.TESTS)


def admitted(assessment: Assessment, context: Context) -> dict[str, Any]:
    """Claim that a change was let through, with all that was known of it.

    Lists of plain strings are cut to make it fit, and named in ``shortened``. Raises
    ``RecordError`` for what must not stand in the trail as admitted: a request
    that was denied, that isn't recorded at all (dry runs, children, no-deltas), or whose
    decision contradicts itself; ``RecordTooLargeError`` for one that doesn't fit (the
    gate must then turn the change away where it enforces, and log a gap where not).
    """
    if not assessment.decision.allowed or not assessment.recorded:
        raise RecordError(
            f"got a {assessment.change_class.value} request, "
            f"allowed={assessment.decision.allowed}, dry_run={assessment.request.dry_run}; "
            "expected one that was allowed and is recorded"
        )
    if assessment.decision.denying:
        raise RecordError("got a decision that allows a request and has denying findings")
    roster = Roster()
    return settle_within(_admitted(assessment, context, roster), roster)


def _admitted(assessment: Assessment, context: Context, roster: Roster) -> dict[str, Any]:
    request, decision = assessment.request, assessment.decision
    caller = caller_entry(request.caller, roster)
    new = [_is_new(verdict, assessment) for verdict in decision.images]
    images = [
        image_entry(verdict, changed=is_new, roster=roster)
        for verdict, is_new in zip(decision.images, new, strict=True)
    ]
    changed = [verdict for verdict, is_new in zip(decision.images, new, strict=True) if is_new]
    place = Place(context.cluster.uid, context.cluster.name, request.namespace)
    change = change_fields(changed, place, roster)
    return head(Kind.ADMITTED, context, assessment.decided_at) | {
        "changeId": str(change_id(assessment, context.cluster)),
        "object": _object(assessment),
        "operation": request.operation.value,
        "subresource": request.subresource,
        "requestClass": assessment.change_class.value,
        "delta": list(assessment.delta),
        "previous": _previous(assessment),
        "caller": caller,
        "images": images,
        "change": {"class": "standard" if changed else "configuration"} | change,
        "outcome": "admitted",
        "enforced": decision.enforced,
        "checks": _checks(decision, image_changed=bool(changed)),
        "reasons": [_reason(finding, decision.images) for finding in decision.findings],
        "policies": [policy_entry(policy) for policy in decision.policies],
        "selfAsserted": any(verdict.self_asserted for verdict in decision.images),
    }


def _is_new(verdict: ImageVerdict, assessment: Assessment) -> bool:
    """Whether this admission brings the image: its digest wasn't there before.

    A new spelling of a digest that ran already, or its move to another container, is
    configuration. Where only a tag is known, the string is all there is to compare.
    """
    if assessment.previous is None or assessment.request.operation is Operation.DELETE:
        # Only a CREATE has nothing before it; what can't be compared claims no approval.
        return assessment.request.operation is Operation.CREATE
    before = assessment.previous.images
    digest = digest_of(verdict)
    if digest is None:
        return reference_of(verdict) not in before
    return digest not in {digest_in(image) for image in before}


def change_id(assessment: Assessment, cluster: Cluster) -> Digest:
    """Name the change: the same for every review of one change, another for the next one.

    The API server reviews one change again after a conflict, under a new request uid.
    Its generation and specification stay; so these name it. A change that raises no
    generation (labels, a scale, kinds without generations) is told apart by the resource
    version that it replaced: too many ids rather than one for two changes. An object is
    deleted once, however many reviews that takes.
    """
    request = assessment.request
    uid = _metadata(assessment, "uid") or ["request", request.uid]
    if request.operation is Operation.DELETE:
        return deletion_id(cluster.uid, uid)
    generation = _metadata(assessment, "generation")
    old = (request.old_object or {}).get("metadata", {})
    if generation is None or generation == old.get("generation"):
        replaced = str(old.get("resourceVersion") or "")
        return state_id(cluster.uid, uid, generation, assessment.spec_digest, replaced)
    return state_id(cluster.uid, uid, generation, assessment.spec_digest)


def state_id(
    cluster: str,
    uid: Any,
    generation: int | None,
    spec: Digest | None,
    replaced: str | None = None,
) -> Digest:
    """Name the change that brought an object into this state; ``cluster`` is its uid.

    ``replaced`` is the resource version before it, where the generation wasn't raised.
    """
    parts = ["change", cluster, uid, generation, None if spec is None else str(spec)]
    return fingerprint(parts if replaced is None else [*parts, replaced])


def deletion_id(cluster: str, uid: Any) -> Digest:
    """Name the deletion of an object: there is one, however many ask for it."""
    return fingerprint(["change", cluster, uid, "DELETE"])


def _metadata(assessment: Assessment, name: str) -> Any:
    thing = assessment.request.object or assessment.request.old_object or {}
    return thing.get("metadata", {}).get(name)


def _object(assessment: Assessment) -> dict[str, Any]:
    key, request = assessment.request.key, assessment.request
    group, kind = key.kind.group, key.kind.kind
    if request.subresource == "scale":
        group, kind = _SCALED.get(request.resource, (group, kind))
    generation = _metadata(assessment, "generation")
    spec = assessment.spec_digest
    return {
        "group": group,
        "kind": kind,
        "namespace": key.namespace,
        "name": key.name,
        "uid": known(_metadata(assessment, "uid")),
        "generation": known(generation, Absence.NOT_APPLICABLE),
        "specDigest": known(None if spec is None else str(spec), _without_spec(assessment)),
    }


def _without_spec(assessment: Assessment) -> Absence:
    """Say why there is no digest: of no specification, or of one without a canonical form."""
    request = assessment.request
    there = request.operation is not Operation.DELETE and (request.object or {}).get("spec")
    return Absence.NOT_APPLICABLE if there in (None, False) else Absence.NOT_VERIFIED


def _previous(assessment: Assessment) -> Any:
    previous = assessment.previous
    if previous is None:
        first = assessment.request.operation is Operation.CREATE
        return Null(Absence.BASELINE if first else Absence.NOT_VERIFIED)
    images = [image_digest(image) for image in previous.images]
    return {"specDigest": str(previous.spec_digest), "images": images}


def _checks(decision: Decision, *, image_changed: bool) -> dict[str, str]:
    """Answer the seven questions about this change.

    ``configuration`` is never met: nothing attests manifests yet. Where no image
    changed, an image's review, approval and tests aren't this change's either.
    """
    unasked = CheckResult.UNDETERMINED if decision.policies else CheckResult.NOT_REQUIRED
    results = {check: decision.checks.get(check, unasked) for check in Check}
    results[Check.CONFIGURATION] = CheckResult.NOT_ATTESTED
    if not image_changed:
        for check in _OF_THE_CHANGE:
            if results[check] is CheckResult.MET:
                results[check] = CheckResult.NOT_ATTESTED
    return {check.value: result.value for check, result in results.items()}


def _reason(finding: Finding, images: Sequence[ImageVerdict]) -> dict[str, Any]:
    references = [reference_of(verdict) for verdict in images]
    place = references.index(finding.image) if finding.image in references else None
    moved = finding.moved_to
    return {
        "reason": finding.reason.value,
        "check": known(finding.check and finding.check.value, Absence.NOT_APPLICABLE),
        "policy": known(finding.policy, Absence.NOT_APPLICABLE),
        "rule": known(finding.rule, Absence.NOT_APPLICABLE),
        "image": known(place, Absence.NOT_APPLICABLE),
        "mode": finding.mode.value,
        "movedTo": known(None if moved is None else str(moved), Absence.NOT_APPLICABLE),
    }


def image_set(claim: Mapping[str, Any]) -> str | None:
    """Fingerprint the set of image digests of an admitted claim or record.

    None where a digest isn't known. Two admissions with the same set run the same images.
    """
    digests = {image["digest"] for image in claim["images"]}
    if not digests or None in digests:
        return None
    return str(fingerprint(sorted(digests)))
