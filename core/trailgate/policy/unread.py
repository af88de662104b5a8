"""Evidence that lies beside an image and was not read, held against what may be hidden in it.

A signature and a provenance only ever speak for an image: the ones that were read are
enough. A failed test, a withdrawn approval speaks against it: where something is left
unread, nobody knows that there is none. So whoever may attach things to an image can
keep it from being admitted, and never get it admitted.
"""

from __future__ import annotations

from typing import Final

from trailgate.model.decision import Check, CheckResult
from trailgate.model.evidence import Evidence
from trailgate.model.reason import Reason
from trailgate.policy.failure import Failure
from trailgate.policy.image import Examination

_SHOWN: Final = 120
_ABSENT: Final = (
    Reason.SIGNATURE_MISSING,
    Reason.PROVENANCE_MISSING,
    Reason.REVIEW_MISSING,
    Reason.DEPLOYMENT_APPROVAL_MISSING,
    Reason.TESTS_MISSING,
)
_DECIDED_BY_ALL: Final = (Check.REVIEW, Check.DEPLOYMENT_APPROVAL, Check.TESTS)


def hold(result: Examination, evidence: Evidence) -> None:
    """Take back what only complete evidence can say, where it is not complete."""
    if not evidence.unread:
        return
    asked = [check for check in _DECIDED_BY_ALL if check in result.checks]
    absent = bool(result.failures) and result.failures[0].reason in _ABSENT
    if not asked and not absent:
        return
    for check in asked:
        if result.checks[check] is CheckResult.MET:
            result.checks[check] = CheckResult.UNDETERMINED
    first = evidence.unread[0]
    more = len(evidence.unread) - 1
    got = f"attachments that were not read: {first[:_SHOWN]}"
    failure = Failure(
        Reason.EVIDENCE_UNAVAILABLE,
        f"{got} (and {more} more)" if more else got,
        "every attachment read, as tests and review can be refuted by any: delete those that "
        "do not belong to the image (trailgate verify names them), or build it again",
        permanent=True,
    )
    # What is missing may be among it: then that explains more than the absence does.
    result.failures.insert(0 if absent else len(result.failures), failure)
