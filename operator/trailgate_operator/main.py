"""The process ``trailgate-operator``: its command line, logging and exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import click
from prometheus_client import CollectorRegistry, start_http_server

from trailgate.model.errors import TrailgateError
from trailgate_operator.configuration import Configuration, files, ledger_path
from trailgate_operator.metrics import Metrics
from trailgate_operator.service import serve


@click.command(context_settings={"auto_envvar_prefix": "TRAILGATE", "max_content_width": 100})
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: in-cluster.")
@click.option("--namespace", default="trailgate-system", show_default=True, help="Our own.")
@click.option("--ledger", required=True, metavar="sqlite:PATH", help="As made by ledger init.")
@click.option("--log-key", type=click.Path(path_type=Path), required=True, help="The log's key.")
@click.option(
    "--recorder-key", type=click.Path(path_type=Path), multiple=True, required=True,
    help="X25519 private key that opens the spool; several while it is rotated.",
)  # fmt: skip
@click.option(
    "--gate-key", type=click.Path(path_type=Path), multiple=True, required=True,
    help="Ed25519 public key of a gate, or a directory of them.",
)  # fmt: skip
@click.option(
    "--known-checkpoint", type=click.Path(path_type=Path),
    help="File, on another volume, with the newest checkpoint: kept, and held against the ledger.",
)  # fmt: skip
@click.option("--environment", help="Such as production: stands in every record.")
@click.option("--cluster-name", help="A name for people; the cluster's uid is read.")
@click.option("--image", help="Our own image with its digest, for the records.")
@click.option("--metrics-port", type=int, default=8081, show_default=True, help="0: none.")
@click.option("--metrics-address", default="127.0.0.1", show_default=True)
@click.option("--log-level", default="INFO", show_default=True)
def main(
    *,
    kubeconfig: Path | None,
    namespace: str,
    ledger: str,
    log_key: Path,
    recorder_key: tuple[Path, ...],
    gate_key: tuple[Path, ...],
    known_checkpoint: Path | None,
    environment: str | None,
    cluster_name: str | None,
    image: str | None,
    metrics_port: int,
    metrics_address: str,
    log_level: str,
) -> None:
    """Record what the gate admitted and refused in the ledger."""
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It says that it can't take signals in its thread: as it should be.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    try:
        configuration = Configuration(
            namespace=namespace,
            ledger=ledger_path(ledger),
            log_key=log_key,
            recorder_keys=recorder_key,
            gate_keys=files(gate_key),
            known=known_checkpoint,
            environment=environment,
            cluster_name=cluster_name,
            image=image,
        )
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        if metrics_port:
            start_http_server(metrics_port, metrics_address, registry)
        if kubeconfig is not None:
            os.environ["KUBECONFIG"] = str(kubeconfig)  # for kopf, which reads no other place
        asyncio.run(serve(configuration, kubeconfig, metrics))
    except (TrailgateError, OSError) as error:
        click.echo(f"trailgate-operator: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
