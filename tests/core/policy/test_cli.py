"""``trailgate policy check``, run as a user runs it."""

import json
from datetime import timedelta

import pytest
import yaml
from click.testing import CliRunner

from tests.core.policy import builders as b
from tests.core.policy.test_parse import third_party
from trailgate.cli.main import main
from trailgate.policy.hints import hints


def check(*arguments, stdin=None):
    return CliRunner().invoke(main, ["policy", "check", *map(str, arguments)], input=stdin)


@pytest.fixture(name="file")
def _file(tmp_path):
    def write(*documents, name="policy.yaml"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump_all(documents))
        return path

    return write


def test_a_valid_policy_is_named_with_its_digest(file):
    done = check(file(b.document()))
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout.split() == [
        *("POLICY", "MODE", "NAMESPACES", "RULES", "DIGEST"),
        *("production", "Enforce", "shop", "1", str(b.policy().reference.digest)),
    ]


def test_every_problem_of_every_file_is_told(file):
    good = file(b.document())
    bad = file(b.document(mode="Off", namespaces=[]), name="bad.yaml")
    done = check(good, bad)
    assert done.exit_code == 1
    assert "production" in done.stdout
    assert done.stderr.splitlines() == [
        (f"error: {bad}: production: spec.mode: got 'Off', expected one of Audit, Warn, Enforce"),
        f"error: {bad}: production: spec.namespaces: got an empty list, expected at least 1",
    ]


def test_for_programs(file):
    done = check(file(b.document()), "-", "-o", "json", stdin="a: [")
    assert done.exit_code == 1
    value = json.loads(done.stdout)
    assert [item["policy"] for item in value["policies"]] == ["production"]
    assert value["policies"][0]["rules"] == ["web"]
    assert [(item["file"], item["path"]) for item in value["problems"]] == [("-", "document")]


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n---\n"])
def test_a_file_without_a_policy_is_a_mistake(content):
    done = check("-", stdin=content)
    assert done.exit_code == 1
    assert "got nothing, expected a DeployPolicy" in done.stderr


def test_one_name_in_two_files_is_a_mistake(file):
    done = check(file(b.document()), file(b.document(), name="again.yaml"))
    assert done.exit_code == 1
    assert "which" in done.stderr
    assert "has too" in done.stderr


def test_a_file_that_cannot_be_read_is_no_verdict(tmp_path):
    done = check(tmp_path / "missing.yaml")
    assert done.exit_code == 2
    assert "missing.yaml" in done.stderr


def test_a_terminal_is_not_steered_by_a_policy(file):
    value = b.document()
    value["metadata"]["name"] = "a\x1b[2J"
    done = check(file(value))
    assert done.exit_code == 1
    assert "\x1b" not in done.stderr


def test_hints_go_to_stderr_and_are_no_verdict(file):
    rules = [b.rule(), b.rule(name="again")]
    done = check(file(b.document(rules=rules)))
    assert done.exit_code == 0
    assert done.stderr == (
        f"hint: {file(b.document(rules=rules))}: production: "
        f"rule again: an earlier rule decides on {b.REPOSITORY}\n"
    )


def hint(**spec):
    return list(hints(b.policy(**spec), b.NOW))


def test_what_is_hinted_at():
    assert hint() == []
    inside = {"serviceAccounts": ["ci/deployer", "shop/deployer", "shop-eu/web"]}
    (said,) = hint(callers=inside, namespaces=["shop", "shop-*"])
    assert said.startswith("callers: shop-eu/web, shop/deployer in a namespace that this policy")
    assert hint(callers=None) == []
    wide = b.rule(name="wide", images=["ghcr.io/**"])
    assert hint(rules=[b.rule(), wide]) == []
    assert hint(rules=[wide, b.rule()]) == [f"rule web: an earlier rule decides on {b.REPOSITORY}"]
    shared = b.rule(review={"signers": b.signers("build", "review")})
    assert len(hint(rules=[shared])) == 1
    assert "review by build never counts" in hint(rules=[shared])[0]
    shared["review"]["selfAsserted"] = "Allow"
    assert hint(rules=[shared]) == []
    expired = third_party(expiry=(b.NOW - timedelta(days=1)).isoformat())
    assert hint(thirdParty=[third_party(), expired]) == [
        "thirdParty docker.io/library/redis: expired on 2026-11-22 (platform)"
    ]
