#!/usr/bin/env python3
"""Write the chart's README from the comments of its values.yaml: ``make generate``.

A comment above a key is its meaning. A key that holds other keys is a section; what is
left is a row. A key without a comment is an error, so that none comes in unexplained.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).with_name("trailgate")
_KEY = re.compile(r"^( *)([A-Za-z][\w-]*):(.*)$")
_COMMENT = re.compile(r"^ *# ?(.*)$")
# Their parts are Kubernetes', not ours: one row shows all of it.
_WHOLE = ("resources",)


class ValuesError(Exception):
    """values.yaml isn't as this script can read it."""


@dataclass(frozen=True, slots=True)
class Value:
    """One key, with the keys it is under."""

    path: tuple[str, ...]
    comment: str
    default: Any

    @property
    def section(self) -> bool:
        """Whether it only holds others."""
        return isinstance(self.default, dict) and bool(self.default) and self.path[-1] not in _WHOLE


def values(text: str) -> Iterator[Value]:
    """Read each key with its comment, in order; raises ``ValuesError`` where one has none."""
    defaults = yaml.safe_load(text)
    path: list[str] = []
    comment: list[str] = []
    whole: int | None = None
    for line in text.splitlines():
        if not line.strip():
            comment = []
        elif found := _COMMENT.match(line):
            comment.append(found[1])
        elif found := _KEY.match(line):
            depth = len(found[1]) // 2
            if whole is not None and depth > whole:
                continue
            path[depth:] = [found[2]]
            whole = depth if found[2] in _WHOLE else None
            if not comment:
                raise ValuesError(f"values.yaml: {'.'.join(path)} has no comment")
            yield Value(tuple(path), " ".join(comment), _at(defaults, path))
            comment = []
        else:
            raise ValuesError(f"values.yaml: got {line!r}, expected a key or a comment")


def _at(defaults: Any, path: list[str]) -> Any:
    for key in path:
        defaults = defaults[key]
    return defaults


def readme(chart: dict[str, Any], text: str) -> str:
    """Build the page."""
    parts = [_HEAD.format(**chart, tested=chart["annotations"]["trailgate.dev/tested-with"])]
    for value in values(text):
        name = ".".join(value.path)
        said = value.comment.replace("|", r"\|")
        if len(value.path) == 1:
            parts.append(f"\n### {name}\n\n{said}\n\n| value | default | |\n|---|---|---|\n")
        elif value.section:
            parts.append(f"| **`{name}`** | | {said} |\n")
        else:
            parts.append(f"| `{name}` | `{json.dumps(value.default)}` | {said} |\n")
    return "".join(parts)


_HEAD = """\
<!-- Written by `make generate` from values.yaml; not by hand. -->
# trailgate {version}

{description}

Tested with {tested}; the chart refuses a Kubernetes that isn't `{kubeVersion}`.
One installation in a cluster: the names of its objects are fixed. How to install, upgrade and
remove it is in the source's docs/how-to/install.md; what it makes, with which rights and
guards, in docs/reference/chart.md.

```
helm install trailgate charts/trailgate --namespace trailgate-system --create-namespace \\
  --set image.registry=registry.example/platform --set ledger.origin=example.com/trail/prod-eu \\
  --set webhook.image.digest=sha256:… --set operator.image.digest=sha256:…
```

## Values

A value that isn't listed here is refused.
"""


def main() -> None:
    """Write README.md beside values.yaml."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (CHART / "README.md").write_text(readme(chart, (CHART / "values.yaml").read_text()))


if __name__ == "__main__":
    try:
        main()
    except ValuesError as error:
        sys.exit(f"error: {error}")
