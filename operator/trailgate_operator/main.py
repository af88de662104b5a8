"""The process ``trailgate-operator``: kopf and the recorder in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import kopf
from prometheus_client import CollectorRegistry, start_http_server

from trailgate.ledger.keys import read_signing_key
from trailgate.ledger.known import read_known
from trailgate.ledger.people import Vault
from trailgate.ledger.record import ControlState, ControlSubject, commit, control_state, encode
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.store import Entry
from trailgate.model.errors import TrailgateError
from trailgate_kube.client import KubeClient
from trailgate_kube.cluster import cluster_uid
from trailgate_kube.spool import AdmissionReader
from trailgate_operator import handlers
from trailgate_operator.configuration import Configuration, files, ledger_path
from trailgate_operator.intake import Desk
from trailgate_operator.metrics import Metrics
from trailgate_operator.recorder import Recorder
from trailgate_operator.returns import ImageHistory

_log = logging.getLogger("trailgate_operator")
_SUBJECTS = "subject:"


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
        asyncio.run(_serve(configuration, kubeconfig, metrics))
    except (TrailgateError, OSError) as error:
        click.echo(f"trailgate-operator: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


async def _serve(configuration: Configuration, kubeconfig: Path | None, metrics: Metrics) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keys = configuration.keys()
    known = None if configuration.known is None else read_known(configuration.known)
    log_key = read_signing_key(configuration.log_key)
    async with await KubeClient.open(kubeconfig) as kube:
        context = configuration.context(await cluster_uid(kube))
        with SqliteStore(configuration.ledger, log_key, known=known) as store:
            history = ImageHistory.read(store.records())
            vault = Vault(store.disclosures(_SUBJECTS))
            desk = Desk(keys, context, vault)
            _announce(store, desk, ControlState.STARTED, log_key.name)
            spool = AdmissionReader(kube, kube, configuration.namespace)
            recorder = Recorder(spool, store, desk, history, metrics, known=configuration.known)
            _log.info("recording into %s, %s", configuration.ledger, log_key.name)
            try:
                await _run(recorder, configuration.namespace, stop)
            finally:
                _announce(store, desk, ControlState.ENDED, log_key.name)


def _announce(store: SqliteStore, desk: Desk, state: ControlState, origin: str) -> None:
    """Say in the ledger that recording began or ended."""
    now = datetime.now(UTC)
    claim = control_state(desk.context, now, ControlSubject.LEDGER, state, name=origin)
    record, rows = commit(claim, desk.vault, recorded_at=now, position=None)
    key = f"recorder/{state.value}/{now.isoformat()}/{os.getpid()}"
    store.append([Entry(encode(record), key, rows)])


async def _run(recorder: Recorder, namespace: str, stop: asyncio.Event) -> None:
    """Run kopf and the recorder until one of them ends or we are told to stop."""
    operator = asyncio.create_task(
        kopf.operator(
            registry=handlers.registry(recorder.wake),
            namespaces=[namespace],
            standalone=True,
            stop_flag=stop,
        )
    )
    recording = asyncio.create_task(recorder.run(stop))
    await asyncio.wait({operator, recording}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.wait({operator}, timeout=10)
    if not operator.done():
        operator.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await operator
    await recording
    operator.result()


if __name__ == "__main__":
    main()
