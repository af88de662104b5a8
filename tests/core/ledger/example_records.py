"""The documented examples, made from real values: docs/reference/examples/*.json.

Run it to write them again: `.venv/bin/python -m tests.core.ledger.example_records`.
A test compares what it gives with what is there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from trailgate.ledger import people
from trailgate.ledger import record as rec
from trailgate.model.admission import (
    AdmissionRequest,
    Caller,
    ContainerClass,
    ContainerImage,
    Kind,
    ObjectKey,
    Operation,
)
from trailgate.model.assessment import Assessment, ChangeClass, Previous
from trailgate.model.canonical import fingerprint
from trailgate.model.decision import (
    Check,
    CheckResult,
    Decision,
    Finding,
    ImageVerdict,
    Mode,
    PolicyReference,
)
from trailgate.model.digest import Digest
from trailgate.model.evidence import (
    Approval,
    ApprovalBinding,
    Basis,
    ChangeRecord,
    DeploymentApproval,
    EvidenceFormat,
    Person,
    Provenance,
    ReviewedChange,
    Signer,
    SimpleSignature,
    SourceRange,
    Statement,
    StatementKind,
    TestResult,
    TestVerdict,
)
from trailgate.model.image import ImageReference
from trailgate.model.reason import Absence, Reason

FOLDER = Path(__file__).parents[3] / "docs" / "reference" / "examples"
NOW = datetime(2026, 11, 23, 13, 6, 0, 250_000, tzinfo=UTC)

ALICE = Person("github:1001", login="alice", name="Alice Ashton")
BOB = Person("github:1002", login="bob", name="Bob Berg")
CAROL = Person("github:1003", login="carol")
RELEASE_BOT = Person("github:9001", login="release-bot", bot=True)

CONTEXT = rec.Context(
    cluster=rec.Cluster(uid="3d0f8f0e-5c9e-4a53-8f0a-6d1d9f1f2b11", name="prod-eu"),
    gate=rec.Gate(
        version="0.1.0",
        configuration=Digest.of(b"configuration of the gate"),
        image="registry.example/trailgate@" + str(Digest.of(b"the gate's image")),
    ),
    environment="production",
)

DEPLOYER = Caller(
    "system:serviceaccount:ci:deployer",
    uid="6d6a1f3e-6a0f-4d57-9f0a-3c1d9f1f2b22",
    groups=("system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"),
    extra={
        "authentication.kubernetes.io/credential-id": ("JTI=0b9d1c7e-92e4-4b7e-8a53-0d8a6c4f1a01",)
    },
)
LAPTOP = Caller(
    "dave@acme.example",
    groups=("acme:payments", "system:authenticated"),
    extra={"authentication.kubernetes.io/credential-id": ("X509SHA256=" + "ab" * 32,)},
)

ALL_MET = dict.fromkeys(Check, CheckResult.MET) | {Check.CONFIGURATION: CheckResult.NOT_ATTESTED}


def sha(name: str) -> Digest:
    return Digest.of(name.encode())


def commit_id(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


def policy(name: str = "production", mode: Mode = Mode.ENFORCE) -> PolicyReference:
    return PolicyReference(name, 7, sha(f"policy {name}"), mode)


def image_of(repository: str, release: str) -> str:
    return f"registry.example/acme/{repository}@{sha(f'{repository} {release}')}"


def _statement(kind: StatementKind, predicate: Any, signer: str, about: str) -> Statement:
    return Statement(
        kind,
        f"type of {kind.value}",
        predicate,
        Signer(str(sha(f"key {signer}"))),
        EvidenceFormat.BUNDLE,
        sha(f"{kind.value} of {about}"),
    )


def change_record(repository: str, release: str, **changes: Any) -> ChangeRecord:
    head, merge = commit_id(f"{repository} {release} head"), commit_id(f"{repository} {release}")
    uri = f"https://forge.example/acme/{repository}/pull/41"
    record = ChangeRecord(
        verifier="https://trailgate.dev/verifiers/forge-app",
        passed=True,
        levels=("SLSA_SOURCE_TWO_PARTY_REVIEWED",),
        basis=Basis.FORGE_API,
        basis_digest=sha(f"answer of the forge for {repository}"),
        source=SourceRange(
            repository=f"https://forge.example/acme/{repository}",
            ref="refs/heads/main",
            to=merge,
            tree=commit_id(f"{repository} {release} tree"),
            start=commit_id(f"{repository} before {release}"),
            commits=(head, merge),
        ),
        changes=(
            ReviewedChange(
                uri=uri,
                head_commit=head,
                commits=(head,),
                merge_commit=merge,
                merged_by=BOB,
                opened_at=NOW - timedelta(days=2),
                merged_at=NOW - timedelta(hours=3),
                approvals=(
                    Approval(
                        BOB,
                        "APPROVED",
                        head,
                        NOW - timedelta(hours=4),
                        ApprovalBinding.FORGE_MERGE,
                        uri=f"{uri}#review-77",
                    ),
                ),
                committers=(ALICE,),
                last_pusher=ALICE,
            ),
        ),
        committers=(ALICE,),
        deployment_approvals=(
            DeploymentApproval(
                CAROL,
                "production",
                NOW - timedelta(minutes=9),
                run=f"https://forge.example/acme/{repository}/runs/9",
            ),
        ),
        ticket="PAY-1234",
        verified_at=NOW - timedelta(minutes=20),
    )
    return replace(record, **changes)


def provenance(repository: str, release: str) -> Provenance:
    return Provenance(
        repository=f"https://forge.example/acme/{repository}",
        commit=commit_id(f"{repository} {release}"),
        ref="refs/heads/main",
        builder="https://forge.example/builders/hosted",
        build_type="https://trailgate.dev/build-types/ci/v1",
        run=f"https://forge.example/acme/{repository}/runs/9",
        started_at=NOW - timedelta(minutes=30),
        finished_at=NOW - timedelta(minutes=25),
    )


def tests_of(repository: str, release: str, **changes: Any) -> TestResult:
    result = TestResult(
        TestVerdict.PASSED,
        commit_id(f"{repository} {release}"),
        repository=f"https://forge.example/acme/{repository}",
        run=212,
        failed=0,
        skipped=3,
        suites=("unit", "integration"),
        started_at=NOW - timedelta(minutes=29),
        finished_at=NOW - timedelta(minutes=26),
        junit=sha(f"junit of {repository}"),
        url=f"https://forge.example/acme/{repository}/runs/9",
    )
    return replace(result, **changes)


def verdict(repository: str, release: str, **changes: Any) -> ImageVerdict:
    about = f"{repository} {release}"
    image = image_of(repository, release)
    found = ImageVerdict(
        containers=(ContainerImage(repository, ContainerClass.CONTAINER, image),),
        image=ImageReference.parse(image),
        statements=(
            _statement(StatementKind.SIGNATURE, SimpleSignature(), "build", about),
            _statement(StatementKind.PROVENANCE, provenance(repository, release), "build", about),
            _statement(StatementKind.TESTS, tests_of(repository, release), "build", about),
            _statement(StatementKind.CHANGE, change_record(repository, release), "review", about),
        ),
        platforms=(sha(f"{about} amd64"), sha(f"{about} arm64")),
        checks={check: CheckResult.MET for check in Check if check is not Check.CONFIGURATION},
    )
    return replace(found, **changes)


def with_predicates(found: ImageVerdict, **predicates: Any) -> ImageVerdict:
    """Replace statements by kind (``signature``, ``provenance``…); None takes one away."""
    statements = tuple(
        replace(one, predicate=predicates.get(one.kind.value, one.predicate))
        for one in found.statements
        if predicates.get(one.kind.value, one.predicate) is not None
    )
    return replace(found, statements=statements)


def deployment(images: dict[str, str], generation: int, environment: str = "LEVEL=info") -> dict:
    name, _, value = environment.partition("=")
    containers = [
        {"name": container, "image": image, "env": [{"name": name, "value": value}]}
        for container, image in images.items()
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "e1f0c0de-0000-4000-8000-00000000beef",
            "generation": generation,
            "resourceVersion": str(1000 + generation),
        },
        "spec": {"replicas": 2, "template": {"spec": {"containers": containers}}},
    }


def request(old: dict | None, new: dict | None, caller: Caller = DEPLOYER) -> AdmissionRequest:
    operation = Operation.UPDATE
    if old is None:
        operation = Operation.CREATE
    if new is None:
        operation = Operation.DELETE
    return AdmissionRequest(
        uid="7c0e5b0a-1f4b-4a6f-9f3b-2f8a3f1d0c77",
        operation=operation,
        kind=Kind("apps", "Deployment"),
        resource="deployments",
        subresource="",
        namespace="shop",
        name="web",
        caller=caller,
        dry_run=False,
        object=new,
        old_object=old,
    )


def _images(thing: dict) -> tuple[str, ...]:
    return tuple(c["image"] for c in thing["spec"]["template"]["spec"]["containers"])


def assess(
    old: dict | None,
    new: dict | None,
    verdicts: tuple[ImageVerdict, ...],
    *,
    caller: Caller = DEPLOYER,
    policies: tuple[PolicyReference, ...] = (policy(),),
    findings: tuple[Finding, ...] = (),
    checks: dict[Check, CheckResult] | None = None,
    delta: tuple[str, ...] = ("",),
    **changes: Any,
) -> Assessment:
    before = _images(old) if old else ()
    decision = Decision(
        allowed=not any(finding.mode is Mode.ENFORCE for finding in findings),
        findings=findings,
        images=verdicts,
        checks=ALL_MET if checks is None else checks,
        policies=policies,
    )
    assessment = Assessment(
        request(old, new, caller),
        ChangeClass.DELETE if new is None else ChangeClass.ROOT,
        decision,
        NOW,
        spec_digest=None if new is None else fingerprint(new["spec"]),
        previous=None if old is None else Previous(fingerprint(old["spec"]), before),
        delta=delta,
        changed_images=frozenset(v.containers[0].image for v in verdicts) - set(before),
    )
    return replace(assessment, **changes)


_IMAGE = "/spec/template/spec/containers/0/image"


def release(old: str = "1.0", new: str = "1.1") -> Assessment:
    """An UPDATE that brings one new image with everything behind it."""
    return assess(
        deployment({"web": image_of("web", old)}, 3),
        deployment({"web": image_of("web", new)}, 4),
        (verdict("web", new),),
        delta=(_IMAGE,),
    )


def configuration_only() -> Assessment:
    """An UPDATE of one environment variable; the image is reviewed, this change isn't."""
    image = image_of("web", "1.1")
    return assess(
        deployment({"web": image}, 4),
        deployment({"web": image}, 5, "LEVEL=debug"),
        (verdict("web", "1.1"),),
        delta=("/spec/template/spec/containers/0/env/0/value",),
    )


