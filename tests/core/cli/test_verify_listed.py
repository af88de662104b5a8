"""What `trailgate verify` says of an image that is let in as third party: no registry is asked."""

import json
from datetime import timedelta

import pytest
import yaml
from click.testing import CliRunner

from tests.core.policy import builders as b
from trailgate.cli.main import main
from trailgate.cli.verdict import gist

REDIS = "registry.invalid/library/redis"
LISTED, OTHER = (f"sha256:{digit * 64}" for digit in "ab")


def verify(tmp_path, image, *more, expiry="2999-01-01T00:00:00Z"):
    entry = {"image": REDIS, "digests": [LISTED], "owner": "platform team", "expiry": expiry}
    document = {
        "apiVersion": "trailgate.dev/v1alpha1",
        "kind": "DeployPolicy",
        "metadata": {"name": "production"},
        "spec": {
            "mode": "Enforce",
            "namespaces": ["shop"],
            "thirdParty": [entry | {"reason": "scanned weekly"}],
        },
    }
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(document))
    return CliRunner().invoke(main, ["verify", image, "--policy", str(path), *more])


def test_who_answers_for_it_why_and_until_when_is_said(tmp_path):
    done = verify(tmp_path, f"{REDIS}@{LISTED}")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "DeployPolicy production (Enforce, third party): holds" in lines
    assert (
        "let in by digest, without evidence, until 2999-01-01T00:00:00Z: "
        "scanned weekly (platform team)"
    ) in lines
    assert "no rule for this image" not in done.stdout


def test_json_says_so_too(tmp_path):
    done = verify(tmp_path, f"{REDIS}@{LISTED}", "-o", "json")
    (policy,) = json.loads(done.stdout)["policies"]
    assert policy["thirdParty"] == {
        "owner": "platform team", "reason": "scanned weekly", "expiry": "2999-01-01T00:00:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image", "expiry", "said"),
    [
        (f"{REDIS}@{OTHER}", "2999-01-01T00:00:00Z", "by a digest that is not listed"),
        (f"{REDIS}@{LISTED}", "2020-01-01T00:00:00Z", "expired on 2020-01-01"),
        (f"{REDIS}:7", "2999-01-01T00:00:00Z", "DigestRequired"),
    ],
)
def test_what_is_not_let_in_is_not_said_to_be(tmp_path, image, expiry, said):
    done = verify(tmp_path, image, expiry=expiry)
    assert done.exit_code == 1, done.output
    assert said in done.stdout
    assert "let in by digest" not in done.stdout
    done = verify(tmp_path, image, "-o", "json", expiry=expiry)
    assert json.loads(done.stdout)["policies"][0]["thirdParty"] is None


@pytest.mark.parametrize("state", ["DISMISSED", "CHANGES_REQUESTED"])
def test_an_approval_that_was_taken_back_is_not_said_to_be_one(state):
    later = b.approval(state=state, at=b.NOW - timedelta(hours=1))
    for approvals in ((later,), (b.approval(), later)):
        record = b.record(changes=(b.reviewed(approvals=approvals),))
        assert gist(record)["approvers"] == "approved by nobody"
    assert gist(b.record())["approvers"] == "approved by github:2002"
