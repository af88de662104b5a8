"""Good evidence, to be spoiled by the tests."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

from trailgate.evidence import bundle, change, dsse, keys, provenance, sign, testresult, verify
from trailgate.evidence.keys import PrivateKey
from trailgate.model.artifact import Artifact, Attached
from trailgate.model.digest import Digest
from trailgate.model.evidence import Evidence, EvidenceFormat, PublicKey, Rejected, Statement
from trailgate.model.image import ImageReference

COMMIT = "1f" * 20
HEAD = "2e" * 20
BASE = "3d" * 20
TREE = "4c" * 20
IMAGE = ImageReference.parse("ghcr.io/acme/web@sha256:" + "ab" * 32)
KEY = keys.generate()
OTHER_KEY = keys.generate()

PROVENANCE: dict[str, Any] = {
    "buildDefinition": {
        "buildType": "https://actions.github.io/buildtypes/workflow/v1",
        "externalParameters": {
            "workflow": {
                "ref": "refs/heads/main",
                "repository": "https://github.com/acme/web",
                "path": ".github/workflows/release.yml",
            }
        },
        "internalParameters": {"github": {"event_name": "push"}},
        "resolvedDependencies": [
            {
                "uri": "git+https://github.com/acme/web@refs/heads/main",
                "digest": {"gitCommit": COMMIT},
            }
        ],
    },
    "runDetails": {
        "builder": {"id": "https://github.com/acme/web/.github/workflows/release.yml@main"},
        "metadata": {
            "invocationId": "https://github.com/acme/web/actions/runs/7/attempts/1",
            "startedOn": "2026-11-23T10:00:00Z",
            "finishedOn": "2026-11-23T12:05:00.123456789+02:00",
        },
    },
}
TESTS: dict[str, Any] = {
    "result": "PASSED",
    "configuration": [{"uri": "git+https://github.com/acme/web", "digest": {"gitCommit": COMMIT}}],
    "url": "https://ci.example/7",
    testresult.EXTENSION: {
        "suites": ["pytest"],
        "run": 12,
        "failed": 0,
        "skipped": 2,
        "startedAt": "2026-11-23T10:00:00Z",
        "finishedAt": "2026-11-23T10:01:00Z",
        "commit": COMMIT,
        "repository": "https://github.com/acme/web",
        "junitDigest": "sha256:" + "cd" * 32,
    },
}
CHANGE: dict[str, Any] = {
    "verifier": {"id": "https://github.com/acme/ci/change-record"},
    "timeVerified": "2026-11-23T11:00:00Z",
    "resourceUri": str(IMAGE),
    "policy": {"uri": "https://acme.example/policy"},
    "verificationResult": "PASSED",
    "verifiedLevels": ["SLSA_SOURCE_TWO_PARTY_REVIEWED"],
    change.EXTENSION: {
        "basis": "forge-api",
        "basisDigest": {"sha256": "ef" * 32},
        "source": {
            "uri": "git+https://github.com/acme/web",
            "ref": "refs/heads/main",
            "from": BASE,
            "to": COMMIT,
            "tree": TREE,
            "commits": [COMMIT, HEAD],
        },
        "changes": [
            {
                "uri": "https://github.com/acme/web/pull/42",
                "headCommit": HEAD,
                "mergeCommit": COMMIT,
                "mergedBy": {"id": "github:3003", "login": "carol"},
                "commits": [HEAD],
                "openedAt": "2026-11-22T09:00:00Z",
                "mergedAt": "2026-11-23T09:00:00Z",
                "lastPusher": {"id": "github:1001", "login": "alice"},
            }
        ],
        "committers": [{"id": "github:1001", "login": "alice", "name": "Alice A."}],
        "approvers": [
            {
                "id": "github:2002",
                "login": "bob",
                "state": "APPROVED",
                "commit": HEAD,
                "at": "2026-11-23T08:00:00Z",
                "uri": "https://github.com/acme/web/pull/42#pullrequestreview-7",
                "binding": "forge-merge",
            }
        ],
        "deploymentApprovers": [
            {
                "id": "github:4004",
                "login": "dave",
                "environment": "production",
                "run": "https://github.com/acme/web/actions/runs/7",
                "at": "2026-11-23T10:30:00Z",
            }
        ],
        "unmappedAuthors": [],
        "target": {"cluster": "prod", "namespace": "shop"},
        "ticket": "SHOP-12",
    },
}
PREDICATES = {provenance.TYPE: PROVENANCE, testresult.TYPE: TESTS, change.TYPE: CHANGE}


def artifact(signed: sign.Signed, **changes: Any) -> Artifact:
    made = {
        "format": signed.format,
        "media_type": signed.media_type,
        "content": signed.content,
        "annotations": dict(signed.annotations),
        **changes,
    }
    return Artifact(digest=Digest.of(made["content"]), **made)


def check(*artifacts: Artifact, trusted: tuple[PublicKey, ...] = (KEY.public,)) -> Evidence:
    return verify.verify(Attached(IMAGE, artifacts), trusted)


def only(evidence: Evidence) -> Statement | Rejected:
    (outcome,) = (*evidence.statements, *evidence.rejected)
    return outcome


def signed_bytes(payload: bytes, key: PrivateKey = KEY, payload_type: str = dsse.PAYLOAD_TYPE):
    """A bundle around any payload."""
    envelope = dsse.Envelope(payload_type, payload, key.sign(dsse.pae(payload_type, payload)))
    content = bundle.write(envelope, key.public.fingerprint)
    return Artifact(EvidenceFormat.BUNDLE, bundle.MEDIA_TYPE, content, Digest.of(content))


def statement_json(predicate_type: str, predicate: Any, **changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": IMAGE.name, "digest": {"sha256": IMAGE.digest.hex}}],
        "predicateType": predicate_type,
        "predicate": predicate,
        **changes,
    }


def judge(value: Any) -> Statement | Rejected:
    """What becomes of a statement that the trusted key signed."""
    return only(check(signed_bytes(json.dumps(value).encode())))


@dataclass(frozen=True)
class Change:
    """A predicate with one place changed."""

    predicate_type: str
    path: tuple[Any, ...]
    value: Any

    def apply(self) -> Any:
        predicate = copy.deepcopy(PREDICATES[self.predicate_type])
        place = predicate
        for step in self.path[:-1]:
            place = place[step]
        if self.value is ...:
            del place[self.path[-1]]
        else:
            place[self.path[-1]] = self.value
        return predicate
