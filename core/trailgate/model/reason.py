"""Why the gate said no, and why a record lacks a value: closed lists."""

from enum import StrEnum


class Reason(StrEnum):
    """A denial's code. Stable: users, dashboards and auditors search for these words.

    Each has a page under ``docs/reference/reasons/``; a test holds that.
    """

    DIGEST_REQUIRED = "DigestRequired"
    NO_POLICY_FOR_IMAGE = "NoPolicyForImage"
    NO_IMAGES_FOUND = "NoImagesFound"
    SIGNATURE_MISSING = "SignatureMissing"
    SIGNATURE_INVALID = "SignatureInvalid"
    SIGNER_MISMATCH = "SignerMismatch"
    PREDICATE_MISMATCH = "PredicateMismatch"
    PROVENANCE_MISSING = "ProvenanceMissing"
    SOURCE_MISMATCH = "SourceMismatch"
    EVIDENCE_MISMATCH = "EvidenceMismatch"
    REVIEW_MISSING = "ReviewMissing"
    REVIEW_NOT_INDEPENDENT = "ReviewNotIndependent"
    REVIEW_STALE = "ReviewStale"
    REVIEW_ASSERTED = "ReviewAsserted"
    REVIEW_GAP = "ReviewGap"
    UNKNOWN_AUTHOR = "UnknownAuthor"
    DEPLOYMENT_APPROVAL_MISSING = "DeploymentApprovalMissing"
    TESTS_MISSING = "TestsMissing"
    TESTS_FAILED = "TestsFailed"
    TESTS_OTHER_COMMIT = "TestsOtherCommit"
    CALLER_NOT_ALLOWED = "CallerNotAllowed"
    OWNER_UNVERIFIED = "OwnerUnverified"
    SPOOL_FULL = "SpoolFull"
    EVIDENCE_UNAVAILABLE = "EvidenceUnavailable"
    MALFORMED = "Malformed"
    INTERNAL = "Internal"


#: Codes that mean "could not be determined, try again" (HTTP 503), not "no" (403).
RETRYABLE = frozenset({Reason.EVIDENCE_UNAVAILABLE, Reason.SPOOL_FULL, Reason.INTERNAL})


class Absence(StrEnum):
    """Why a value in a record is null. A null never stands without one of these."""

    CONFIGURATION_NOT_ATTESTED = "ConfigurationNotAttested"
    """Only configuration changed, and no signed manifest covers configuration."""
    NOT_REQUIRED = "NotRequired"
    """No policy asked for it, and none was found."""
    NOT_FOUND = "NotFound"
    """It was looked for and is not there."""
    NOT_VERIFIED = "NotVerified"
    """Something was there, and did not verify."""
    UNAVAILABLE = "Unavailable"
    """It could not be fetched."""
    NOT_APPLICABLE = "NotApplicable"
    """The question does not arise for this record."""
    NOT_STATED = "NotStated"
    """The signed statement does not say."""
    BASELINE = "Baseline"
    """The first change of its kind: there is nothing before it."""
    SEVERAL_CHANGES = "SeveralChanges"
    """More than one change was shipped; each image's own entry says its own."""
    IMPERSONATED = "Impersonated"
    """The caller was not authenticated directly (no credential id)."""
    NO_DIGEST = "NoDigest"
    """Only a tag is known, and evidence belongs to digests: nothing could be looked for."""
    NOT_SHOWN = "NotShown"
    """The API server shows changes of this kind of object to no webhook."""