def audit_mode() -> Assessment:
    """An unsigned image by a tag, from a laptop, in a namespace that is only audited."""
    image = "registry.example/acme/web:latest"
    found = (
        Finding(
            Reason.DIGEST_REQUIRED,
            "a tag",
            "a digest",
            policy="staging",
            rule="ours",
            image=image,
            check=Check.SIGNATURE,
            mode=Mode.AUDIT,
        ),
        Finding(
            Reason.CALLER_NOT_ALLOWED,
            "dave@acme.example",
            "a listed caller",
            policy="staging",
            check=Check.CALLER,
            mode=Mode.AUDIT,
        ),
    )
    unmet = dict.fromkeys(Check, CheckResult.NOT_MET)
    seen = ImageVerdict(
        (ContainerImage("web", ContainerClass.CONTAINER, image),),
        ImageReference.parse(image),
        checks={check: CheckResult.NOT_MET for check in unmet if check is not Check.CALLER},
        findings=found[:1],
    )
    return assess(
        None,
        deployment({"web": image}, 1),
        (seen,),
        caller=LAPTOP,
        policies=(policy("staging", Mode.AUDIT),),
        findings=found,
        checks=unmet,
    )


def two_repositories() -> Assessment:
    """An UPDATE that ships two images at once, each with its own story."""
    return assess(
        deployment({"web": image_of("web", "1.0"), "api": image_of("api", "2.0")}, 3),
        deployment({"web": image_of("web", "1.1"), "api": image_of("api", "2.1")}, 4),
        (verdict("web", "1.1"), verdict("api", "2.1")),
        delta=(_IMAGE, "/spec/template/spec/containers/1/image"),
    )


