"""``trailgate-operator-test``: what the pod of ``helm test`` runs.

0: one refusal and one admission were seen. 1: not so. 2: what it was told can't work.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

import trailgate
from trailgate_operator.prepare_command import needed, run_or_exit

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"auto_envvar_prefix": "TRAILGATE", "show_default": True})
@click.version_option(trailgate.__version__, prog_name="trailgate-operator-test")
@click.option("--kubeconfig", type=_FILE, help="The cluster; without it the pod's own.")
@click.option(
    "--wait", type=click.FloatRange(0, 3600), default=120.0,
    help="Seconds for the gate to be armed.",
)  # fmt: skip
def command(kubeconfig: Path | None, wait: float) -> None:
    """Ask the gate, by dry run, what it must refuse and what it must let in."""
    seen = run_or_exit("trailgate-operator-test", lambda: asyncio.run(_try(kubeconfig, wait)))
    click.echo(seen)


async def _try(kubeconfig: Path | None, wait: float) -> str:
    trial, client = needed("trailgate_operator.trial"), needed("trailgate_kube.client")
    async with await client.KubeClient.open(kubeconfig) as kube:
        seen: str = await trial.Trial(kube, wait).run()
        return seen


def main() -> None:
    """Run the command."""
    command()


if __name__ == "__main__":
    main()
