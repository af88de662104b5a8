"""``python -m e2e.cluster``: a cluster to try things on by hand, up until it is taken down."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path

from e2e.cluster import kind, provider
from e2e.controlplane.errors import ControlPlaneError


def main(arguments: list[str]) -> int:
    """Run one command; 0 when it did what it was asked, 1 with a message otherwise."""
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    parser.add_argument("--directory", type=Path, default=provider.default_directory(),
                        help="the cluster's own (default: %(default)s)")  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="install and build what a cluster here needs")
    commands.add_parser("up", help="bring a cluster up and leave it running")
    commands.add_parser("down", help="take it down, with all that belongs to it")
    commands.add_parser("status", help="say whether it is up, and how to reach it")
    load = commands.add_parser("load", help="put the images of an archive into the node")
    load.add_argument("archive", type=Path, metavar="IMAGE.tar")
    for word in ("stop-node", "cut-power", "start-node", "restart-api-server", "stop-registry",
                 "start-registry"):  # fmt: skip
        commands.add_parser(word, help="as the stories do it")
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen)
    except ControlPlaneError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _run(chosen: argparse.Namespace) -> int:
    directory = chosen.directory.absolute()
    if chosen.command == "prepare":
        provider.prepare()
        return 0
    if chosen.command == "up":
        return _up(directory)
    if chosen.command == "down":
        return _down(directory)
    cluster = provider.attach(directory)
    if chosen.command == "status":
        _print(cluster)
    elif chosen.command == "load":
        cluster.load(chosen.archive)
    elif chosen.command == "cut-power":
        cluster.stop_node(cut_power=True)
    else:
        getattr(cluster, chosen.command.replace("-", "_"))()
    return 0


def _up(directory: Path) -> int:
    if provider.chosen() == "kind":
        return _up_here()
    from e2e.cluster.local.cluster import up

    begun = time.monotonic()
    cluster = up(directory)
    _print(cluster)
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in cluster.state.took.items())
    print(f"# up after {time.monotonic() - begun:.1f} s ({steps}); `down` ends it")
    return 0


def _up_here() -> int:
    """Have a kind cluster as long as this command runs: its registry is our child."""
    with kind.running() as cluster:
        _print(cluster)
        print("# up; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


def _down(directory: Path) -> int:
    from e2e.cluster.local.cluster import down

    print("# down" if down(directory) else "# nothing was up")
    return 0


def _print(cluster: provider.Cluster) -> None:
    login = cluster.registry_credentials
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"# {cluster.provider} cluster; registry {cluster.registry_address}")
    print(f"# registry login: {login.user} {login.password}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
