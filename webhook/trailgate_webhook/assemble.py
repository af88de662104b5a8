"""Puts the parts together: the one place that knows which implementation stands where."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

import trailgate
from trailgate.assess.assessor import Assessor
from trailgate.assess.classify import Options
from trailgate.assess.owners import OwnerReader, OwnerUnavailableError
from trailgate.ledger.record import Cluster, Context
from trailgate.ledger.record import Gate as GateIdentity
from trailgate.ledger.spoolkeys import load_sealing_key, load_signing_key
from trailgate.ledger.spoolwriter import BatchWriter
from trailgate.model.admission import Kind
from trailgate.model.errors import MalformedError
from trailgate.oci.credentials import CredentialSource
from trailgate_kube import logs, reviewtoken
from trailgate_kube.api import Kube
from trailgate_kube.cluster import cluster_uid
from trailgate_kube.errors import KubeError
from trailgate_kube.owners import KubeOwners
from trailgate_kube.policies import Policies
from trailgate_kube.spool import AdmissionWriter
from trailgate_webhook import evidence, policies
from trailgate_webhook.app import App
from trailgate_webhook.checkpoint import CheckpointFile
from trailgate_webhook.credentials import DockerConfigFile
from trailgate_webhook.directory import DirectoryAdmissions
from trailgate_webhook.endpoint import Gate
from trailgate_webhook.health import Health
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.policies import ClusterPolicies, DirectoryPolicies
from trailgate_webhook.process import Listeners, Part, Poll, Process
from trailgate_webhook.scribe import SpoolScribe
from trailgate_webhook.server import listen
from trailgate_webhook.settings import ConfigurationError, Settings
from trailgate_webhook.spool import SpoolWriter
from trailgate_webhook.tls import ServingCertificate

#: Seconds at start to learn which cluster this is.
CLUSTER_PATIENCE = 60.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Keys:
    """The spool's keys, as this process has them."""

    recorder: X25519PublicKey
    signer: Ed25519PrivateKey


