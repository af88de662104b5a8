"""``python -m e2e.images build``: build the images of webhook and operator."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from e2e.controlplane.errors import ControlPlaneError
from e2e.images.build import build
from e2e.images.engine import DEFAULT_BASE

_MIB = 1 << 20


def main(arguments: list[str]) -> int:
    """Run one command; 0 when the images are there, 1 with a message otherwise."""
    parser = argparse.ArgumentParser(prog="python -m e2e.images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="build by docker where a daemon answers, or buildah")
    make.add_argument(
        "--out", type=Path, default=Path("dist/images"), help="folder of the archives"
    )
    make.add_argument("--tag", default="e2e", help="of the references (default: %(default)s)")
    make.add_argument(
        "--base",
        metavar="IMAGE",
        help=f"base image to pull (default: with docker {DEFAULT_BASE}, where it can be pulled; "
        "else one made of Debian's packages)",
    )
    make.add_argument("--fresh", action="store_true", help="build, whatever the cache has")
    chosen = parser.parse_args(arguments)
    try:
        built = build(chosen.out, _say, tag=chosen.tag, base=chosen.base, fresh=chosen.fresh)
    except ControlPlaneError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for image in built.values():
        print(f"{image.reference}\t{image.digest}\t{image.archive}")
        _say(
            f"{image.reference} adds {image.unpacked / _MIB:.0f} MiB to its base, "
            f"{image.added / _MIB:.0f} MiB of them to transfer"
        )
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"images: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