def denied() -> Assessment:
    """An unsigned image from a laptop where the policy enforces."""
    image = image_of("unsigned", "0")
    finding = Finding(
        Reason.SIGNATURE_MISSING,
        "no signature",
        "one by build",
        policy="production",
        rule="ours",
        image=image,
        check=Check.SIGNATURE,
    )
    caller = replace(
        finding, reason=Reason.CALLER_NOT_ALLOWED, image=None, rule=None, check=Check.CALLER
    )
    seen = ImageVerdict(
        (ContainerImage("web", ContainerClass.CONTAINER, image),),
        ImageReference.parse(image),
        checks={Check.SIGNATURE: CheckResult.NOT_MET},
        findings=(finding,),
    )
    return assess(
        None,
        deployment({"web": image}, 1),
        (seen,),
        caller=LAPTOP,
        findings=(finding, caller),
        checks={Check.SIGNATURE: CheckResult.NOT_MET, Check.CALLER: CheckResult.NOT_MET},
    )


def child() -> Assessment:
    """The Deployment controller carrying out what was admitted."""
    controller = Caller("system:serviceaccount:kube-system:deployment-controller")
    return replace(
        release(),
        request=replace(release().request, caller=controller, kind=Kind("apps", "ReplicaSet")),
        change_class=ChangeClass.CHILD,
    )


