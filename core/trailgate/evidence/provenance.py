"""SLSA provenance v1: https://slsa.dev/spec/v1.1/provenance.

What the external parameters mean depends on the build type, so only known ones are
read: GitHub's workflow (as its own attestations and the SLSA generators write it)
and ours, which ``trailgate attest provenance`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from trailgate.evidence import source
from trailgate.evidence.errors import RefusedError, malformed
from trailgate.evidence.wire import Moment, ObjectName, Text, convert, utc
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import Provenance
from trailgate.model.reason import Reason

TYPE = "https://slsa.dev/provenance/v1"
#: Ours: ``externalParameters.source {repository, ref}`` and optionally ``workflow {path}``.
BUILD_TYPE = "https://trailgate.dev/buildtypes/ci/v1"
#: GitHub's two: ``externalParameters.workflow {repository, ref, path}``.
GITHUB_BUILD_TYPES = (
    "https://actions.github.io/buildtypes/workflow/v1",
    "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
)
_MAX_PARAMETERS = 256
_MAX_VALUE = 4096


class _Source(msgspec.Struct):
    repository: Text
    ref: Text | None = None


class _Dependency(msgspec.Struct):
    uri: str | None = None
    digest: dict[str, str] = {}


class _Definition(msgspec.Struct, rename="camel"):
    build_type: Text
    external_parameters: dict[Text, Any]
    resolved_dependencies: list[_Dependency] = []


class _Builder(msgspec.Struct):
    id: Text


class _Metadata(msgspec.Struct, rename="camel"):
    invocation_id: Text | None = None
    started_on: Moment | None = None
    finished_on: Moment | None = None


class _Details(msgspec.Struct):
    builder: _Builder
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Predicate(msgspec.Struct, rename="camel"):
    build_definition: _Definition
    run_details: _Details


def read(predicate: Mapping[str, Any]) -> Provenance:
    """Read the predicate.

    Raises ``RefusedError``: ``Malformed``, or ``PredicateMismatch`` where the build
    type is not one that is understood.
    """
    value = convert(predicate, _Predicate, "provenance")
    definition = value.build_definition
    place = _place_of_source(definition.build_type)
    named = convert(definition.external_parameters.get(place), _Source, f"{place} of provenance")
    try:
        repository = source.normalise(named.repository)
    except MalformedError as error:
        raise malformed(str(error)) from error
    metadata = value.run_details.metadata
    return Provenance(
        repository=repository,
        commit=_commit(definition.resolved_dependencies, repository),
        ref=named.ref,
        builder=value.run_details.builder.id,
        build_type=definition.build_type,
        run=metadata.invocation_id,
        started_at=utc(metadata.started_on),
        finished_at=utc(metadata.finished_on),
        parameters=_parameters(definition.external_parameters, place),
    )


def write(
    *,
    repository: str,
    ref: str | None,
    commit: str,
    builder: str,
    run: str | None = None,
    started_at: datetime | None = None,
    finished_at: datetime | None = None,
    workflow: str | None = None,
    modified: bool = False,
) -> dict[str, Any]:
    """Write the predicate under our build type; ``repository`` as ``https://host/path``.

    ``modified`` says aloud that tracked files differed from the commit.
    """
    parameters: dict[str, Any] = {"source": {"repository": repository}}
    if ref:
        parameters["source"]["ref"] = ref
    if modified:
        parameters["source"]["modified"] = True
    if workflow:
        parameters["workflow"] = {"path": workflow}
    metadata = {
        "invocationId": run,
        "startedOn": _stamp(started_at),
        "finishedOn": _stamp(finished_at),
    }
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters,
            "resolvedDependencies": [
                {
                    "uri": f"git+{repository}" + (f"@{ref}" if ref else ""),
                    "digest": {"gitCommit": commit},
                }
            ],
        },
        "runDetails": {
            "builder": {"id": builder},
            "metadata": {key: value for key, value in metadata.items() if value is not None},
        },
    }


def _stamp(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None


def _place_of_source(build_type: str) -> str:
    if build_type == BUILD_TYPE:
        return "source"
    if build_type in GITHUB_BUILD_TYPES:
        return "workflow"
    raise RefusedError(
        Reason.PREDICATE_MISMATCH,
        f"got provenance of build type {build_type[:200]!r}, which is not understood; "
        f"expected {BUILD_TYPE} or {GITHUB_BUILD_TYPES[0]}",
    )


def _commit(dependencies: list[_Dependency], repository: str) -> str:
    """Find the one commit of the source repository among the dependencies."""
    commits = set()
    for dependency in dependencies:
        commit = dependency.digest.get("gitCommit")
        if commit is not None and _names(dependency.uri, repository):
            commits.add(convert(commit, ObjectName, "a gitCommit"))
    if len(commits) != 1:
        raise malformed(
            f"got {len(commits)} commits of {repository} in resolvedDependencies, expected one"
        )
    return str(commits.pop())


def _names(uri: str | None, repository: str) -> bool:
    try:
        return uri is not None and source.split(uri)[0] == repository
    except MalformedError:
        return False  # a dependency of another kind


def _parameters(parameters: Mapping[str, Any], place: str) -> tuple[tuple[str, str], ...]:
    """Keep the rest of the external parameters, as JSON pointer and JSON text."""
    found: list[tuple[str, str]] = []
    for pointer, value in _leaves(parameters):
        if pointer in (f"/{place}/repository", f"/{place}/ref"):
            continue
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, sort_keys=True)
        if len(text) > _MAX_VALUE or len(found) == _MAX_PARAMETERS:
            raise malformed(
                f"got external parameters beyond {_MAX_PARAMETERS} of {_MAX_VALUE} characters"
            )
        found.append((pointer, text))
    return tuple(sorted(found))


def _leaves(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Two levels deep; what is nested further stays one JSON text."""
    for name, value in parameters.items():
        if isinstance(value, dict) and value:
            for inner, leaf in value.items():
                yield f"/{_escape(name)}/{_escape(inner)}", leaf
        else:
            yield f"/{_escape(name)}", value


def _escape(token: str) -> str:
    """RFC 6901; control characters cannot stay, pointers are shown to people."""
    shown = json.dumps(token, ensure_ascii=True)[1:-1]
    return shown.replace("~", "~0").replace("/", "~1")
