"""Users of the control plane and the kubeconfig files that make one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who talks to the API server: a name for people, a kubeconfig for programs."""

    name: str
    kubeconfig: Path
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None


def write(path: Path, server: str, authority: Path, user: dict[str, Any]) -> None:
    """Write a kubeconfig with one context (JSON is YAML), readable by us alone."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "e2e",
                "cluster": {"server": server, "certificate-authority": str(authority)},
            }
        ],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "user"}}],
        "current-context": "e2e",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1) + "\n")
