"""``python -m e2e.controlplane``: build the programs, or bring a control plane up by hand."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from e2e.controlplane import shared
from e2e.controlplane.binaries import PROGRAMS, ensure
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.registry import RegistryProcess
from e2e.controlplane.start import ControlPlane, Options


def main(arguments: list[str]) -> int:
    """Run one command; 0 when it did what it was asked, 1 with a message otherwise."""
    parser = argparse.ArgumentParser(prog="python -m e2e.controlplane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="find or build programs and print their paths")
    build.add_argument("names", nargs="*", choices=[*PROGRAMS, []], help="default: all of them")
    up = commands.add_parser("up", help="start a control plane; it ends with this command")
    up.add_argument("--directory", type=Path, help="for data and logs (default: a temporary one)")
    up.add_argument("--controllers", action="store_true", help="with kube-controller-manager")
    up.add_argument("--audit", action="store_true", help="with the API server's audit log")
    up.add_argument("--registry", action="store_true", help="with two OCI registries")
    up.add_argument("--unsafe-no-fsync", action="store_true", help="etcd without fsync")
    chosen = parser.parse_args(arguments)
    try:
        return _build(chosen.names) if chosen.command == "build" else _up(chosen)
    except ControlPlaneError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _build(names: list[str]) -> int:
    for name, path in ensure(names or PROGRAMS).items():
        print(f"{name}\t{path}")
    return 0


def _up(chosen: argparse.Namespace) -> int:
    options = Options(
        controllers=chosen.controllers, unsafe_no_fsync=chosen.unsafe_no_fsync, audit=chosen.audit
    )
    with tempfile.TemporaryDirectory(prefix="trailgate-") as temporary:
        directory = chosen.directory or Path(temporary)
        signal.signal(signal.SIGTERM, _interrupt)
        with ControlPlane.start(directory, options) as plane:
            print(f"export KUBECONFIG={plane.admin.kubeconfig}")
            print(f"export PATH={plane.kubectl_program.parent}:$PATH")
            registries = []
            if chosen.registry:
                registries = [RegistryProcess.start(directory, referrers=r) for r in (True, False)]
            for registry in registries:
                words = "with" if registry.referrers else "without"
                print(f"# registry {words} the referrers API: {registry.address}")
            print("# up; Ctrl-C ends it", flush=True)
            shared.publish(plane)
            try:
                signal.pause()
            except KeyboardInterrupt:
                pass
            finally:
                for registry in registries:
                    registry.stop()
    return 0


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
