"""What a running cluster tells those who use it: a file in its work directory."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

CONTROL = "control.sock"
LOCK = ".lock"
_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class State:
    """Where everything is."""

    slot: int
    kubeconfig: str
    kubectl: str
    registry: str
    user: str
    password: str = field(repr=False)
    took: dict[str, float]
    """Seconds from the start of the namespaces until each step was done."""

    def write(self, directory: Path) -> None:
        """Write it in one step, readable by us alone: it holds the registry's login."""
        partial = directory / f"{_STATE}.new"
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        partial.replace(directory / _STATE)

    @classmethod
    def read(cls, directory: Path) -> State | None:
        """Return it, or None where nothing is up."""
        try:
            return cls(**json.loads((directory / _STATE).read_text()))
        except FileNotFoundError:
            return None
