"""The demo's steps, each the story of somebody who tries something."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from e2e.demo import manifests
from e2e.demo.pipeline import ALICE
from e2e.demo.world import World


@dataclass(frozen=True)
class Release:
    """A signed, attested image and where it came from."""

    image: str
    commit: str
    since: str


def reasons(text: str) -> list[str]:
    """Read the reason codes out of a denial as kubectl prints it."""
    return [
        code
        for line in text.splitlines()
        if line.startswith("- ")
        for code in re.findall(r"\b[A-Z]\w+", line.rpartition(": ")[2])
    ]


def apply(
    world: World, who: str, documents: list[Mapping[str, Any]], *extra: str
) -> tuple[bool, str]:
    """Apply objects as a user with the real kubectl; returns whether it went, and the words."""
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    done = world.cluster.kubectl(
        world.users[who], "apply", "-f", "-", *extra, stdin=manifest, check=False
    )
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def refused(world: World, what: str, expected: str, done: tuple[bool, str]) -> None:
    """Hold an attempt against the reason code that should have stopped it."""
    went, text = done
    world.narrator.answer(text)
    codes = reasons(text)
    world.narrator.expect(
        what, expected, "admitted" if went else ", ".join(codes) or text[:120],
        met=not went and expected in codes,
    )  # fmt: skip


def admitted(world: World, what: str, done: tuple[bool, str]) -> None:
    """Hold an attempt against being let through."""
    went, text = done
    world.narrator.answer(text)
    world.narrator.expect(what, "admitted", "admitted" if went else text[:200], met=went)


def laptop_unsigned(world: World) -> None:
    """a. A laptop applies an image that nobody signed."""
    world.narrator.step("a", "A laptop applies an unsigned Deployment")
    image = world.pipeline.build("laptop")
    world.narrator.tried("dana's laptop", f"kubectl apply -f web.yaml   # image {image}")
    done = apply(world, "dana", [manifests.deployment(image)])
    refused(world, "a laptop is not on the list, whatever it applies", "CallerNotAllowed", done)
    world.narrator.tried("ci/deployer", f"kubectl apply -f web.yaml   # image {image}")
    refused(
        world, "and the pipeline cannot deploy an unsigned image either", "SignatureMissing",
        apply(world, "deployer", [manifests.deployment(image)]),
    )  # fmt: skip


def release(world: World, message: str, run: int) -> Release:
    """Commit a change and take it through the whole pipeline."""
    repository = world.repository
    since = repository.head
    repository.commit({"version.py": f"VERSION = {run}\n"}, message)
    image = world.pipeline.build(f"v{run}")
    world.pipeline.sign(image)
    world.pipeline.provenance(image, run=run)
    world.pipeline.tests(image, run=run)
    world.pipeline.change(image, world.pipeline.record(since=since))
    return Release(image, repository.head, since)


def pipeline_release(world: World) -> Release:
    """b. The pipeline builds, tests, signs, attests and deploys."""
    narrator = world.narrator
    narrator.step("b", "The pipeline ships a reviewed, tested, signed change")
    done = release(world, "Print prices with two decimals", 1)
    narrator.say(
        f"Alice committed {done.commit[:12]}, Bob approved it, the repository's own pytest suite "
        "passed; CI signed the image and attested provenance and tests, the review service "
        "attested the change with its own key."
    )
    narrator.tried("ci/deployer", f"kubectl apply -f web.yaml   # image {done.image}")
    admitted(
        world, "the pipeline's release is admitted",
        apply(world, "deployer", [manifests.deployment(done.image, env={"CURRENCY": "EUR"})]),
    )  # fmt: skip
    pods = world.wait_for_pods("app=web", 1)
    narrator.expect(
        "the controllers' ReplicaSet and Pod pass as its children", "1 pod", f"{len(pods)} pods",
        met=len(pods) == 1,
    )  # fmt: skip
    return done


def laptop_signed(world: World, shipped: Release) -> None:
    """c. A laptop uses the signed image, then somebody else's name."""
    narrator = world.narrator
    narrator.step("c", "The laptop tries the signed image, and the deployer's name")
    changed = manifests.deployment(shipped.image, env={"CURRENCY": "XXX"})
    narrator.tried("dana's laptop", "kubectl apply -f web.yaml   # the signed image, CURRENCY=XXX")
    refused(
        world, "the signed image with another environment is refused",
        "CallerNotAllowed", apply(world, "dana", [changed]),
    )  # fmt: skip
    name = f"system:serviceaccount:{manifests.CI}:{manifests.DEPLOYER}"
    narrator.tried("dana's laptop", f"kubectl --as={name} apply -f web.yaml")
    refused(
        world, "impersonating the deployer is refused", "CallerNotAllowed",
        apply(world, "dana", [changed], f"--as={name}"),
    )  # fmt: skip


