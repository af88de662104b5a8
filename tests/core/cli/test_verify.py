"""``trailgate verify`` against a real registry and really signed images."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.core.assess.world import KINDS, World, pem, signers
from trailgate.cli.registry import open_registry
from trailgate.evidence import sign
from trailgate.evidence.keys import PrivateKey
from trailgate.model.digest import Digest
from trailgate.model.evidence import EvidenceFormat

pytestmark = pytest.mark.registry


def say(workbench: Any, *what: str, by: str = "build") -> None:
    """Attach statements to the workbench's image in the real registry."""

    async def attach() -> None:
        async with open_registry(workbench.image, [workbench.image.registry]) as client:
            world = World()
            world.memory = client
            for one in what:
                await world.say(workbench.image, one, by=by)

    asyncio.run(attach())


def policy_file(workbench: Any, *, more: str = "", **rule: Any) -> Path:
    whole = {
        "name": "web",
        "images": [workbench.image.name],
        "source": {"repositories": ["https://github.com/acme/web"]},
        "signature": {"signers": signers("build")},
        "provenance": {"signers": signers("build")},
        "tests": {"signers": signers("build")},
    } | rule
    document = {
        "apiVersion": "trailgate.dev/v1alpha1",
        "kind": "DeployPolicy",
        "metadata": {"name": "production"},
        "spec": {
            "mode": "Enforce",
            "namespaces": ["shop"],
            "callers": {"serviceAccounts": ["shop/deployer"]},
            "rules": [{key: value for key, value in whole.items() if value is not None}],
        },
    }
    path = workbench.directory / "production.yaml"
    path.write_text(yaml.safe_dump(document) + more)
    return path


def verify(workbench: Any, path: Path, *more: str, image: Any = None) -> Any:
    return workbench.run("verify", str(image or workbench.image), "--policy", path, *more)


def test_all_that_is_asked_for_holds(workbench):
    say(workbench, "signature", "provenance", "tests")
    done = verify(workbench, policy_file(workbench))
    assert done.exit_code == 0, done.output
    assert "DeployPolicy production (Enforce, rule web): holds" in done.stdout
    assert "https://github.com/acme/web@" in done.stdout
    for check in ("signature", "provenance", "tests"):
        assert any(line.split()[:2] == [check, "met"] for line in done.stdout.splitlines())
    assert done.stderr == ""


def test_json_says_it_all(workbench):
    say(workbench, *KINDS)
    done = verify(workbench, policy_file(workbench), "-o", "json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["digest"] == str(workbench.image.digest)
    (policy,) = said["policies"]
    assert policy["verdict"] == "holds"
    assert policy["rule"] == "web"
    assert policy["checks"] == {
        "signature": "met", "provenance": "met", "review": "not-required",
        "deploymentApproval": "not-required", "tests": "met",
    }  # fmt: skip
    assert {s["kind"]: s["counted"] for s in policy["statements"]} == {
        "signature": True, "provenance": True, "tests": True, "change": False,
    }  # fmt: skip
    (change,) = [s for s in policy["statements"] if s["kind"] == "change"]
    assert change["says"]["committers"] == "by github:1001"


def test_what_does_not_hold_is_said_with_got_and_expected(workbench):
    say(workbench, "signature", by="other")
    done = verify(workbench, policy_file(workbench))
    assert done.exit_code == 1
    assert "does not hold" in done.stdout
    assert "- SignerMismatch" in done.stdout
    assert "- ProvenanceMissing" in done.stdout
    assert "expected" in done.stdout


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (("provenance", "tests"), "SignatureMissing"),
        (("signature", "tests"), "ProvenanceMissing"),
        (("signature", "provenance"), "TestsMissing"),
    ],
)
def test_each_statement_is_missed(workbench, said, code):
    say(workbench, *said)
    done = verify(workbench, policy_file(workbench), "-o", "json")
    assert done.exit_code == 1
    (policy,) = json.loads(done.stdout)["policies"]
    assert code in [finding["reason"] for finding in policy["findings"]]


def test_nothing_attached_is_said(workbench):
    done = verify(workbench, policy_file(workbench))
    assert done.exit_code == 1
    assert "nothing is attached to this image" in done.stdout


def test_what_proves_nothing_is_shown_with_its_reason(workbench):
    say(workbench, "signature", "provenance", "tests")
    say(workbench, "signature", by="other")
    done = verify(workbench, policy_file(workbench), "-o", "json")
    assert done.exit_code == 0
    (policy,) = json.loads(done.stdout)["policies"]
    assert [rejected["reason"] for rejected in policy["rejected"]] == ["SignerMismatch"]


def test_an_image_without_a_rule_is_told_without_asking_its_registry(workbench):
    path = policy_file(workbench, images=["ghcr.io/acme/other"])
    done = verify(workbench, path)
    assert done.exit_code == 1
    assert "NoPolicyForImage" in done.stdout
    assert "no rule for this image" in done.stdout
    elsewhere = f"registry.invalid/acme/web@{Digest('a' * 64)}"
    assert verify(workbench, path, image=elsewhere).exit_code == 1


