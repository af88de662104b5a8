"""The release under test: installed by the real Helm, as an administrator would."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.provider import Cluster
from e2e.stories.errors import StoryError

NAMESPACE = "trailgate-system"
RELEASE = "trailgate"
CONFIGURATION = "validatingwebhookconfiguration/trailgate"
CHART = Path(__file__).parents[2] / "charts" / "trailgate"
_LEDGER = "sqlite:/var/lib/trailgate/ledger.db"
_ORIGIN = "stories.shop.example/trail"


def wait_for(what: str, probe: Callable[[], Any], seconds: float) -> Any:
    """Poll until ``probe`` gives something true, and return it; raises ``StoryError``."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise StoryError(f"waited {seconds:g} s for {what}; got {found!r}")
        time.sleep(0.25)


@dataclass
class Installation:
    """A Helm release of this checkout's chart, with this checkout's images."""

    cluster: Cluster
    program: Path
    """helm."""
    digests: Mapping[str, str]
    """Of the images, by component."""
    directory: Path
    pull_secret: str
    values: dict[str, Any] = field(default_factory=dict)

    def install(self) -> None:
        """Install, and wait until everything is ready and the gate armed."""
        self._release()
        self.wait_until_armed()

    def upgrade(self, **changes: Any) -> None:
        """Upgrade the release with changed top-level values, and wait until it is ready."""
        self.values = {**self.values, **changes}
        self._release()

    def _release(self) -> None:
        file = self.directory / "values.yaml"
        file.write_text(yaml.safe_dump(_merged(self._defaults(), self.values)))
        self.helm(
            "upgrade", "--install", RELEASE, CHART, "--values", file, "--wait", "--timeout", "4m"
        )

    def uninstall(self, *more: str) -> None:
        """Uninstall the release, and wait until Helm has done its part."""
        self.helm("uninstall", RELEASE, "--wait", "--timeout", "5m", *more)

    def _defaults(self) -> dict[str, Any]:
        return {
            "image": {
                "registry": f"{self.cluster.registry_address}/trailgate",
                "pullSecrets": [self.pull_secret],
            },
            "cluster": {"name": "stories", "environment": "production"},
            "webhook": {"image": {"digest": self.digests["webhook"]}},
            "operator": {"image": {"digest": self.digests["operator"]}},
            "ledger": {
                "origin": _ORIGIN,
                "persistence": {"size": "1Gi"},
            },
            "registry": {
                "credentialsSecret": self.pull_secret,
                "insecureHosts": [self.cluster.registry_address],
            },
        }

    def helm(self, *arguments: str | Path, check: bool = True) -> str:
        """Run helm in our namespace; returns what it printed; raises ``StoryError``."""
        home = self.directory / "helm"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HELM_", "KUBE"))}
        environment |= {
            f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")
        }
        done = subprocess.run(
            [self.program, "--kubeconfig", self.cluster.kubeconfig, "--namespace", NAMESPACE,
             *arguments],
            capture_output=True, text=True, timeout=360, check=False, env=environment,
        )  # fmt: skip
        if check and done.returncode != 0:
            words = " ".join(map(str, arguments[:2]))
            raise StoryError(f"helm {words}: status {done.returncode}\n{done.stderr}{self.state()}")
        return done.stdout

    def state(self) -> str:
        """Say how our pods are: for a failure's text."""
        commands = (
            ("get", "pods,pvc,events", "-n", NAMESPACE, "-o", "wide"),
            ("logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=trailgate", "--tail=20",
             "--all-containers", "--prefix"),
        )  # fmt: skip
        return "\n".join(self.cluster.kubectl(*one, check=False).stdout for one in commands)

    def is_armed(self) -> bool:
        """Whether the API server has our configuration."""
        return self.cluster.kubectl("get", CONFIGURATION, check=False).returncode == 0

    def wait_until_armed(self, seconds: float = 90) -> None:
        """Wait until the operator has armed the gate."""
        try:
            wait_for("the configuration", self.is_armed, seconds)
        except StoryError as error:
            raise StoryError(f"{error}\n{self.state()}") from None

    def trailgate(self, *arguments: str) -> str:
        """Run ``trailgate`` in the operator's pod; returns what it printed."""
        return self.cluster.kubectl(
            "exec", "-n", NAMESPACE, "deploy/trailgate-operator", "-c", "operator", "--",
            "trailgate", *arguments,
        ).stdout  # fmt: skip

    def rows(self, *filters: str) -> list[dict[str, Any]]:
        """Return what ``ledger list -o json`` says."""
        text = self.trailgate("ledger", "list", "--ledger", _LEDGER, "-o", "json", *filters)
        return list(json.loads(text)["rows"])

    def verify(self) -> str:
        """Run ``ledger verify`` with the log's key; raises ``KubectlError`` where it fails."""
        return self.trailgate("ledger", "verify", "--ledger", _LEDGER, "--vkey", self.vkey())

    def vkey(self) -> str:
        """The log's public half, as an administrator would pin it."""
        held = self.cluster.kubectl(
            "get", "secret", "trailgate-log", "-n", NAMESPACE, "-o", "jsonpath={.data.log\\.vkey}"
        ).stdout
        return base64.b64decode(held).decode().strip()

    def spooled(self) -> int:
        """How many Admissions lie in the spool."""
        names = self.cluster.kubectl(
            "get", "admissions.trailgate.dev", "-n", NAMESPACE, "-o", "name"
        ).stdout
        return len(names.split())

    def wait_until_recorded(self, seconds: float = 60) -> None:
        """Wait until the spool is empty."""
        wait_for("an empty spool", lambda: self.spooled() == 0, seconds)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        inner = merged.get(name)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        merged[name] = _merged(inner, value) if both and inner is not None else value
    return merged
