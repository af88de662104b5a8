"""``trailgate verify``: what holds for an image under a policy, and what does not.

The same fetching, verification and decision as in the gate, for one image and without a
cluster: callers are not checked, and a namespace only where one is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from trailgate.cli import files
from trailgate.cli.errors import ExitCode, InputError
from trailgate.cli.output import emit_json, note, output_option
from trailgate.cli.registry import by_digest, image_argument, open_registry
from trailgate.cli.verdict import Verdict, describe, print_table
from trailgate.evidence.verify import verify
from trailgate.model.admission import Caller, ContainerClass, ContainerImage, Operation
from trailgate.model.artifact import Attached
from trailgate.model.assessment import ChangeClass, Question
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import ChangeRecord, Evidence, Gathered, UnresolvedTag
from trailgate.model.image import ImageReference
from trailgate.oci.attached import fetch_attached
from trailgate.policy.compiled import DeployPolicy
from trailgate.policy.decide import decide
from trailgate.policy.match import Names
from trailgate.policy.material import keys_for
from trailgate.policy.parse import parse_policies

_MAX_POLICY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the image would be deployed, as far as it was said."""

    namespace: str | None
    cluster: str | None


@click.command("verify")
@click.option(
    "--policy",
    "policy_file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="DeployPolicy objects, YAML or JSON.",
)
@click.option("-n", "--namespace", metavar="NAME", help="Take only policies for this namespace.")
@click.option("--cluster", metavar="NAME", help="The cluster, where change records name one.")
@output_option("table", "json")
@image_argument
def command(
    *,
    image: ImageReference,
    policy_file: Path,
    namespace: str | None,
    cluster: str | None,
    insecure: tuple[str, ...],
    private: tuple[str, ...],
    output: str,
) -> int:
    """Say what holds for IMAGE under a policy, statement by statement, check by check.

    Exit code 0: every policy is content. 1: one is not. 3: it could not be determined.
    Who deploys is not checked: that is the gate's to see.
    """
    place = _Place(namespace, cluster)
    policies = _policies(policy_file, place)
    attached = asyncio.run(_fetch(image, policies, insecure, private))
    verdicts = [_verdict(image, attached, policy, place) for policy in policies]
    if output == "json":
        emit_json(describe(image, attached, verdicts))
    else:
        print_table(image, attached, verdicts)
    return _exit_code(verdicts)


def _policies(path: Path, place: _Place) -> tuple[DeployPolicy, ...]:
    """Read the policies; without a namespace each counts for any."""
    if not path.exists():
        raise InputError(f"{path}: no such file; kubectl get deploypolicy NAME -o yaml writes one")
    try:
        policies = parse_policies(files.read(path, _MAX_POLICY))
    except MalformedError as error:
        raise InputError(f"{path}: {error}") from error
    if not policies:
        raise InputError(f"{path}: got no policy, expected at least one DeployPolicy")
    if place.namespace is not None:
        policies = tuple(policy for policy in policies if policy.covers(place.namespace))
        if not policies:
            raise InputError(f"{path}: no policy in it covers namespace {place.namespace!r}")
    anywhere = Names.compile(["*"])
    return tuple(replace(policy, callers=None, namespaces=anywhere) for policy in policies)


async def _fetch(
    image: ImageReference,
    policies: Sequence[DeployPolicy],
    insecure: Sequence[str],
    private: Sequence[str],
) -> Attached | None:
    """Fetch what is attached; None where no policy has a key that could verify any of it."""
    if not keys_for(policies, image):
        return None
    async with open_registry(image, insecure, private) as client:
        named = await by_digest(client, image)
        if image.digest is None:
            note(f"{image} is {named.digest} just now; a tag may move")
        return await fetch_attached(client, named)


def _verdict(
    image: ImageReference, attached: Attached | None, policy: DeployPolicy, place: _Place
) -> Verdict:
    keys = keys_for((policy,), image)
    evidence = verify(attached, keys) if attached is not None and keys else None
    text = str(image)
    target = _target(evidence, place)
    question = Question(
        namespace=target.namespace or "",
        caller=Caller("trailgate verify"),
        change_class=ChangeClass.ROOT,
        operation=Operation.CREATE,
        images=(ContainerImage("image", ContainerClass.CONTAINER, text),),
        cluster=target.cluster,
        at=datetime.now(UTC),
    )
    gathered: Gathered = evidence if evidence is not None else UnresolvedTag(image)
    if evidence is None and image.digest is not None:
        gathered = Evidence(image.with_digest(image.digest), ())
    decision = decide(question, {text: gathered}, (policy,))
    return Verdict(policy, policy.rule_for(image), evidence, decision)


def _target(evidence: Evidence | None, place: _Place) -> _Place:
    """Fill in what was not said from the change record, and tell that it is not checked."""
    namespace, cluster = place.namespace, place.cluster
    for statement in evidence.statements if evidence is not None else ():
        record = statement.predicate
        if not isinstance(record, ChangeRecord) or record.target is None:
            continue
        if namespace is None and record.target.namespace is not None:
            namespace = record.target.namespace
            note(f"the change record is for namespace {namespace!r}: not checked, use -n")
        if cluster is None and record.target.cluster is not None:
            cluster = record.target.cluster
            note(f"the change record is for cluster {cluster!r}: not checked, use --cluster")
    return _Place(namespace, cluster)


def _exit_code(verdicts: Sequence[Verdict]) -> ExitCode:
    failing = [verdict for verdict in verdicts if not verdict.holds]
    if not failing:
        return ExitCode.OK
    if all(verdict.undetermined for verdict in failing):
        return ExitCode.UNDETERMINED
    return ExitCode.NEGATIVE