def bad_evidence(world: World) -> None:
    """d. Every way in which evidence falls short has a reason code of its own."""
    narrator = world.narrator
    narrator.step("d", "Evidence that falls short: each has its own reason code")
    pipeline, repository = world.pipeline, world.repository
    run = 100

    def attempt(what: str, expected: str, make: Callable[[str, str, int], str | None]) -> None:
        nonlocal run
        run += 1
        since = repository.head
        repository.commit({"version.py": f"VERSION = {run}\n"}, f"Change {run}")
        image = pipeline.build(f"v{run}")
        image = make(image, since, run) or image
        narrator.tried("ci/deployer", f"kubectl apply   # {what}")
        refused(
        world, what, expected,
            apply(world, "deployer", [manifests.deployment(image, name="candidate")]),
        )  # fmt: skip

    def good(image: str, since: str, number: int, *leave: str) -> None:
        if "signature" not in leave:
            pipeline.sign(image)
        if "provenance" not in leave:
            pipeline.provenance(image, run=number)
        if "tests" not in leave:
            pipeline.tests(image, run=number)
        if "change" not in leave:
            pipeline.change(image, pipeline.record(since=since, number=number))

    def self_approved(image: str, since: str, number: int) -> None:
        good(image, since, number, "change")
        pipeline.change(image, pipeline.record(since=since, approvers=[ALICE], number=number))

    def stale(image: str, since: str, number: int) -> None:
        good(image, since, number, "change")
        pipeline.change(image, pipeline.record(since=since, approved=since, number=number))

    def own_key(image: str, since: str, number: int) -> None:
        good(image, since, number, "change")
        pipeline.change(image, pipeline.record(since=since, number=number), key="build")

    def failing(image: str, since: str, number: int) -> None:
        good(image, since, number, "tests")
        with world.broken_tests():
            pipeline.tests(image, run=number, commit=repository.head)

    def other_commit(image: str, since: str, number: int) -> None:
        good(image, since, number, "tests")
        pipeline.tests(image, run=number, commit=since)

    def other_repository(image: str, since: str, number: int) -> None:
        good(image, since, number, "provenance")
        pipeline.provenance(image, run=number, repository="https://git.shop.example/eve/web")

    def other_key(image: str, since: str, number: int) -> None:
        good(image, since, number, "signature")
        pipeline.sign(image, key="stranger")

    def by_tag(image: str, since: str, number: int) -> str:
        good(image, since, number)
        return f"{image.partition('@')[0]}:v{number}"

    attempt("approved by its own author", "ReviewNotIndependent", self_approved)
    attempt("approved before the last push", "ReviewStale", stale)
    attempt("reviewed with the builder's key", "SignerMismatch", own_key)
    attempt("a failed test run", "TestsFailed", failing)
    attempt("tests of another commit", "TestsOtherCommit", other_commit)
    attempt("provenance of another repository", "SourceMismatch", other_repository)
    attempt("signed by another key", "SignerMismatch", other_key)
    attempt("a tag instead of a digest", "DigestRequired", by_tag)
    stranger = pipeline.build("v1", name="unknown")
    narrator.tried("ci/deployer", "kubectl apply   # an image that no rule covers")
    refused(
        world, "an image that no rule covers", "NoPolicyForImage",
        apply(world, "deployer", [manifests.deployment(stranger, name="candidate")]),
    )  # fmt: skip


