"""What the process is told at start: immutable, checked, and named by its digest in the trail."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from trailgate.model.canonical import fingerprint
from trailgate.model.digest import Digest
from trailgate.model.errors import TrailgateError
from trailgate_kube.resources import SYSTEM_NAMESPACE

#: Namespace of our own objects where nothing else is said: the chart's default.
NAMESPACE = SYSTEM_NAMESPACE

_SECRET = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


class ConfigurationError(TrailgateError):
    """The process can't start like this; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of ``trailgate-webhook``; each has an environment twin."""

    tls_cert: Path
    tls_key: Path
    recorder_public_key: Path
    gate_key: Path
    client_ca: Path | None = None
    review_token_file: Path | None = None
    listen: str = "0.0.0.0:8443"
    health_listen: str | None = None
    kubeconfig: Path | None = None
    namespace: str = NAMESPACE
    policy_dir: Path | None = None
    spool_dir: Path | None = None
    cluster_name: str | None = None
    cluster_uid: str | None = None
    environment: str | None = None
    image: str | None = None
    insecure_registries: tuple[str, ...] = ()
    private_registries: tuple[str, ...] = ()
    docker_config: Path | None = None
    image_pull_secrets: tuple[str, ...] = ()
    registry_ca: Path | None = None
    known_checkpoint: Path | None = None
    shared_controller_manager: bool = False
    drain_delay: float = 5.0
    port_file: Path | None = None

    @property
    def needs_cluster(self) -> bool:
        """Whether anything is to come from, or go to, an API server."""
        without = self.policy_dir is not None and self.spool_dir is not None
        return self.kubeconfig is not None or not without or bool(self.image_pull_secrets)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON of all options, paths as paths: no secret is read."""
        return fingerprint(
            {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        )

    def check(self) -> None:
        """Refuse combinations that can't mean anything; raises ``ConfigurationError``."""
        if self.client_ca is not None and self.health_listen is None:
            raise ConfigurationError(
                "got --client-ca without --health-listen: probes have no client certificate, "
                "they need an address of their own"
            )
        for name in self.image_pull_secrets:
            if _SECRET.fullmatch(name) is None:
                raise ConfigurationError(
                    f"got --image-pull-secret {name!r}, expected NAMESPACE/NAME of a Secret"
                )
        if not self.needs_cluster and self.cluster_uid is None:
            raise ConfigurationError(
                "got --policy-dir and --spool-dir without a cluster, expected --cluster-uid: "
                "every record names its cluster"
            )


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return value if isinstance(value, bool) or value is None else str(value)
