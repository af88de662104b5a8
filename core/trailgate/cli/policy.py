"""``trailgate policy``: checking policies before the cluster does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from trailgate.cli import files
from trailgate.cli.errors import ExitCode
from trailgate.cli.lazy import load
from trailgate.cli.output import emit_json, emit_table, note, output_option, visible
from trailgate.model.errors import MalformedError

_MAX_FILE = 1024 * 1024
#: By name: the module, which exposes a click command named ``command``, and its line in the help.
_OF_CLUSTER: Mapping[str, tuple[str, str]] = {
    "impact": ("trailgate_kube.cli.impact", "Say what policies would say of each running image."),
}
_COLUMNS = ("policy", "mode", "namespaces", "rules", "digest")


@dataclass
class _Findings:
    """What was found in all files."""

    policies: list[dict[str, Any]] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    hints: list[dict[str, str]] = field(default_factory=list)


class _WithCluster(click.Group):
    """A group with commands of another package, which an extra brings: loaded when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them without loading them."""
        return [*super().list_commands(ctx), *_OF_CLUSTER]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one; ``click.UsageError`` where the extra isn't installed."""
        if cmd_name not in _OF_CLUSTER:
            return super().get_command(ctx, cmd_name)
        return load(_OF_CLUSTER[cmd_name][0], f"policy {cmd_name}")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without loading the cluster's."""
        own = [(name, one.get_short_help_str(70)) for name, one in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*own, *((name, text) for name, (_, text) in _OF_CLUSTER.items())])


@click.group("policy", cls=_WithCluster)
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
