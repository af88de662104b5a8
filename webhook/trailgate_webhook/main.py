"""``trailgate-webhook``: the command."""

from __future__ import annotations

import importlib
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import trailgate
from trailgate.model.errors import TrailgateError
from trailgate_kube import logs
from trailgate_webhook.settings import NAMESPACE, ConfigurationError, Settings

#: As ``trailgate``: an unusable configuration is a usage error.
USAGE = 2
#: What only the extra brings.
_EXTRA = frozenset({"httptools", "kubernetes", "prometheus_client", "uvicorn", "uvloop"})

_FILE = click.Path(path_type=Path, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, file_okay=False)


def _environment(name: str) -> str:
    return f"TRAILGATE_{name}"


@click.command(context_settings={"auto_envvar_prefix": "TRAILGATE", "show_default": True})
@click.version_option(trailgate.__version__, prog_name="trailgate-webhook")
@click.option("--listen", default="0.0.0.0:8443", metavar="HOST:PORT", help="Reviews, by HTTPS.")
@click.option(
    "--health-listen", metavar="HOST:PORT", help="Probes and metrics, by HTTP, beside --listen."
)
@click.option("--tls-cert", type=_FILE, required=True, help="Certificate chain, PEM; followed.")
@click.option("--tls-key", type=_FILE, required=True, help="Its key, PEM; followed.")
@click.option("--client-ca", type=_FILE, help="Only clients with a certificate of this authority.")
@click.option(
    "--review-token-file",
    type=_FILE,
    help="Answer reviews at /validate/TOKEN alone, with the token in this file.",
)
@click.option(
    "--recorder-public-key",
    type=_FILE,
    required=True,
    help="Public key that evidence is sealed to (PEM).",
)
@click.option(
    "--gate-key", type=_FILE, required=True, help="This gate's own private key, Ed25519 (PEM)."
)
@click.option("--kubeconfig", type=_FILE, help="The cluster; without it the pod's own.")
@click.option("--namespace", default=NAMESPACE, help="Where Admissions are written.")
@click.option("--policy-dir", type=_DIRECTORY, help="Policies from files instead of the cluster.")
@click.option(
    "--spool-dir",
    type=_DIRECTORY,
    help="Admissions as files instead of in the cluster: to measure the gate, or to try it "
    "without a cluster. Nothing records what lies there.",
)
@click.option("--cluster-name", help="As change records name it as a target.")
@click.option("--cluster-uid", help="Instead of asking the cluster (uid of kube-system).")
@click.option("--environment", help="Such as production; stands in every record.")
@click.option("--image", help="Of this process, with digest; stands in every record.")
@click.option(
    "--allow-insecure-registry",
    "insecure_registries",
    multiple=True,
    metavar="HOST[:PORT]",
    envvar=_environment("ALLOW_INSECURE_REGISTRY"),
    help="Speak plain HTTP with this registry, also on a private address.",
)
@click.option(
    "--allow-private-registry",
    "private_registries",
    multiple=True,
    metavar="HOST",
    envvar=_environment("ALLOW_PRIVATE_REGISTRY"),
    help="Let this host have a private address (HTTPS).",
)
@click.option(
    "--docker-config", type=_FILE, help="config.json with registry credentials; followed."
)
@click.option(
    "--image-pull-secret",
    "image_pull_secrets",
    multiple=True,
    metavar="NAMESPACE/NAME",
    envvar=_environment("IMAGE_PULL_SECRET"),
    help="Use this Secret for Pods of its namespace that name it in imagePullSecrets.",
)
@click.option("--registry-ca", type=_FILE, help="Authority of the registries, PEM.")
@click.option(
    "--known-checkpoint", type=_FILE, help="The ledger's latest checkpoint, for audit annotations."
)
@click.option(
    "--shared-controller-manager",
    is_flag=True,
    help="The control plane runs without --use-service-account-credentials.",
)
@click.option(
    "--drain-delay", type=click.FloatRange(0, 120), default=5.0, help="Seconds after SIGTERM."
)
@click.option("--port-file", type=_FILE, help="Write the port there when listening.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info"
)
def command(log_level: str, **options: Any) -> None:
    """Answer the API server's admission reviews."""
    logs.configure(log_level)
    try:
        settings = Settings(**options)
        loop, assemble = _needed("uvloop"), _needed("trailgate_webhook.assemble")
        loop.run(_run(assemble, settings))
    except TrailgateError as error:
        text = " ".join(str(error).split())
        click.echo(f"trailgate-webhook: {text}", err=True)
        sys.exit(USAGE)


async def _run(assemble: ModuleType, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        process = await assemble.build(settings, stack)
        await process.run()


def _needed(name: str) -> ModuleType:
    """Import what needs the extra; ``ConfigurationError`` where it isn't installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise ConfigurationError(
            f"{error.name} is not installed; run: pip install 'trailgate[webhook]'"
        ) from error


def main() -> None:
    """Run the command."""
    command()


if __name__ == "__main__":
    main()
