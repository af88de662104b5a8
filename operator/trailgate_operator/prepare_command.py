"""``trailgate-operator-prepare``: the operator's init container.

0: all is there. 2: what it was told can't work. 1: anything else that it can't go on from:
keys and ledger that don't belong together, an API server that doesn't answer.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import trailgate
from trailgate.model.errors import TrailgateError
from trailgate.tlog.errors import NoteError
from trailgate.tlog.note import VerifierKey
from trailgate_kube import logs
from trailgate_kube.resources import SYSTEM_NAMESPACE
from trailgate_operator.configuration import ConfigurationError, ledger_path

_EXTRA = {"kubernetes", "prometheus_client"}
_FILE = click.Path(path_type=Path, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_ID = re.compile(r"[0-9a-f]{8}")


@click.command(context_settings={"auto_envvar_prefix": "TRAILGATE", "show_default": True})
@click.version_option(trailgate.__version__, prog_name="trailgate-operator-prepare")
@click.option(
    "--keys-dir", type=_DIRECTORY, required=True,
    help="Where recorder.key, gate.pub, log.key and review-token go (mode 0600): a volume in "
    "memory.",
)  # fmt: skip
@click.option("--ledger", required=True, metavar="sqlite:PATH", help="Made where there is none.")
@click.option("--origin", required=True, help="The name of a new log, like trail.example.com/eu.")
@click.option("--known-checkpoint", type=_FILE, help="As the operator's: tells of an earlier log.")
@click.option(
    "--new-ledger", metavar="ID",
    help="Begin a new log, because the one of this id (8 hex digits) is lost for good.",
)  # fmt: skip
@click.option("--kubeconfig", type=_FILE, help="The cluster; without it the pod's own.")
@click.option("--namespace", default=SYSTEM_NAMESPACE, help="Where the Secrets are.")
@click.option(
    "--wait", type=click.FloatRange(0, 3600), default=120.0,
    help="Seconds that what may pass (API server, disk) is waited out.",
)  # fmt: skip
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info")
def command(log_level: str, **options: Any) -> None:
    """Make the operator's keys and its ledger where there are none.

    Prints the log's vkey: give it to whoever verifies the ledger.
    """
    logs.configure(log_level)
    os.umask(0o077)
    click.echo(run_or_exit("trailgate-operator-prepare", lambda: _run(**options)))


def _run(
    *,
    keys_dir: Path,
    ledger: str,
    known_checkpoint: Path | None,
    new_ledger: str | None,
    **others: Any,
) -> str:
    if new_ledger is not None and _ID.fullmatch(new_ledger) is None:
        raise ConfigurationError(
            f"--new-ledger: got {new_ledger!r}, expected the lost log's id: the 8 hex digits "
            "between the + of its vkey"
        )
    try:
        VerifierKey(others["origin"], bytes(32))
    except NoteError as error:
        raise ConfigurationError(f"--origin: {error}") from error
    places = needed("trailgate_operator.prepare_places").Places(
        keys_dir, ledger_path(ledger), known_checkpoint
    )
    places.check()
    vkey: str = asyncio.run(_prepare(places, new_ledger, **others))
    return vkey


async def _prepare(
    places: Any, give_up: str | None, *, origin: str, kubeconfig: Path | None, namespace: str,
    wait: float,
) -> str:  # fmt: skip
    prepare, client = needed("trailgate_operator.prepare"), needed("trailgate_kube.client")
    box = needed("trailgate_operator.keyring_secret").SecretBox
    async with await client.KubeClient.open(kubeconfig) as kube:
        made = prepare.Preparation(box(kube, namespace), places, origin, give_up)
        vkey: str = await made.run(wait)
        return vkey


def run_or_exit(program: str, run: Callable[[], str]) -> str:
    """Run, and end the process with one line on stderr where that fails."""
    try:
        return run()
    except (TrailgateError, OSError) as error:
        click.echo(f"{program}: {' '.join(str(error).split())}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


def needed(name: str) -> ModuleType:
    """Import what needs the extra; ``ConfigurationError`` where it isn't installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise ConfigurationError(
            f"{error.name} is not installed; run: pip install 'trailgate[operator]'"
        ) from error


def main() -> None:
    """Run the command."""
    command()


if __name__ == "__main__":
    main()
