"""Whether the API server has to ask the gate now, and what has to be done for it. Pure.

The webhook configuration appears only when a gate answers. Once there it stays, whatever
becomes of the gates: a policy that enforces fails closed. It goes by a Disarm, or with
the installation. What somebody else changed in it is put back, gates or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trailgate.model.canonical import fingerprint
from trailgate.model.decision import Mode
from trailgate.model.digest import Digest
from trailgate.policy.compiled import DeployPolicy
from trailgate_kube.api import Object
from trailgate_kube.disarms import Disarm
from trailgate_kube.webhooks import (
    ARMING_ROLE,
    Address,
    FailClosed,
    bundle_of,
    configuration,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the installation fixes."""

    address: Address
    namespace: str
    """Ours."""
    exempt: tuple[str, ...] = ()
    """Namespaces that are never asked about."""


@dataclass(frozen=True, slots=True)
class Found:
    """The configuration as it is stored."""

    body: Object

    @property
    def uid(self) -> str:
        """The object's uid."""
        return str(self.body["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """Raised by every change of the webhooks, and by no other."""
        return int(self.body["metadata"].get("generation", 0))

    @property
    def version(self) -> str:
        """The resource version: raised by every change."""
        return str(self.body["metadata"].get("resourceVersion", ""))

    @property
    def digest(self) -> Digest:
        """Of the webhooks: what the trail calls the configuration's."""
        return digest_of(self.body)


def digest_of(body: Mapping[str, Any]) -> Digest:
    """Name a configuration by what it makes the API server do."""
    return fingerprint(body.get("webhooks") or [])


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that decides."""

    found: Found | None
    closed: FailClosed
    disarm: Disarm | None = None
    """One that is in effect."""
    owner: str | None = None
    """The uid of the ClusterRole ``trailgate-arming``; None where there is none."""
    bundle: bytes | None = None
    """The authorities of the gate's certificate, PEM. None: there are none yet, or those that
    are published are to stay."""
    answer: str | None = None
    """What is wrong with the gate's answer; empty: nothing. None: it wasn't asked."""
    stored: Mapping[str, Any] = field(default_factory=dict)
    """The last one that we wrote, as it was stored: a newer API server may fill in more."""
    written: Mapping[str, Any] = field(default_factory=dict)
    """The same as we had built it."""


@dataclass(frozen=True, slots=True)
class Stay:
    """Do nothing; ``waiting`` says what for, where it isn't as it should be."""

    waiting: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the gate, with this bundle, and plan again."""

    bundle: bytes


@dataclass(frozen=True, slots=True)
class Create:
    """Arm."""

    body: Object


@dataclass(frozen=True, slots=True)
class Replace:
    """Make it what it should be."""

    found: Found
    body: Object


@dataclass(frozen=True, slots=True)
class Remove:
    """Disarm."""

    found: Found
    disarm: Disarm


Step = Stay | Ask | Create | Replace | Remove


def plan(observed: Observed, settings: Settings) -> Step:
    """Say what to do next."""
    if observed.disarm is not None:
        return Stay() if observed.found is None else Remove(observed.found, observed.disarm)
    if observed.owner is None:
        # Being uninstalled, or never installed: nothing would take the configuration away.
        return Stay(f"there is no ClusterRole {ARMING_ROLE}")
    bundle = _bundle(observed)
    if bundle is None:
        return Stay("there is no certificate authority yet")
    wanted = _wanted(observed, bundle, observed.owner, settings)
    if observed.found is None:
        return _begin(observed, bundle, wanted)
    if _same(observed.found.body, wanted, observed):
        return Stay()
    return Replace(observed.found, wanted)


def in_order(observed: Observed, settings: Settings) -> bool | None:
    """Whether the stored configuration is as it should be; None where that can't be said."""
    bundle = _bundle(observed)
    if observed.found is None or bundle is None or observed.owner is None:
        return None
    wanted = _wanted(observed, bundle, observed.owner, settings)
    return _same(observed.found.body, wanted, observed)


def _bundle(observed: Observed) -> bytes | None:
    if observed.bundle is not None or observed.found is None:
        return observed.bundle
    return bundle_of(observed.found.body) or None


def _wanted(observed: Observed, bundle: bytes, owner: str, settings: Settings) -> Object:
    return configuration(
        settings.address,
        bundle,
        observed.closed,
        owner,
        namespace=settings.namespace,
        exempt=settings.exempt,
    )


def _begin(observed: Observed, bundle: bytes, wanted: Object) -> Step:
    if observed.answer is None:
        return Ask(bundle)
    if observed.answer:
        return Stay(f"not armed, no gate answers: {observed.answer}")
    return Create(wanted)


def _same(found: Object, wanted: Object, observed: Observed) -> bool:
    if found.get("webhooks") != wanted["webhooks"] and not (
        observed.written.get("webhooks") == wanted["webhooks"]
        and observed.stored.get("webhooks") == found.get("webhooks")
    ):
        return False
    return metadata_of(found) == metadata_of(wanted)


def metadata_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an object's metadata people can change."""
    metadata = body["metadata"]
    names = ("labels", "annotations", "ownerReferences", "finalizers")
    return {name: metadata[name] for name in names if metadata.get(name)}


def fail_closed(
    policies: Iterable[DeployPolicy], unreadable: Sequence[Mapping[str, Any]]
) -> FailClosed:
    """Say where policies enforce.

    ``unreadable`` are objects that don't parse: they count by what can be read of them, on
    top of their last good form among ``policies``.
    """
    patterns: set[str] = set()
    for policy in policies:
        if policy.mode is Mode.ENFORCE:
            patterns.update(policy.namespaces.texts)
    for item in unreadable:
        spec = item.get("spec")
        given: Any = spec if isinstance(spec, Mapping) else {"mode": Mode.ENFORCE.value}
        if given.get("mode", Mode.AUDIT.value) in (Mode.AUDIT.value, Mode.WARN.value):
            continue
        names = given.get("namespaces")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return FailClosed(everywhere=True)
        patterns.update(names)
    return FailClosed.of(patterns)