def refused_group() -> rec.RefusalGroup:
    refusals = rec.Refusals()
    for second in range(3):
        refusals.add(replace(denied(), decided_at=NOW + timedelta(seconds=second)))
    (group,), _dropped = refusals.take()
    return group


def recorded(
    claim: dict[str, Any], vault: rec.Vault, index: int = 0, *, spooled: bool = True, **more: Any
) -> dict:
    position = rec.Position("6b043a38898260488e75a2e1", 12, index) if spooled else None
    record, _rows = rec.commit(
        claim, vault, recorded_at=NOW + timedelta(milliseconds=40), position=position, **more
    )
    return record


def claims() -> dict[str, dict[str, Any]]:
    """All documented examples, as claims."""
    before = NOW - timedelta(minutes=1)
    return {
        "admitted": rec.admitted(release(), CONTEXT),
        "configuration-only": rec.admitted(configuration_only(), CONTEXT),
        "audit-mode": rec.admitted(audit_mode(), CONTEXT),
        "refused": rec.refused(refused_group(), CONTEXT),
        "rollback": rec.admitted(release("1.1", "1.0"), CONTEXT),
        "two-repositories": rec.admitted(two_repositories(), CONTEXT),
        "deleted": rec.admitted(
            assess(deployment({"web": image_of("web", "1.1")}, 5), None, ()), CONTEXT
        ),
        "gap": rec.gap(
            CONTEXT, NOW, rec.GapCause.REFUSALS_DROPPED, count=17, since=before, until=NOW
        ),
        "control-state": rec.control_state(
            CONTEXT,
            NOW,
            rec.ControlSubject.GATE,
            rec.ControlState.STARTED,
            name="6b043a38898260488e75a2e1",
            digest=sha("the gate's signing key"),
        ),
        **observed_claims(),
        **operating_claims(),
        "erasure": rec.erasures(
            CONTEXT, NOW, ["hmac-sha256:" + sha("forgotten").hex], reason="request 2026-17"
        )[0],
    }


def context_of(component: str) -> rec.Context:
    return replace(CONTEXT, gate=replace(CONTEXT.gate, component=component))


def thing(release: str = "1.1", generation: int = 4) -> rec.Thing:
    """The Deployment of ``release()``, as the observer sees it."""
    found = deployment({"web": image_of("web", release)}, generation)
    key = ObjectKey(Kind("apps", "Deployment"), "shop", "web")
    uid = found["metadata"]["uid"]
    return rec.Thing(key, uid, generation, fingerprint(found["spec"]), _images(found))


def change_of(one: rec.Thing) -> Digest:
    return rec.state_id(CONTEXT.cluster.uid, one.uid, one.generation, one.spec)


