"""``trailgate-operator``: the command, its options and exit codes.

0: ended by a signal. 2: this configuration can't work. 1: anything else that it can't
go on from, such as a ledger that was rolled back.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import trailgate
from trailgate.model.errors import TrailgateError
from trailgate_kube import logs
from trailgate_kube.resources import SYSTEM_NAMESPACE
from trailgate_operator.configuration import (
    FILES,
    OPERATOR,
    Address,
    Configuration,
    ConfigurationError,
    files,
    gate_address,
    ledger_path,
    period,
    review_token,
)

_EXTRA = {"kopf", "kubernetes", "prometheus_client"}
"""What only the extra ``trailgate[operator]`` brings."""

_FILE = click.Path(path_type=Path, dir_okay=False)
_ANY = click.Path(path_type=Path)


@click.command(context_settings={"auto_envvar_prefix": "TRAILGATE", "show_default": True})
@click.version_option(trailgate.__version__, prog_name="trailgate-operator")
@click.option("--ledger", required=True, metavar="sqlite:PATH", help="As made by ledger init.")
@click.option("--log-key", type=_FILE, required=True, help="The log's private key.")
@click.option(
    "--recorder-key", type=_FILE, multiple=True, required=True,
    help="Private key that opens the spool, X25519 (PEM); several while it is rotated.",
)  # fmt: skip
@click.option(
    "--gate-public-key", type=_ANY, multiple=True, required=True, metavar="FILE|DIRECTORY",
    help="Public key of a gate, Ed25519 (PEM), or a directory of them.",
)  # fmt: skip
@click.option(
    "--known-checkpoint", type=_FILE,
    help="The newest checkpoint, on another volume: kept there, and held against the ledger.",
)  # fmt: skip
@click.option("--kubeconfig", type=_FILE, help="The cluster; without it the pod's own.")
@click.option("--namespace", default=SYSTEM_NAMESPACE, help="Where Admissions are read.")
@click.option("--cluster-name", help="A name for people; the cluster's uid is read.")
@click.option("--environment", help="Such as production; stands in every record.")
@click.option("--image", help="Of this process, with digest; stands in every record.")
@click.option("--health-listen", metavar="HOST:PORT", help="Probes and metrics, by HTTP.")
@click.option(
    "--arm", is_flag=True,
    help="Keep the webhook configuration, and the status of policies and Disarms.",
)  # fmt: skip
@click.option(
    "--webhook-service", metavar="NAMESPACE/NAME:PORT",
    help="The gate's Service; without it trailgate-webhook:443 in --namespace.",
)  # fmt: skip
@click.option("--webhook-url", metavar="URL", help="The gate's address, where it has no Service.")
@click.option(
    "--review-token-file", type=_FILE,
    help="The gate's --review-token-file: what is asked is its path with that token.",
)  # fmt: skip
@click.option(
    "--certificates", type=click.Choice((FILES, OPERATOR)), default=FILES,
    help="Who makes the gate's certificate: somebody else, or the operator.",
)  # fmt: skip
@click.option(
    "--webhook-ca", type=_FILE,
    help="With --certificates files: the authorities of the gate's certificate (PEM).",
)  # fmt: skip
@click.option(
    "--exempt-namespace", multiple=True, metavar="NAME",
    help="A namespace that the gate is never asked about, beside kube-system and ours.",
)  # fmt: skip
@click.option(
    "--spool-cap", type=click.IntRange(1), metavar="NUMBER",
    help="With --arm: how many Admissions may wait, held by a quota.",
)  # fmt: skip
@click.option(
    "--control-test-every", default="1h", metavar="DURATION",
    help="With --arm: how often the control is tested, both ways. At least 1m.",
)  # fmt: skip
@click.option(
    "--heartbeat-every", default="5m", metavar="DURATION",
    help="With --arm: how often a heartbeat is recorded. At least 1m.",
)  # fmt: skip
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info")
def command(**options: Any) -> None:
    """Record what the gate admitted and refused in the ledger."""
    try:
        _run(**options)
    except (TrailgateError, OSError) as error:
        click.echo(f"trailgate-operator: {' '.join(str(error).split())}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


def _run(
    *,
    ledger: str,
    recorder_key: tuple[Path, ...],
    gate_public_key: tuple[Path, ...],
    known_checkpoint: Path | None,
    health_listen: str | None,
    webhook_service: str | None,
    webhook_url: str | None,
    review_token_file: Path | None,
    exempt_namespace: tuple[str, ...],
    control_test_every: str,
    heartbeat_every: str,
    log_level: str,
    namespace: str,
    **others: Any,
) -> None:
    logs.configure(log_level)
    # It says that it can't take signals in its thread: as it should be.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    gate = gate_address(webhook_service, webhook_url, namespace)
    configuration = Configuration(
        ledger=ledger_path(ledger),
        recorder_keys=recorder_key,
        gate_keys=files(gate_public_key),
        known=known_checkpoint,
        health_listen=None if health_listen is None else Address.parse(health_listen),
        namespace=namespace,
        webhook=replace(gate, token=review_token(review_token_file)),
        exempt=exempt_namespace,
        test_every=period("--control-test-every", control_test_every),
        beat_every=period("--heartbeat-every", heartbeat_every),
        **others,
    )
    configuration.check()
    if configuration.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(configuration.kubeconfig)  # kopf reads no other place
    asyncio.run(_service().serve(configuration))


def _service() -> ModuleType:
    """Import what needs the extra; ``ConfigurationError`` where it isn't installed."""
    try:
        return importlib.import_module("trailgate_operator.service")
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
