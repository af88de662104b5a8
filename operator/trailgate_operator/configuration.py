"""What the operator is told on its command line, read and checked before it starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from trailgate import __version__
from trailgate.ledger.record import Cluster, Context, Gate
from trailgate.ledger.spoolkeys import key_id, load_unsealing_key, load_verifying_key
from trailgate.model.canonical import fingerprint
from trailgate.model.errors import TrailgateError
from trailgate.policy import syntax
from trailgate_kube import reviewtoken
from trailgate_kube.resources import SYSTEM_NAMESPACE
from trailgate_kube.webhooks import Address as GateAddress
from trailgate_operator.intake import Keys

FILES, OPERATOR = "files", "operator"
"""Who makes the gate's certificate: somebody else, in files; or we."""

_PORTS = 65_535
_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SERVICE = re.compile(rf"(?P<namespace>{_LABEL})/(?P<name>{_LABEL}):(?P<port>[0-9]{{1,5}})")

_T = TypeVar("_T")


class ConfigurationError(TrailgateError):
    """Something the operator was told can't be used; the text names the option or file."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT``, an IPv6 address in brackets; raises ``ConfigurationError``."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or int(port) > _PORTS:
            raise ConfigurationError(f"got address {text!r}, expected HOST:PORT")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything but secrets' contents: what a record calls the configuration."""

    ledger: Path
    log_key: Path
    recorder_keys: tuple[Path, ...]
    gate_keys: tuple[Path, ...]
    known: Path | None = None
    kubeconfig: Path | None = None
    """None: the pod's own account."""
    namespace: str = SYSTEM_NAMESPACE
    health_listen: Address | None = None
    environment: str | None = None
    cluster_name: str | None = None
    image: str | None = None
    arm: bool = False
    """Work for a cluster: keep the webhook configuration, write the status of our objects."""
    webhook: GateAddress = field(default_factory=GateAddress)
    webhook_ca: Path | None = None
    """With ``certificates`` files: the authorities of the gate's certificate."""
    certificates: str = FILES
    exempt: tuple[str, ...] = ()
    """Namespaces that the API server never asks the gate about."""
    spool_cap: int | None = None
    """How many Admissions may wait; None: nobody counts."""
    test_every: timedelta = timedelta(hours=1)
    """Between control tests."""
    beat_every: timedelta = timedelta(minutes=5)
    """Between heartbeats."""

    def check(self) -> None:
        """Refuse what can't work, whatever one waits for; raises ``ConfigurationError``."""
        if not self.ledger.is_file():
            raise ConfigurationError(
                f"there is no ledger {self.ledger}; trailgate ledger init makes one"
            )
        if self.arm and self.certificates == FILES and self.webhook_ca is None:
            raise ConfigurationError(
                "got --arm without --webhook-ca, expected the authorities of the gate's "
                "certificate, or --certificates operator"
            )
        for name in self.exempt:
            if re.fullmatch(_LABEL, name) is None:
                raise ConfigurationError(
                    f"--exempt-namespace: got {name!r}, expected a namespace's name"
                )
        if self.known is not None and not self.known.parent.is_dir():
            raise ConfigurationError(
                f"--known-checkpoint {self.known}: {self.known.parent} is not a directory"
            )

    def keys(self) -> Keys:
        """Read the recorder's private keys and the gates' public ones."""
        signers = [_read(path, load_verifying_key) for path in self.gate_keys]
        return Keys(
            tuple(_read(path, load_unsealing_key) for path in self.recorder_keys),
            {key_id(key): key for key in signers},
        )

    def context(self, cluster_uid: str, keys: Keys) -> Context:
        """Say who records: cluster, version, and the configuration with the keys in use."""
        configuration: dict[str, Any] = {
            "namespace": self.namespace,
            "ledger": str(self.ledger),
            "recorderKeys": sorted(str(key_id(key.public_key())) for key in keys.recorder),
            "gateKeys": sorted(str(key) for key in keys.signers),
            "knownCheckpoint": self.known is not None,
        }
        if self.arm:
            configuration["arm"] = {
                "webhook": self.webhook.url or f"{self.webhook.server_name}:{self.webhook.port}",
                "certificates": self.certificates,
                "exemptNamespaces": sorted(self.exempt),
                "controlTestEvery": int(self.test_every.total_seconds()),
                "heartbeatEvery": int(self.beat_every.total_seconds()),
            }
        gate = Gate(__version__, fingerprint(configuration), self.image, "recorder")
        return Context(Cluster(cluster_uid, self.cluster_name), gate, self.environment)


def review_token(path: Path | None) -> str | None:
    """Read the secret end of the gate's path, if there is a file; ``ConfigurationError``."""
    return None if path is None else _read(path, reviewtoken.parse)


def gate_address(service: str | None, url: str | None, namespace: str) -> GateAddress:
    """Read ``NAMESPACE/NAME:PORT`` or ``https://…``; neither: our Service in ``namespace``.

    Raises ``ConfigurationError``.
    """
    if url is not None and service is not None:
        raise ConfigurationError("got --webhook-service and --webhook-url, expected one of them")
    if url is not None:
        if not url.startswith("https://"):
            raise ConfigurationError(f"--webhook-url: got {url!r}, expected https://HOST:PORT/PATH")
        return GateAddress(namespace, url=url)
    if service is None:
        return GateAddress(namespace)
    found = _SERVICE.fullmatch(service)
    if found is None or not 0 < int(found["port"]) <= _PORTS:
        raise ConfigurationError(
            f"--webhook-service: got {service!r}, expected NAMESPACE/NAME:PORT"
        )
    return GateAddress(found["namespace"], found["name"], int(found["port"]))


def period(option: str, text: str) -> timedelta:
    """Read such as ``1h`` or ``90s``, from a minute to a day; raises ``ConfigurationError``."""
    length = syntax.seconds(text) if syntax.duration(text) is None else None
    if length is None or not timedelta(minutes=1) <= length <= timedelta(days=1):
        raise ConfigurationError(
            f"{option}: got {text!r}, expected 1m to 24h, such as 1h, 5m or 90s"
        )
    return length


def ledger_path(text: str) -> Path:
    """Read ``sqlite:PATH``; raises ``ConfigurationError``."""
    scheme, separator, path = text.partition(":")
    if scheme != "sqlite" or not separator or not path:
        raise ConfigurationError(f"got ledger {text!r}, expected sqlite:PATH")
    return Path(path)


def files(given: Sequence[Path]) -> tuple[Path, ...]:
    """Take files as they are, and of a directory every ``*.pub`` and ``*.pem`` in it."""
    found: list[Path] = []
    for path in given:
        inside = sorted([*path.glob("*.pub"), *path.glob("*.pem")]) if path.is_dir() else [path]
        if not inside:
            raise ConfigurationError(f"{path}: got no *.pub or *.pem file, expected at least one")
        found += inside
    return tuple(found)


def _read(path: Path, load: Callable[[bytes], _T]) -> _T:
    try:
        return load(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
