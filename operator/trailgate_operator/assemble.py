"""Which loops there are beside the recorder, made from what the operator was told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from trailgate.ledger.record import Context, ControlSubject
from trailgate_kube.api import Kube
from trailgate_kube.policies import Policies
from trailgate_kube.webhooks import EXEMPT
from trailgate_operator.arming import Arming, Authorities, Parts
from trailgate_operator.arming_overlap import FileAuthorities, Overlap
from trailgate_operator.arming_plan import Settings
from trailgate_operator.authority import service_names
from trailgate_operator.certificates import Certificates, Published
from trailgate_operator.configuration import OPERATOR, Configuration
from trailgate_operator.disarming_past import KnownDisarms
from trailgate_operator.keyring_secret import SecretBox
from trailgate_operator.loops import Loop
from trailgate_operator.metrics import Metrics
from trailgate_operator.observer import Observer
from trailgate_operator.observer import Parts as Observed
from trailgate_operator.observer_past import Past
from trailgate_operator.policies import PolicyStatus
from trailgate_operator.probes import Health
from trailgate_operator.register import Register
from trailgate_operator.selfreview import SelfReview
from trailgate_operator.sentinel import Parts as Guarded
from trailgate_operator.sentinel import Rhythm, Sentinel
from trailgate_operator.sentinel_tests import Timer
from trailgate_operator.spool_cap import SpoolCap
from trailgate_operator.trail import Tell

_COMPONENT, _SENTINEL = "operator", "sentinel"


@dataclass(frozen=True, slots=True)
class Trail:
    """What the observer has of the ledger, and of what comes into it."""

    past: Past
    recorded: Callable[[], datetime | None]
    follow: Callable[[Callable[[int, bytes], None]], None]
    """Have a function called for each new entry."""
    entries: Callable[[], int] = lambda: 0
    """In the ledger."""
    spooled: Callable[[], int | None] = lambda: None
    """Batches in the spool at the last look."""
    register: Register = field(default_factory=lambda: Register(ControlSubject.POLICY))
    """The policies that the ledger knows of."""
    guards: Register = field(default_factory=lambda: Register(ControlSubject.GUARD))
    """The guards that the ledger knows of."""
    disarms: KnownDisarms = field(default_factory=KnownDisarms)
    """The Disarms that the ledger knows of."""


@dataclass(frozen=True, slots=True)
class Given:
    """What all of them work with."""

    kube: Kube
    tell: Tell
    context: Context
    metrics: Metrics
    health: Health
    trail: Trail | None = None
    """None: nothing is observed, and nothing tested."""


def loops(configuration: Configuration, given: Given) -> Sequence[Loop]:
    """Make them. Without ``--arm`` there are none."""
    if not configuration.arm:
        return ()
    wakes: list[Callable[[], None]] = []

    def published() -> bytes | None:
        return arming.published()

    certificates = _certificates(configuration, given, published, wakes)
    policies = Policies(given.kube, on_change=lambda: _wake(wakes))
    status = PolicyStatus(given.kube, policies, given.metrics)
    gate = SelfReview(given.kube, configuration.webhook, configuration.namespace)
    authorities, prove = _authorities(configuration, certificates, published, gate)
    arming = Arming(
        Parts(
            kube=given.kube,
            policies=policies,
            authorities=authorities,
            gate=gate,
            tell=given.tell,
            context=_by(_COMPONENT, given.context),
            metrics=given.metrics,
            disarmed=() if given.trail is None else given.trail.disarms.in_effect(),
            republished=(lambda: None) if certificates is None else certificates.wake,
            prove=prove,
        ),
        Settings(configuration.webhook, configuration.namespace, configuration.exempt),
    )
    wakes += [status.wake, arming.wake]
    given.health.notes["armed"] = arming.note
    made: list[Loop] = [status, arming] if certificates is None else [certificates, status, arming]
    if (most := configuration.spool_cap) is not None:
        made.append(SpoolCap(given.kube, configuration.namespace, most, given.metrics))
    if given.trail is not None:
        observer = _observer(configuration, given, given.trail, arming.armed)
        sentinel = _sentinel(
            configuration, given, given.trail, arming, policies=policies, observer=observer
        )
        made += [observer, sentinel]
    return made


def _observer(
    configuration: Configuration,
    given: Given,
    trail: Trail,
    armed: Callable[[], bool | None],
) -> Observer:
    observer = Observer(
        Observed(
            kube=given.kube,
            tell=given.tell,
            context=given.context,
            metrics=given.metrics.loops,
            past=trail.past,
            recorded=trail.recorded,
            armed=armed,
            excluded=frozenset({*EXEMPT, configuration.namespace, *configuration.exempt}),
        )
    )
    trail.follow(observer.appended)
    return observer


def _sentinel(
    configuration: Configuration,
    given: Given,
    trail: Trail,
    arming: Arming,
    *,
    policies: Policies,
    observer: Observer,
) -> Sentinel:
    sentinel = Sentinel(
        Guarded(
            kube=given.kube,
            policies=policies,
            address=configuration.webhook,
            armed=arming.armed,
            spooled=trail.spooled,
            entries=trail.entries,
            observed=lambda: observer.counts() if observer.problem() is None else None,
            register=trail.register,
            guards=trail.guards,
            recorded=trail.recorded,
            tell=given.tell,
            context=_by(_SENTINEL, given.context),
            metrics=given.metrics,
        ),
        Rhythm(
            Timer(configuration.test_every.total_seconds()),
            configuration.beat_every.total_seconds(),
        ),
    )
    trail.follow(sentinel.appended)
    given.health.notes["control-test"] = sentinel.note
    return sentinel


def _certificates(
    configuration: Configuration,
    given: Given,
    published: Published,
    wakes: Sequence[Callable[[], None]],
) -> Certificates | None:
    if configuration.certificates != OPERATOR:
        return None
    service = configuration.webhook
    return Certificates(
        SecretBox(given.kube, configuration.namespace),
        service_names(service.name, service.namespace),
        published,
        given.metrics.certificates,
        given.metrics.loops,
        changed=lambda: _wake(wakes),
    )


def _authorities(
    configuration: Configuration,
    certificates: Certificates | None,
    published: Published,
    gate: SelfReview,
) -> tuple[Authorities, Callable[[], Awaitable[None]] | None]:
    """Return them, and what proves that the newest are enough, where nobody else sees to it."""
    if certificates is not None:
        return certificates, None
    assert configuration.webhook_ca is not None
    file = Overlap(FileAuthorities(configuration.webhook_ca), published, gate)
    return file, file.prove


def _wake(wakes: Sequence[Callable[[], None]]) -> None:
    for wake in wakes:
        wake()


def _by(component: str, context: Context) -> Context:
    return replace(context, gate=replace(context.gate, component=component))
