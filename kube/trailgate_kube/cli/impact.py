"""``trailgate policy impact``: what the policies would say of each image that runs now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from trailgate.assess.gather import RegistryEvidence
from trailgate.assess.lookup import nothing
from trailgate.cli import files
from trailgate.cli.errors import ExitCode, InputError
from trailgate.cli.output import emit_csv, emit_json, emit_table, note, output_option, visible
from trailgate.cli.registry import open_registries, registry_options
from trailgate.model.decision import CheckResult
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import Gathered, PublicKey, StatementKind, UnresolvedTag
from trailgate.model.image import ImageReference
from trailgate.policy.compiled import DeployPolicy
from trailgate.policy.material import keys_for
from trailgate.policy.parse import parse_policies, parse_policy
from trailgate_kube.api import Reader
from trailgate_kube.cli.appraisal import Appraisal, Appraiser, Fact, State, Verdict
from trailgate_kube.cli.cluster import kubeconfig_option, with_cluster
from trailgate_kube.cli.running import Running, running
from trailgate_kube.errors import NotFoundError
from trailgate_kube.resources import DEPLOY_POLICIES, SYSTEM_NAMESPACE
from trailgate_kube.webhooks import EXEMPT

_MAX_FILE = 1024 * 1024
_AT_ONCE = 16
"""Images being asked for at one time."""
_PROGRESS = 20
"""Images between two lines of progress."""
_UNLISTED = "attached, by a key no policy names"
_UNKNOWN = "unknown"
_NAMES: Mapping[str, StatementKind] = {
    "signed": StatementKind.SIGNATURE,
    "provenance": StatementKind.PROVENANCE,
    "review": StatementKind.CHANGE,
    "tests": StatementKind.TESTS,
}
_COLUMNS = (
    "namespace", "workload", "image", "runs", "signed", "provenance", "review", "tests",
    "caller", "if enforced",
)  # fmt: skip
_FIELDS = (
    "namespace", "workload", "containers", "image", "digest", "signed", "provenance", "review",
    "tests", "caller", "verdict", "codes", "policies", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Policies:
    """What images are held against."""

    usable: tuple[DeployPolicy, ...]
    unusable: tuple[str, ...] = ()
    """Names of those in the cluster that can't be read."""


@click.command("impact")
@click.option(
    "-f",
    "--file",
    "paths",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="DeployPolicy objects, YAML or JSON, instead of the cluster's; may be repeated.",
)
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Look only there; may be repeated. Default: all that the gate is asked about.",
)
@click.option("--cluster", metavar="NAME", help="The cluster, where change records name one.")
@kubeconfig_option
@output_option("table", "json", "csv")
@registry_options
def command(
    *,
    paths: tuple[Path, ...],
    namespaces: tuple[str, ...],
    cluster: str | None,
    kubeconfig: Path | None,
    output: str,
    insecure: tuple[str, ...],
    private: tuple[str, ...],
) -> int:
    """Say of each image that runs what would become of a new change with it.

    Lists what is attached to each, and the reason codes that its policies would give if
    they enforced, whatever their mode is now. Without any policy it says what is attached.
    Who made what runs is not known and not judged. Nothing is changed.

    Exit code 0: all would be admitted. 1: some would not. 3: some could not be determined.
    """
    given = None if not paths else _Policies(_from_files(paths))
    reach = _Reach(insecure, private, cluster)
    found, policies = with_cluster(kubeconfig, lambda kube: _look(kube, given, namespaces, reach))
    if output == "json":
        emit_json({"policies": _named(policies), "images": [_plain(one) for one in found]})
    elif output == "csv":
        emit_csv(_FIELDS, [_flat(one) for one in found])
    else:
        _print(found)
    _summarize(found, policies)
    return _exit_code(found, policies)


@dataclass(frozen=True, slots=True)
class _Reach:
    """How registries are reached, and what the cluster is called."""

    insecure: tuple[str, ...]
    private: tuple[str, ...]
    cluster: str | None