class NoCluster:
    """``OwnerReader`` where there is no cluster: only owners admitted here are known."""

    async def owner(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Refuse."""
        raise OwnerUnavailableError(f"{kind} {namespace}/{name}: there is no cluster to ask")


async def build(settings: Settings, stack: AsyncExitStack) -> Process:
    """Make a process that is ready to run; what it opens is closed with ``stack``.

    Raises ``TrailgateError`` in one line where the settings can't be used.
    """
    settings.check()
    metrics = Metrics()
    certificate = ServingCertificate(settings.tls_cert, settings.tls_key, settings.client_ca)
    keys, token = _keys(settings), _token(settings.review_token_file)
    client = await _cluster(settings, stack)
    source = _policy_source(settings, client, metrics)
    registries = evidence.Registries.of(settings, source.policies, client)
    assessor = Assessor(
        source.policies,
        await evidence.of_registries(registries, metrics, stack),
        _owners(client),
        settings.cluster_name,
        options=Options(shared_controller_manager=settings.shared_controller_manager),
    )
    context = await _context(settings, client)
    listeners = _listeners(settings, stack)  # late: who connects is answered
    scribe = SpoolScribe(context, keys.recorder, keys.signer)
    spool = SpoolWriter(_spool(settings, client), scribe, metrics)
    checkpoint = CheckpointFile(settings.known_checkpoint) if settings.known_checkpoint else None
    gate = Gate(
        assessor,
        spool,
        lambda namespace: policies.enforcing(source, namespace),
        metrics,
        checkpoint=checkpoint.latest if checkpoint else lambda: None,
        unready=source.problem,
    )
    health = Health(
        {"policies": source.problem, "spool": spool.problem},
        {"stale policies": source.stale},
        lambda: spool.broken or source.broken,
    )
    return Process(
        app=App(gate, health, metrics, token),
        health=health,
        metrics=metrics,
        certificate=certificate,
        listeners=listeners,
        drain_delay=settings.drain_delay,
        parts=_parts(source, _followed(checkpoint, registries.own), spool),
        port_file=settings.port_file,
    )


async def _cluster(settings: Settings, stack: AsyncExitStack) -> Kube | None:
    if not settings.needs_cluster:
        return None
    # Only here: it loads the kubernetes package, which takes longer than all the rest.
    from trailgate_kube.client import KubeClient  # noqa: PLC0415

    return await stack.enter_async_context(await KubeClient.open(settings.kubeconfig))


def _keys(settings: Settings) -> Keys:
    try:
        recorder = load_sealing_key(_content(settings.recorder_public_key, "--recorder-public-key"))
    except MalformedError as error:
        path = settings.recorder_public_key
        raise ConfigurationError(f"--recorder-public-key {path}: {error}") from error
    try:
        signer = load_signing_key(_content(settings.gate_key, "--gate-key"))
    except MalformedError as error:
        raise ConfigurationError(f"--gate-key {settings.gate_key}: {error}") from error
    return Keys(recorder, signer)


def _token(path: Path | None) -> str | None:
    option = "--review-token-file"
    try:
        return None if path is None else reviewtoken.parse(_content(path, option))
    except MalformedError as error:
        raise ConfigurationError(f"{option} {path}: {error}") from error


def _policy_source(
    settings: Settings, client: Kube | None, metrics: Metrics
) -> DirectoryPolicies | ClusterPolicies:
    source: DirectoryPolicies | ClusterPolicies
    if settings.policy_dir is not None:
        source = DirectoryPolicies(settings.policy_dir, metrics)
    else:
        source = ClusterPolicies(Policies(_there(client)))
    policies.show(source, metrics)
    return source


def _owners(client: Kube | None) -> OwnerReader:
    return NoCluster() if client is None else KubeOwners(client)


def _listeners(settings: Settings, stack: AsyncExitStack) -> Listeners:
    main = listen(settings.listen)
    stack.callback(main.close)
    health = None
    if settings.health_listen is not None:
        health = listen(settings.health_listen)
        stack.callback(health.close)
    return Listeners(main, health)


async def _context(settings: Settings, client: Kube | None) -> Context:
    uid = settings.cluster_uid or await _cluster_uid(_there(client))
    gate = GateIdentity(trailgate.__version__, settings.digest, settings.image)
    return Context(Cluster(uid, settings.cluster_name), gate, settings.environment)


async def _cluster_uid(client: Kube) -> str:
    """Ask which cluster this is; an API server that restarts is waited for."""
    pause, last = 0.5, "no answer"
    try:
        async with asyncio.timeout(CLUSTER_PATIENCE):
            while True:
                try:
                    return await cluster_uid(client)
                except KubeError as error:
                    last = str(error)
                    logs.write(logging.WARNING, "cluster not known yet", detail=last)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
    except TimeoutError:
        raise ConfigurationError(f"can't learn which cluster this is: {last}") from None


def _spool(settings: Settings, client: Kube | None) -> BatchWriter:
    if settings.spool_dir is None:
        return AdmissionWriter(_there(client), settings.namespace)
    try:
        return DirectoryAdmissions(settings.spool_dir)
    except OSError as error:
        raise ConfigurationError(f"--spool-dir {settings.spool_dir}: {error.strerror}") from error


def _followed(
    checkpoint: CheckpointFile | None, credentials: CredentialSource
) -> dict[str, Callable[[], object]]:
    """Name what looks at a file again every few seconds."""
    actions: dict[str, Callable[[], object]] = {}
    if checkpoint is not None:
        actions["checkpoint"] = checkpoint.refresh
    if isinstance(credentials, DockerConfigFile):
        actions["registry credentials"] = partial(_reload, credentials)
    return actions


def _reload(credentials: DockerConfigFile) -> None:
    if credentials.refresh():
        logs.write(logging.INFO, "registry credentials loaded")


def _parts(
    source: DirectoryPolicies | ClusterPolicies,
    followed: dict[str, Callable[[], object]],
    spool: SpoolWriter,
) -> tuple[Part, ...]:
    if isinstance(source, DirectoryPolicies):
        return (Poll({"policies": source.refresh, **followed}), spool)
    return (source, Poll(followed), spool)


def _content(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{option} {path}: {error.strerror}") from error


def _there(client: _T | None) -> _T:
    assert client is not None, "Settings.needs_cluster says so"
    return client
