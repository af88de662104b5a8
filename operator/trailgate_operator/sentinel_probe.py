"""One question to the gate whose right answer is known, asked as anybody who deploys asks.

A dry run, through the API server: so its webhook configuration, the network, the
certificate, the gate and the policy are tried together, and nothing of it stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from trailgate.ledger.operating import outcome_of
from trailgate.ledger.record import ControlTest, TestOutcome, Verdict
from trailgate.model.reason import Reason
from trailgate_kube import reviewtoken
from trailgate_kube.api import Writer
from trailgate_kube.errors import KubeError
from trailgate_kube.resources import WORKLOADS

PROBE = "trailgate-probe"
"""The namespace, and the policy for it: nothing else is there, and nothing ever runs there."""
_REPOSITORY = "trailgate.invalid/probe"
ADMITTED = f"{_REPOSITORY}@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""What the policy lets in: the digest of nothing, in a registry that can't exist."""
REFUSED = f"{_REPOSITORY}:refused"
"""What no policy can let in, because it has no digest: refused before any registry is asked."""

IMAGES = {ControlTest.REFUSAL: REFUSED, ControlTest.ADMISSION: ADMITTED}

_PODS = next(one for one in WORKLOADS if one.plural == "pods")
_DENIAL = re.compile(
    r'admission webhook "(?:enforce|observe)\.trailgate\.dev" denied the request: '
    r"(?P<head>trailgate: Pod [^\n]*)(?:\n- [^\n]*?: (?P<code>[A-Z][A-Za-z]+)\b)?"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    test: ControlTest
    got: Verdict | None
    """None: no answer, or somebody else's."""
    code: Reason | None = None
    """The first reason of the gate's denial."""
    text: str = ""
    """For the log: what the API server said."""

    @property
    def outcome(self) -> TestOutcome:
        """Whether it was right."""
        return outcome_of(self.test, self.got, self.code)


async def ask(kube: Writer, test: ControlTest) -> Answer:
    """Ask it; never raises for what the API server answers."""
    try:
        await kube.create(_PODS, pod(IMAGES[test]), PROBE, dry_run=True)
    except KubeError as error:
        return judge(test, str(error))
    return Answer(test, Verdict.ALLOWED)


def judge(test: ControlTest, text: str) -> Answer:
    """Read a refusal. Only the gate's own denial is one; RBAC and other plugins say "no", too.

    A denial by another policy, of what the probe's policy lets in, is no wrong answer: more
    was asked than the probe knows of.
    """
    text = reviewtoken.hidden(text)
    found = _DENIAL.search(text)
    if found is None:
        # Of what must be refused: denied, by whomever. Judged as undetermined either way.
        return Answer(test, None, text=text)
    head = found["head"]
    if test is ControlTest.ADMISSION and " denied by " in head and f'"{PROBE}"' not in head:
        return Answer(test, None, text=text)
    return Answer(test, Verdict.DENIED, _code(found["code"]), text)


def _code(text: str | None) -> Reason | None:
    try:
        return None if text is None else Reason(text)
    except ValueError:  # of a newer gate
        return None


def pod(image: str) -> dict[str, Any]:
    """Build the pod that is tried: one that the strictest Pod Security Standard takes."""
    container = {
        "name": "probe",
        "image": image,
        "resources": {
            part: {"cpu": "1m", "memory": "1Mi"} for part in ("requests", "limits")
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }  # fmt: skip
    return {
        "apiVersion": _PODS.api_version,
        "kind": _PODS.kind,
        "metadata": {"name": PROBE, "namespace": PROBE},
        "spec": {
            "containers": [container],
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    }