async def _look(
    cluster: Reader, given: _Policies | None, namespaces: tuple[str, ...], reach: _Reach
) -> tuple[list[Appraisal], _Policies]:
    policies = given or await _from_cluster(cluster)
    there = await running(cluster, namespaces)
    if not namespaces:
        there = _asked_about(there)
    images = {one: _by_digest(one) for one in there}
    hosts = {image.registry for image in images.values() if image is not None}
    note(f"{len(there)} images of {len(hosts)} registries")
    appraiser = Appraiser(policies.usable, reach.cluster, datetime.now(UTC))
    async with open_registries(hosts, reach.insecure, reach.private) as client:
        evidence = RegistryEvidence(client, lambda: hosts)
        try:
            return await _appraised(images, appraiser, evidence), policies
        finally:
            await evidence.close()


def _asked_about(there: Sequence[Running]) -> tuple[Running, ...]:
    """Leave out the namespaces that no gate is asked about, and say so."""
    never = (*EXEMPT, SYSTEM_NAMESPACE)
    left = Counter(one.namespace for one in there if one.namespace in never)
    for namespace, count in sorted(left.items()):
        note(f"left out: {count} images in {namespace}, where the gate isn't asked (-n shows them)")
    return tuple(one for one in there if one.namespace not in never)


async def _appraised(
    images: Mapping[Running, ImageReference | None],
    appraiser: Appraiser,
    evidence: RegistryEvidence,
) -> list[Appraisal]:
    """Ask the registries, so many at a time; the order of the answer is that of ``images``."""
    slots, done = asyncio.Semaphore(_AT_ONCE), 0

    async def one(what: Running, image: ImageReference | None) -> Appraisal:
        nonlocal done
        async with slots:
            attached = await _facts(image, appraiser.keys, evidence, what)
            keys = () if image is None else keys_for(appraiser.covering(what), image)
            # Without a key the gate asks nobody; the registry's answer is kept meanwhile.
            gathered = attached
            if image is not None and image.digest is not None:
                gathered = await evidence.gather(image, keys) if keys else nothing(image)
        done += 1
        if done % _PROGRESS == 0:
            note(f"{done} of {len(images)} images")
        return appraiser.appraise(what, attached, gathered)

    return list(await asyncio.gather(*(one(*item) for item in images.items())))


async def _facts(
    image: ImageReference | None,
    keys: tuple[PublicKey, ...],
    evidence: RegistryEvidence,
    what: Running,
) -> Gathered:
    if image is None:
        return UnresolvedTag(ImageReference("", what.image))
    if image.digest is None:
        return UnresolvedTag(image)
    return await evidence.gather(image, keys)


def _by_digest(what: Running) -> ImageReference | None:
    """Name what runs: the Pod's digest, else the node's; None for what isn't a reference."""
    try:
        image = ImageReference.parse(what.image)
    except MalformedError:
        return None
    if image.digest is None and what.digest:
        return image.with_digest(Digest.parse(what.digest))
    return image


def _from_files(paths: Collection[Path]) -> tuple[DeployPolicy, ...]:
    found: dict[str, DeployPolicy] = {}
    for path in paths:
        try:
            policies = parse_policies(files.read(path, _MAX_FILE))
        except MalformedError as error:
            raise InputError(f"{path}: {error}") from error
        for policy in policies:
            if policy.name in found:
                raise InputError(f"{path}: policy {policy.name} is there twice")
            found[policy.name] = policy
    if not found:
        raise InputError("got no policy in these files, expected at least one DeployPolicy")
    return tuple(found.values())


async def _from_cluster(reader: Reader) -> _Policies:
    """Read the cluster's own; none where their kind isn't there."""
    usable: list[DeployPolicy] = []
    unusable: list[str] = []
    following = ""
    while True:
        try:
            page = await reader.page(DEPLOY_POLICIES, following=following)
        except NotFoundError:
            return _Policies(())
        for item in page.items:
            try:
                usable.append(parse_policy(item))
            except MalformedError as error:
                name = str(item.get("metadata", {}).get("name"))
                unusable.append(name)
                note(visible(f"DeployPolicy {name} can't be read and is left out: {error}"))
        following = page.following
        if not following:
            return _Policies(tuple(usable), tuple(unusable))


