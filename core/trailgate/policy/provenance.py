"""Provenance: built by whom, from where. https://slsa.dev/spec/v1.1/provenance."""

from __future__ import annotations

from trailgate.model.decision import Check
from trailgate.model.evidence import Provenance
from trailgate.model.reason import Reason
from trailgate.policy import compiled
from trailgate.policy.failure import Failure, listed


def check(provenance: Provenance, wanted: compiled.Provenance) -> Failure | None:
    """Hold one provenance, by a trusted signer, against the rule's source and builders."""
    if wanted.builders and provenance.builder not in wanted.builders:
        return _failure(
            Reason.SIGNER_MISMATCH,
            f"builder {provenance.builder}",
            f"builder {listed(wanted.builders)}",
        )
    if not wanted.repositories.match_repository(provenance.repository):
        return _failure(
            Reason.SOURCE_MISMATCH,
            f"source {provenance.repository}",
            f"source {listed(wanted.repositories.texts)}",
        )
    if wanted.refs is not None and not (provenance.ref and wanted.refs.match(provenance.ref)):
        return _failure(
            Reason.SOURCE_MISMATCH,
            f"ref {provenance.ref}" if provenance.ref else "no ref",
            f"ref {listed(wanted.ref_texts)}",
        )
    return None


def _failure(reason: Reason, got: str, expected: str) -> Failure:
    return Failure(reason, got, expected, Check.PROVENANCE)
