"""Where the policies come from: a directory of files, or (in ``trailgate_kube``) the cluster.

Whatever the source, a set is taken whole or not at all. At start a broken one stops
the process; later the last good set stays in force and a metric, a log line and
``/readyz`` say so. Dropping the broken policy alone would open its namespaces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from trailgate.model.decision import Mode
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError, TrailgateError
from trailgate.policy.compiled import DeployPolicy
from trailgate.policy.material import covers
from trailgate.policy.parse import parse_policies
from trailgate_kube import logs
from trailgate_kube.policies import Policies
from trailgate_webhook.metrics import Metrics

#: Seconds without a word from the API server (a watch is renewed every two minutes).
SILENCE = 300.0
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_MAX_FILES = 1_000


class PolicySourceError(TrailgateError):
    """The policies can't be read, or one of them can't be used; the text names the file."""


class PolicySource(Protocol):
    """The policies in force."""

    def policies(self) -> Sequence[DeployPolicy]:
        """Return the last good set."""

    def problem(self) -> str | None:
        """Say why there is no set yet; None once there is one."""

    def stale(self) -> str | None:
        """Say why the set in force isn't what the source says now; None when it is."""

    @property
    def broken(self) -> bool:
        """Whether the set will never change again: the process has to restart."""


class DirectoryPolicies:
    """All policies of the ``*.yaml``, ``*.yml`` and ``*.json`` files of one directory.

    Hidden files are left out, so that a mounted ConfigMap's own links don't count.
    Raises ``PolicySourceError`` where the first set can't be loaded.
    """

    def __init__(self, directory: Path, metrics: Metrics) -> None:
        self._directory = directory
        self._metrics = metrics
        self._stale: str | None = None
        self._seen = b""
        self._policies: tuple[DeployPolicy, ...] = ()
        self._load(self._read())

    def policies(self) -> Sequence[DeployPolicy]:
        """Return the last good set."""
        return self._policies

    def problem(self) -> str | None:
        """Nothing: without a first set there is no object."""
        return None

    def stale(self) -> str | None:
        """Say why the last good set is in force instead of the files."""
        return self._stale

    @property
    def broken(self) -> bool:
        """Never: each look at the files stands for itself."""
        return False

    def refresh(self) -> None:
        """Load the files if they changed; raises ``PolicySourceError`` once per error."""
        try:
            contents = self._read()
            if _digest(contents) == self._seen:
                return
            self._load(contents)
        except PolicySourceError as error:
            if str(error) == self._stale:
                return
            self._stale = str(error)
            self._metrics.policy_reloads.labels("failed").inc()
            raise
        self._metrics.policy_reloads.labels("loaded").inc()

    def _load(self, contents: dict[str, bytes]) -> None:
        self._seen = _digest(contents)
        found: dict[str, DeployPolicy] = {}
        for name, content in contents.items():
            for policy in _parse(name, content):
                if policy.name in found:
                    raise PolicySourceError(
                        f"{name}: policy {policy.name!r} is in another file too"
                    )
                found[policy.name] = policy
        if not found:
            raise PolicySourceError(f"got no policy in {self._directory}, expected at least one")
        self._policies = tuple(found[name] for name in sorted(found))
        self._stale = None

    def _read(self) -> dict[str, bytes]:
        try:
            paths = sorted(
                path
                for path in self._directory.iterdir()
                if path.suffix in _SUFFIXES and not path.name.startswith(".")
            )
            if len(paths) > _MAX_FILES:
                raise PolicySourceError(f"got {len(paths)} files, expected at most {_MAX_FILES}")
            return {path.name: path.read_bytes() for path in paths}
        except OSError as error:
            raise PolicySourceError(
                f"can't read the policies: {error.strerror}: {error.filename}"
            ) from error


class ClusterPolicies:
    """The cluster's DeployPolicies, as ``trailgate_kube.policies`` follows them.

    Before the first whole set there is none. A set with a policy that was never readable
    is not whole: at start that keeps the process from being ready, later it is only told.
    """

    def __init__(self, followed: Policies) -> None:
        self._followed = followed
        self._synced: asyncio.Task[None] | None = None
        self._whole = False
        self._task: asyncio.Task[None] | None = None
        self._broken = False

    async def start(self) -> None:
        """Begin to follow the cluster."""
        self._task = self._followed.task()
        self._task.add_done_callback(self._ended)
        self._synced = asyncio.create_task(self._followed.synced())

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.remove_done_callback(self._ended)
        for task in (self._task, self._synced):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    def policies(self) -> Sequence[DeployPolicy]:
        """Return the last good set."""
        return self._followed.current

    def problem(self) -> str | None:
        """Say why there is no set yet."""
        if self._whole:
            return None
        if self._synced is None or not self._synced.done():
            return "not read from the cluster yet"
        if self._unusable():
            return self.stale()
        self._whole = True
        return None

    def stale(self) -> str | None:
        """Say which policies can't be read, or that the API server is not heard any more."""
        if self._broken:
            return "no longer followed, this process must restart"
        if self._followed.problems:
            return "can't be read: " + ", ".join(sorted(self._followed.problems))
        if self._followed.silence > SILENCE:
            return f"nothing heard from the API server for {self._followed.silence:.0f} s"
        return None

    @property
    def broken(self) -> bool:
        """Whether following ended by an error that nobody foresaw."""
        return self._broken

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._broken = True
        error = None if task.cancelled() else task.exception()
        logs.failure("policies: no longer followed", error or RuntimeError("it ended"))

    def _unusable(self) -> bool:
        usable = {policy.name for policy in self._followed.current}
        return not usable.issuperset(self._followed.problems)


def show(source: PolicySource, metrics: Metrics) -> None:
    """Let the metrics tell the state of a source."""
    metrics.policies.set_function(lambda: len(source.policies()))
    metrics.policies_stale.set_function(lambda: float(source.stale() is not None))


def enforcing(source: PolicySource, namespace: str) -> bool:
    """Whether any policy enforces in a namespace."""
    return any(policy.mode is Mode.ENFORCE for policy in covers(source.policies(), namespace))


def _parse(name: str, content: bytes) -> tuple[DeployPolicy, ...]:
    try:
        return parse_policies(content)
    except MalformedError as error:
        raise PolicySourceError(f"{name}: {error}") from error


def _digest(contents: dict[str, bytes]) -> bytes:
    return "".join(f"{name}\0{Digest.of(content)}\n" for name, content in contents.items()).encode()