def around(world: World, shipped: Release) -> None:
    """e. Ways around a gate that only looks at Deployments."""
    narrator = world.narrator
    narrator.step("e", "Ways around: debug containers, claimed owners, edited children")
    unsigned = world.pipeline.build("tools")
    pod = world.wait_for_pods("app=web", 1)[0]["metadata"]["name"]
    kubectl, users = world.cluster.kubectl, world.users

    narrator.tried("carol (cluster admin)", f"kubectl debug {pod} --image={unsigned}")
    done = kubectl(
        users["carol"], "-n", manifests.SHOP, "debug", pod, f"--image={unsigned}",
        "--attach=false", "--", "sh", check=False,
    )  # fmt: skip
    refused(
        world, "kubectl debug with an unsigned image is refused", "SignatureMissing",
        (done.returncode == 0, done.stdout + done.stderr),
    )  # fmt: skip

    owner = world.get("apps", "replicasets", "app=web")[0]["metadata"]
    narrator.tried("dana's laptop", f"kubectl apply -f pod.yaml   # 'owned' by {owner['name']}")
    refused(
        world, "a Pod that claims a ReplicaSet is refused", "CallerNotAllowed",
        apply(world, "dana", [manifests.claiming_pod(shipped.image, owner["name"], owner["uid"])]),
    )  # fmt: skip

    narrator.tried("dana's laptop", f"kubectl set image pod/{pod} web={unsigned}")
    done = kubectl(
        users["dana"], "-n", manifests.SHOP, "set", "image", f"pod/{pod}", f"web={unsigned}",
        check=False,
    )  # fmt: skip
    refused(
        world, "kubectl set image on a child pod is refused", "CallerNotAllowed",
        (done.returncode == 0, done.stdout + done.stderr),
    )  # fmt: skip


def configuration_only(world: World, shipped: Release) -> None:
    """f. A configuration change inherits nobody's approval; the ledger answers."""
    narrator = world.narrator
    narrator.step("f", "Only configuration changes, and the ledger answers")
    narrator.tried("ci/deployer", "kubectl apply -f web.yaml   # CURRENCY=USD, the same image")
    admitted(
        world, "the pipeline's configuration change is admitted",
        apply(world, "deployer", [manifests.deployment(shipped.image, env={"CURRENCY": "USD"})]),
    )  # fmt: skip


def ledger_answers(world: World, shipped: Release) -> None:
    """f. What an auditor asks, answered by the ledger's own command."""
    narrator = world.narrator
    narrator.expect(
        "the recorder empties the spool", "0 Admissions", f"{world.spooled()} Admissions",
        met=world.wait_until_recorded(),
    )  # fmt: skip
    about = ("--kind", "admitted", "-n", manifests.SHOP, "--workload", "Deployment/web")
    world.wait(lambda: all(row["persistedAt"] for row in world.rows(*about)))
    changes = world.rows(*about)
    first, last = changes[0], changes[-1]
    narrator.tried("auditor", f"trailgate ledger show {first['index']}")
    narrator.answer(world.show(first["index"]))
    asked = {
        "who committed": ("committers", "alice"),
        "who approved": ("approvers", "bob"),
        "which tests": ("tests", "PASSED (2 run"),
        "by which identity": ("caller", f"system:serviceaccount:{manifests.CI}:"),
        "which digest": ("images", shipped.image.partition("@")[2]),
        "which commit": ("commits", shipped.commit),
        "under which policy": ("policies", manifests.POLICY),
        "when": ("decidedAt", "T"),
    }
    for question, (column, expected) in asked.items():
        got = json.dumps(first[column])
        narrator.expect(f"the ledger says {question}", expected, got, met=expected in got)
    stored = [row["persistedAt"] for row in changes]
    narrator.expect(
        "and that the cluster stored each change", "a time of each",
        ", ".join(map(str, stored)), met=all(stored),
    )  # fmt: skip
    narrator.tried("auditor", f"trailgate ledger show {last['index']}   # the configuration change")
    narrator.answer(world.show(last["index"]))
    got = f"{last['approvers']}, {last['absent'].get('approvers')}"
    narrator.expect(
        "a configuration change has nobody's approval", "null, ConfigurationNotAttested", got,
        met=last["approvers"] is None
        and last["absent"].get("approvers") == "ConfigurationNotAttested",
    )  # fmt: skip
    _refusals_are_there(world)


def _refusals_are_there(world: World) -> None:
    refusals = world.rows("--kind", "refused")
    found = sorted({reason for row in refusals for reason in row["reasons"]})
    world.narrator.expect(
        "the refusals are in the ledger, too", "CallerNotAllowed, …", ", ".join(found),
        met={"CallerNotAllowed", "SignatureMissing", "TestsFailed", "ReviewStale"} <= set(found),
    )  # fmt: skip
