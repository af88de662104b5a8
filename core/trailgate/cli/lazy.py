"""Commands that are loaded when they are used, by the name of their module."""

from __future__ import annotations

import importlib

import click

#: What only the extra ``trailgate[kube]`` brings; this package names it, and never imports it.
_OF_THE_EXTRA = {"kubernetes", "prometheus_client", "trailgate_kube"}


def load(module: str, name: str) -> click.Command | None:
    """Import a module's ``command``; ``click.UsageError`` where the extra isn't installed."""
    try:
        command = importlib.import_module(module).command
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _OF_THE_EXTRA:
            raise
        raise click.UsageError(
            f"{name} needs {missing}, which is not installed; run: pip install 'trailgate[kube]'"
        ) from error
    return command if isinstance(command, click.Command) else None
