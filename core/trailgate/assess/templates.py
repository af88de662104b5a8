"""When a child is what its owner's template says: normal forms that can be compared.

Each controller adds known things to what it makes; the normal form leaves exactly
those out. Observed on Kubernetes 1.37.2; held against real reviews in the tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from trailgate.assess.images import (
    CRON_JOB,
    DEPLOYMENT,
    JOB,
    REPLICA_SET,
    find_images,
    pod_template,
)
from trailgate.model.admission import ContainerImage, Kind
from trailgate.model.errors import MalformedError

#: What of an owner a child is compared with: a hash of a template, or all its images.
Template = bytes | frozenset[ContainerImage]


@dataclass(frozen=True, slots=True)
class Child:
    """What a child is compared by, and its images."""

    template: Template
    images: tuple[ContainerImage, ...]


_HASH_LABEL = ("pod-template-hash",)
_JOB_LABELS = (
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
)
# Set by the API server on a Job, not inside a CronJob's jobTemplate.
_JOB_DEFAULTS: Mapping[str, Any] = {
    "backoffLimit": 6,
    "completionMode": "NonIndexed",
    "completions": 1,
    "manualSelector": False,
    "parallelism": 1,
    "suspend": False,
}
_UNLIMITED = 2**31 - 1


def of_owner(
    kind: Kind, owner: Mapping[str, Any], images: tuple[ContainerImage, ...] | None = None
) -> Template:
    """Return what an owner's children must have; raises ``MalformedError``.

    ``images``: the owner's, where they are at hand.
    """
    if kind == DEPLOYMENT:
        return _hash(_plain(pod_template(kind, owner), _HASH_LABEL))
    if kind == CRON_JOB:
        spec = owner.get("spec")
        job = spec.get("jobTemplate") if isinstance(spec, Mapping) else None
        return _hash(_job_spec(job))
    return frozenset(find_images(kind, owner) if images is None else images)


def of_child(kind: Kind, child: Mapping[str, Any], images: tuple[ContainerImage, ...]) -> Child:
    """Return what a child has, in the form of its owner's; raises ``MalformedError``."""
    if kind == REPLICA_SET:
        return Child(_hash(_plain(pod_template(kind, child), _HASH_LABEL)), images)
    if kind == JOB:
        return Child(_hash(_job_spec(child)), images)
    return Child(frozenset(images), images)


def _plain(template: Mapping[str, Any], generated: tuple[str, ...]) -> dict[str, Any]:
    """Copy a Pod template without generated labels and empty metadata."""
    plain = dict(template)
    metadata = plain.get("metadata")
    if isinstance(metadata, Mapping):
        kept = {key: value for key, value in metadata.items() if value is not None}
        labels = kept.get("labels")
        if isinstance(labels, Mapping):
            kept["labels"] = {k: v for k, v in labels.items() if k not in generated}
        plain["metadata"] = {key: value for key, value in kept.items() if value != {}}
    return plain


def _job_spec(job: Any) -> dict[str, Any]:
    spec = job.get("spec") if isinstance(job, Mapping) else None
    template = spec.get("template") if isinstance(spec, Mapping) else None
    if not isinstance(spec, Mapping) or not isinstance(template, Mapping):
        raise MalformedError("got a Job without spec.template, expected an object")
    defaults = dict(_JOB_DEFAULTS)
    if "backoffLimitPerIndex" in spec:
        defaults["backoffLimit"] = _UNLIMITED
    defaults["podReplacementPolicy"] = (
        "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed"
    )
    plain = {k: v for k, v in spec.items() if k != "selector" and defaults.get(k) != v}
    plain["template"] = _plain(template, _JOB_LABELS)
    return plain


def _hash(value: Any) -> bytes:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()