def _named(policies: _Policies) -> list[dict[str, str]]:
    return [
        {"name": one.name, "mode": one.mode.value, "digest": str(one.reference.digest)}
        for one in policies.usable
    ]


def _plain(one: Appraisal) -> dict[str, Any]:
    what = one.running
    return {
        "namespace": what.namespace,
        "workload": what.workload,
        "containers": list(what.containers),
        "image": what.image,
        "digest": what.digest or None,
        **{name: _said(one.facts[kind]) for name, kind in _NAMES.items()},
        "caller": _UNKNOWN,
        "verdict": one.verdict.value,
        "codes": list(one.codes),
        "policies": list(one.policies),
        "error": one.error or None,
    }


def _said(fact: Fact) -> dict[str, Any]:
    return {
        "state": fact.state.value,
        "signers": list(fact.signers),
        "check": fact.result.value,
    }


def _flat(one: Appraisal) -> dict[str, Any]:
    facts = {name: _cell(one.facts[kind]) for name, kind in _NAMES.items()}
    joined = {"containers": " ".join(one.running.containers), "codes": " ".join(one.codes)}
    return _plain(one) | facts | joined | {"policies": " ".join(one.policies)}


def _cell(fact: Fact) -> str:
    """Say it in a word or two: by whom, and whether that is what a policy asks for."""
    told = {
        State.LISTED: ", ".join(fact.signers),
        State.UNLISTED: _UNLISTED,
        State.NONE: "none",
        State.UNKNOWN: _UNKNOWN,
    }[fact.state]
    asked = fact.result not in (CheckResult.NOT_REQUIRED, CheckResult.UNDETERMINED)
    return f"{told} ({fact.result.value})" if asked and fact.state is State.LISTED else told


def _print(found: Sequence[Appraisal]) -> None:
    rows = []
    for one in found:
        facts = {name: _cell(one.facts[kind]) for name, kind in _NAMES.items()}
        for name in ("provenance", "review", "tests"):
            facts[name] = facts[name].replace(_UNLISTED, "attached")
        rows.append(
            {
                "namespace": one.running.namespace,
                "workload": one.running.workload,
                "image": one.running.image.partition("@")[0],
                "runs": _short(one.running),
                **facts,
                "caller": _UNKNOWN,
                "if enforced": " ".join(one.codes) or one.verdict.value,
            }
        )
    emit_table(_COLUMNS, rows)
    for one in found:
        if one.error:
            what = one.running
            click.echo(visible(f"{what.namespace} {what.workload} {what.image}: {one.error}"))


def _short(what: Running) -> str:
    image = _by_digest(what)
    digest = None if image is None else image.digest
    return "" if digest is None else f"sha256:{digest.hex[:12]}"


def _summarize(found: Sequence[Appraisal], policies: _Policies) -> None:
    if not policies.usable:
        note("no policy: this is what is attached to each image, and nothing of it is verified")
        return
    counts = Counter(one.verdict for one in found)
    codes = Counter(code for one in found for code in one.codes)
    named = ", ".join(f"{code} {count}" for code, count in codes.most_common())
    note(
        f"{len(found)} images: {counts[Verdict.ADMITTED]} would be admitted, "
        f"{counts[Verdict.DENIED]} denied, {counts[Verdict.UNDETERMINED]} could not be determined, "
        f"{counts[Verdict.NOT_COVERED]} in namespaces that no policy covers"
        + (f" ({named})" if named else "")
    )


def _exit_code(found: Sequence[Appraisal], policies: _Policies) -> ExitCode:
    if any(one.verdict is Verdict.DENIED for one in found):
        return ExitCode.NEGATIVE
    unknown = any(one.verdict is Verdict.UNDETERMINED for one in found)
    # Without policies the facts are all there is to know.
    unasked = not policies.usable and any(one.error for one in found)
    return ExitCode.UNDETERMINED if unknown or unasked or policies.unusable else ExitCode.OK