def observed_claims() -> dict[str, dict[str, Any]]:
    """What the observer says of the change in `admitted`, and of what nobody admitted."""
    context, web, later = context_of("observer"), thing(), NOW + timedelta(seconds=8)
    about = rec.Claimed(change_of(web), 0)
    amd64 = sha("web 1.1 amd64")
    strange = thing("0.9", 9)
    return {
        "persisted": rec.persisted(context, NOW, about, web, operation=Operation.UPDATE),
        "running": rec.running(
            context,
            later,
            about,
            web,
            [rec.RunningImage(web.images[0], (amd64,), rec.Match.PLATFORM)],
            desired=2,
            ready=2,
        ),
        "ended": rec.ended(
            context,
            later,
            about,
            web,
            cause=rec.End.SUPERSEDED,
            by=change_of(thing("1.2", 5)),
        ),
        "not-persisted": rec.not_persisted(
            context, later, about, web, cause=rec.NotPersisted.UNSEEN
        ),
        "discrepancy": rec.discrepancy(
            context,
            later,
            strange,
            why=rec.Why.NO_ADMISSION,
            change=change_of(strange),
            since=NOW,
            armed=False,
        ),
        "other-image": rec.discrepancy(
            context,
            later,
            web,
            why=rec.Why.IMAGE_NOT_ADMITTED,
            change=change_of(web),
            claim=0,
            digests=[sha("web, but another")],
            since=NOW,
            armed=True,
        ),
        "baseline": rec.baseline(context, NOW, [thing("0.8", 2), thing("0.9", 7)])[0],
    }


PULSE = rec.Pulse(
    armed=True,
    configuration=sha("webhooks"),
    gates=2,
    policies=3,
    spool=0,
    entries=412,
    workloads=31,
    unexplained=0,
)


def operating_claims() -> dict[str, dict[str, Any]]:
    """What the operator says of itself and of the gate, and who made it stand aside."""
    context, before = context_of("sentinel"), NOW - timedelta(minutes=5)
    operator = context_of("operator")
    told = {"name": "incident-4711", "uid": "0d1e2f3a-0000-4000-8000-00000000d15a"}
    return {
        "heartbeat": rec.heartbeat(context, NOW, PULSE, since=before, until=NOW),
        "control-test": rec.control_test(
            context,
            NOW,
            rec.ControlTest.REFUSAL,
            rec.Verdict.DENIED,
            through=rec.Through.API_SERVER,
            code=Reason.SIGNATURE_MISSING,
            policy="production",
            namespace="shop",
            image=image_of("unsigned", "0"),
        ),
        "disarm": rec.disarm(
            operator,
            NOW,
            rec.DisarmState.ACCEPTED,
            until=NOW + timedelta(hours=1),
            reason="the registry is down, and shop must be fixed",
            ticket="INC-4711",
            **told,
        ),
        "configuration-deleted": rec.control_state(
            operator,
            NOW,
            rec.ControlSubject.WEBHOOK_CONFIGURATION,
            rec.ControlState.DELETED,
            name="trailgate",
            previous=sha("webhooks"),
            caller=Absence.NOT_SHOWN,
        ),
        "policy-changed": rec.control_state(
            CONTEXT,
            NOW,
            rec.ControlSubject.POLICY,
            rec.ControlState.CHANGED,
            name="production",
            digest=sha("policy production"),
            previous=sha("policy production before"),
            caller=LAPTOP,
        ),
    }


class _Stream:
    """Stands in for `secrets`, so that the documented commitments stay the same."""

    def __init__(self) -> None:
        self._count = 0

    def token_bytes(self, size: int) -> bytes:
        self._count += 1
        return hashlib.sha512(f"example {self._count}".encode()).digest()[:size]

    def token_hex(self, size: int) -> str:
        return self.token_bytes(size).hex()


def examples() -> dict[str, Any]:
    """File name → what is in it."""
    with mock.patch.object(people, "secrets", _Stream()):
        vault = rec.Vault()
        made = {
            # The operator's own don't come through the spool.
            name: recorded(claim, vault, spooled=claim["gate"]["component"] == "gate")
            for name, claim in claims().items()
        }
        made["rollback"] = recorded(claims()["rollback"], vault, returns_to=4)
    # The root is recorded once; what the controllers make of it isn't recorded again.
    made["child-rollout"] = {"root": made["admitted"], "children": []}
    made["claim"] = claims()["admitted"]
    return made


def text_of(example: Any) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, example in examples().items():
        (FOLDER / f"{name}.json").write_text(text_of(example), encoding="utf-8")
