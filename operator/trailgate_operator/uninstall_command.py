"""``trailgate-operator-uninstall``: what runs before the release's objects are deleted.

0: the cluster can be left; what stayed was said. 1: it can't yet, or the API server doesn't
answer: run it again. 2: what it was told can't work.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

import trailgate
from trailgate_kube.resources import SYSTEM_NAMESPACE
from trailgate_operator.prepare_command import needed, run_or_exit

_FILE = click.Path(path_type=Path, dir_okay=False)
_SECONDS = click.FloatRange(0, 3600)


@click.command(context_settings={"auto_envvar_prefix": "TRAILGATE", "show_default": True})
@click.version_option(trailgate.__version__, prog_name="trailgate-operator-uninstall")
@click.option("--kubeconfig", type=_FILE, help="The cluster; without it the pod's own.")
@click.option("--namespace", default=SYSTEM_NAMESPACE, help="Where Trailgate is.")
@click.option(
    "--wait-disarm", type=_SECONDS, default=30.0,
    help="Seconds for the operator to remove the webhook configuration; then we do.",
)  # fmt: skip
@click.option(
    "--wait-stop", type=_SECONDS, default=60.0, help="Seconds for each Deployment's pods to end."
)
@click.option(
    "--wait-drain", type=_SECONDS, default=60.0,
    help="Seconds for the operator to record what is in the spool.",
)  # fmt: skip
def command(**options: Any) -> None:
    """Disarm, stop the gate, record what is left, and delete the Secrets.

    Safe to run again, and to interrupt. Says what it did, and what it left and why.
    """
    run_or_exit("trailgate-operator-uninstall", lambda: asyncio.run(_uninstall(**options)))


async def _uninstall(
    *, kubeconfig: Path | None, namespace: str, wait_disarm: float, wait_stop: float,
    wait_drain: float,
) -> str:  # fmt: skip
    uninstall, client = needed("trailgate_operator.uninstall"), needed("trailgate_kube.client")
    waits = uninstall.Waits(wait_disarm, wait_stop, wait_drain)
    async with await client.KubeClient.open(kubeconfig) as kube:
        await uninstall.Uninstall(kube, namespace, click.echo, waits).run()
    return ""


def main() -> None:
    """Run the command."""
    command()


if __name__ == "__main__":
    main()
