"""The caller's cluster: by a kubeconfig, as kubectl finds it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from trailgate.cli.errors import ExitCode, InputError
from trailgate.model.errors import TrailgateError
from trailgate_kube.client import KubeClient
from trailgate_kube.errors import ForbiddenError, UnauthorizedError

_T = TypeVar("_T")


class NotAllowedError(TrailgateError):
    """The API server doesn't know the caller, or doesn't let them; exit code 4."""

    exit_code = ExitCode.UNAUTHENTICATED


def kubeconfig_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--kubeconfig``."""
    return click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The cluster. [default: KUBECONFIG, else ~/.kube/config]",
    )(command)


def find(given: Path | None) -> Path:
    """Choose the kubeconfig; raises ``InputError`` where there is none."""
    path = given or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if os.pathsep in str(path):
        raise InputError(f"got KUBECONFIG with several files ({path}), expected one: --kubeconfig")
    if not path.is_file():
        raise InputError(f"there is no kubeconfig {path}")
    return path


def with_cluster(kubeconfig: Path | None, work: Callable[[KubeClient], Awaitable[_T]]) -> _T:
    """Do something with the caller's cluster."""

    async def run() -> _T:
        async with await KubeClient.open(find(kubeconfig)) as kube:
            return await work(kube)

    try:
        return asyncio.run(run())
    except (UnauthorizedError, ForbiddenError) as error:
        raise NotAllowedError(str(error)) from error