def test_a_tag_does_not_pass_however_good_its_digest_is(workbench):
    say(workbench, "signature", "provenance", "tests")
    done = verify(workbench, policy_file(workbench), image=workbench.tagged)
    assert done.exit_code == 1
    assert "- DigestRequired" in done.stdout
    assert str(workbench.image.digest) in done.stderr


def test_a_registry_that_is_away_is_undetermined(workbench):
    gone = "127.0.0.1:9"
    path = policy_file(workbench, images=[f"{gone}/acme/web"])
    image = f"{gone}/acme/web@{Digest('a' * 64)}"
    done = workbench.run("verify", image, "--policy", path, "--allow-insecure-registry", gone)
    assert done.exit_code == 3
    assert gone in done.stderr
    assert done.stdout == ""


def test_an_image_that_is_not_there_is_undetermined(workbench):
    path = policy_file(workbench)
    image = workbench.image.with_digest(Digest("a" * 64))
    done = verify(workbench, path, image=image)
    assert done.exit_code == 3
    assert "404" in done.stderr or "not there" in done.stderr


def test_audit_is_no_excuse(workbench):
    path = policy_file(workbench)
    path.write_text(path.read_text().replace("mode: Enforce", "mode: Audit"))
    done = verify(workbench, path)
    assert done.exit_code == 1
    assert "(Audit, rule web): does not hold" in done.stdout


def test_every_policy_must_hold(workbench):
    say(workbench, "signature", "provenance", "tests")
    document = yaml.safe_load(policy_file(workbench).read_text())
    second = copy.deepcopy(document)
    second["metadata"]["name"] = "stricter"
    second["spec"]["rules"][0]["tests"]["signers"] = [{"name": "other", "key": pem("other")}]
    second["spec"]["namespaces"] = ["bank"]
    path = workbench.directory / "both.yaml"
    path.write_text(yaml.safe_dump_all([document, second]))
    done = verify(workbench, path, "-o", "json")
    assert done.exit_code == 1
    words = {p["policy"]: p["verdict"] for p in json.loads(done.stdout)["policies"]}
    assert words == {"production": "holds", "stricter": "does not hold"}
    assert verify(workbench, path, "-n", "shop").exit_code == 0
    assert verify(workbench, path, "-n", "bank").exit_code == 1
    done = verify(workbench, path, "-n", "nowhere")
    assert done.exit_code == 2
    assert "'nowhere'" in done.stderr


def test_the_target_of_a_change_record_is_checked_when_it_is_said(workbench):
    say(workbench, *KINDS)
    review = {"signers": signers("build"), "selfAsserted": "Allow"}
    path = policy_file(workbench, review=review)
    done = verify(workbench, path, "-o", "json")
    assert "not checked, use -n" in done.stderr
    reasons = [f["reason"] for f in json.loads(done.stdout)["policies"][0]["findings"]]
    assert "EvidenceMismatch" not in reasons
    done = verify(workbench, path, "-n", "shop", "--cluster", "staging", "-o", "json")
    (policy,) = json.loads(done.stdout)["policies"]
    assert done.exit_code == 1
    assert [f["got"] for f in policy["findings"] if f["reason"] == "EvidenceMismatch"] == [
        "a change record for cluster prod"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no policy"),
        ("kind: [", "not YAML"),
        ("kind: Pod", "DeployPolicy"),
        ("\x00\x01", "not YAML"),
    ],
)
def test_a_policy_that_is_none_is_a_usage_error(workbench, content, said):
    path = workbench.directory / "p.yaml"
    path.write_text(content)
    done = verify(workbench, path)
    assert done.exit_code == 2
    assert said in done.stderr
    assert str(path) in done.stderr


def test_a_policy_file_that_is_not_there_says_where_to_get_one(workbench):
    done = verify(workbench, workbench.directory / "production")
    assert done.exit_code == 2
    assert "kubectl get deploypolicy" in done.stderr


def test_an_image_that_is_none_is_a_usage_error(workbench):
    assert verify(workbench, policy_file(workbench), image="NOT AN IMAGE").exit_code == 2


def test_what_a_statement_says_cannot_steer_the_terminal(workbench):
    key: PrivateKey = workbench.key

    async def attach() -> None:
        async with open_registry(workbench.image, [workbench.image.registry]) as client:
            signed = sign.attestation(
                workbench.image, "https://evil.example/\x1b[2J", {}, key, EvidenceFormat.BUNDLE
            )
            await client.attach(workbench.image, signed.content, "https://evil.example")

    asyncio.run(attach())
    done = verify(workbench, policy_file(workbench))
    assert done.exit_code == 1
    assert "\x1b" not in done.stdout
