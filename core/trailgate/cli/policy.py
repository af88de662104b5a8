"""``trailgate policy``: checking policies before the cluster does."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from trailgate.cli import files
from trailgate.cli.errors import ExitCode
from trailgate.cli.output import emit_json, emit_table, note, output_option, visible
from trailgate.model.errors import MalformedError

_MAX_FILE = 1024 * 1024
_COLUMNS = ("policy", "mode", "namespaces", "rules", "digest")


@dataclass
class _Findings:
    """What was found in all files."""

    policies: list[dict[str, Any]] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    hints: list[dict[str, str]] = field(default_factory=list)


@click.group("policy")
def command() -> None:
    """Check and try policies."""


@command.command("check")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True)
@output_option("table", "json")
@click.pass_context
def check(context: click.Context, paths: tuple[str, ...], output: str) -> None:
    """Check DeployPolicy files (YAML or JSON; - is standard input).

    Reports every error with its path, what was got and what was expected, and hints
    at what is valid but hardly meant. Exit code 1 where a policy is not valid.
    """
    found = _Findings()
    for path in paths:
        _check(path, found)
    _refuse_twice(found)
    if output == "json":
        emit_json({"policies": found.policies, "problems": found.problems, "hints": found.hints})
    else:
        _print(found)
    context.exit(ExitCode.NEGATIVE if found.problems else ExitCode.OK)


def _check(path: str, found: _Findings) -> None:
    from trailgate.policy.hints import hints
    from trailgate.policy.parse import parse_policies
    from trailgate.policy.problems import PolicyError

    content = (
        sys.stdin.buffer.read(_MAX_FILE + 1) if path == "-" else files.read(Path(path), _MAX_FILE)
    )
    try:
        policies = parse_policies(content)
    except PolicyError as error:
        found.problems += [
            {"file": path, "path": item.path, "got": item.got, "expected": item.expected}
            for item in error.problems
        ]
        return
    except MalformedError as error:
        found.problems.append(
            {"file": path, "path": "document", "got": str(error), "expected": "YAML or JSON"}
        )
        return
    if not policies:
        found.problems.append(
            {"file": path, "path": "document", "got": "nothing", "expected": "a DeployPolicy"}
        )
    now = datetime.now(UTC)
    for policy in policies:
        found.policies.append(
            {
                "file": path,
                "policy": policy.name,
                "mode": policy.mode.value,
                "namespaces": list(policy.namespaces.texts),
                "rules": [rule.name for rule in policy.rules],
                "digest": str(policy.reference.digest),
            }
        )
        found.hints += [
            {"file": path, "policy": policy.name, "hint": text} for text in hints(policy, now)
        ]


def _refuse_twice(found: _Findings) -> None:
    """Refuse one name in two files: in a cluster the later would replace the earlier."""
    first: dict[str, str] = {}
    for item in found.policies:
        known = first.setdefault(item["policy"], item["file"])
        if known != item["file"]:
            found.problems.append(
                {
                    "file": item["file"],
                    "path": "metadata.name",
                    "got": f"{item['policy']}, which {known} has too",
                    "expected": "each policy once",
                }
            )


def _print(found: _Findings) -> None:
    if found.policies:
        rows = [
            item | {"namespaces": ",".join(item["namespaces"]), "rules": len(item["rules"])}
            for item in found.policies
        ]
        emit_table(_COLUMNS, rows)
    for hint in found.hints:
        note(visible(f"hint: {hint['file']}: {hint['policy']}: {hint['hint']}"))
    for item in found.problems:
        note(
            visible(
                f"error: {item['file']}: {item['path']}: "
                f"got {item['got'].removeprefix('got ')}, expected {item['expected']}"
            )
        )
