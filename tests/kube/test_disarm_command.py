"""``trailgate disarm``: what it asks for, what it refuses, what it says; without an operator."""

import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from trailgate.cli.main import main
from trailgate_kube.disarms import definition
from trailgate_kube.resources import DISARMS

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def run(*arguments, **env):
    return CliRunner().invoke(main, ["disarm", *arguments], env=env)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--for", "1h"], "expected --for DURATION and --reason"),
        (["--reason", "broken"], "expected --for DURATION and --reason"),
        (["--ticket", "INC-7"], "expected --for DURATION and --reason"),
        (["--for", "1h", "--reason", "  "], "expected --for DURATION and --reason"),
        (["--for", "soon", "--reason", "x"], "--for: got 'soon'"),
        (["--for", "25h", "--reason", "x"], "at most 24h"),
        (["--for", "1441m", "--reason", "x"], "at most 24h"),
        (["--for", "0h", "--reason", "x"], "--for: got '0h'"),
        (["--for", "1h", "--reason", "x" * 501], "501 characters, expected at most 500"),
        (["--for", "1h", "--reason", "x", "--ticket", "t" * 201], "expected at most 200"),
        (["--end", "a", "--for", "1h"], "expected it alone"),
        (["--end", "a", "--reason", "x"], "expected it alone"),
    ],
)
def test_what_cannot_be_asked_for_is_a_usage_error(arguments, expected):
    done = run(*arguments, "--kubeconfig", "/nowhere")
    assert done.exit_code == 2
    assert expected in done.stderr


def test_without_a_cluster_it_says_so(tmp_path):
    assert run(KUBECONFIG=str(tmp_path / "none")).exit_code == 2
    done = run(HOME=str(tmp_path), KUBECONFIG="")
    assert f"there is no kubeconfig {tmp_path}/.kube/config" in done.stderr
    assert "several files" in run(KUBECONFIG="/a:/b").stderr


def test_without_the_extra_it_names_it():
    code = (
        "import sys; sys.modules['kubernetes'] = None\n"
        "from trailgate.cli.main import main; main(['disarm'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "disarm needs kubernetes, which is not installed" in done.stderr
    assert "pip install 'trailgate[kube]'" in done.stderr


@pytest.fixture
def plane(control_plane):
    control_plane.install_crds(definition())
    return control_plane


@pytest.fixture
def why(plane):
    """A reason that no other test gives: all share the API server."""
    reason = f"broken {uuid.uuid4().hex}"
    yield reason
    for found in having(plane, reason):
        plane.api("DELETE", DISARMS.path(None, found["metadata"]["name"]))


def having(plane, reason):
    items = plane.api("GET", DISARMS.path(None))["items"]
    return [item for item in items if item["spec"]["reason"] == reason]


def only(plane, reason):
    (found,) = having(plane, reason)
    return found


def test_where_nothing_is_armed_it_is_asked_for_and_done(plane, why):
    config = str(plane.admin.kubeconfig)
    done = run("--for", "90m", "--reason", why, "--ticket", "INC-7", "--kubeconfig", config)
    assert done.exit_code == 0, done.stderr
    found = only(plane, why)
    until = datetime.fromisoformat(found["spec"].pop("until"))
    assert found["spec"] == {"reason": why, "ticket": "INC-7"}
    assert abs(until - datetime.now(UTC) - timedelta(minutes=90)) < timedelta(seconds=30)
    name = found["metadata"]["name"]
    assert "disarmed: the API server doesn't ask the gate" in done.stderr
    assert [name, "-"] in [line.split()[:2] for line in done.stdout.splitlines()]
    shown = run("-o", "json", "--kubeconfig", config)
    told = json.loads(shown.stdout)
    assert told["configuration"] is False
    assert name in [one["name"] for one in told["disarms"]]
    ended = run("--end", name, "--kubeconfig", config)
    assert ended.exit_code == 0
    assert name not in run("--kubeconfig", config).stdout
    assert run("--end", name, "--kubeconfig", config).exit_code == 3


def test_a_whole_day_is_within_24_hours_by_any_clock(plane, why):
    run("--for", "24h", "--reason", why, "--kubeconfig", str(plane.admin.kubeconfig))
    found = only(plane, why)
    created = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
    lasting = datetime.fromisoformat(found["spec"]["until"]) - created
    assert timedelta(hours=23, minutes=58) < lasting < timedelta(hours=24)


def test_armed_and_nobody_there_it_names_the_other_command(plane, why):
    # In no rule's way: other tests share this API server.
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "trailgate"},
        "webhooks": [],
    }
    plane.api("POST", CONFIGURATIONS, body)
    try:
        config = str(plane.admin.kubeconfig)
        asked = ["--for", "1h", "--reason", why, "--wait", "0", "--kubeconfig", config]
        done = run(*asked)
        assert done.exit_code == 3
        assert "kubectl delete validatingwebhookconfiguration trailgate" in done.stderr
        assert only(plane, why)
    finally:
        plane.api("DELETE", f"{CONFIGURATIONS}/trailgate")


def test_who_may_not_is_told_so(plane, why):
    nobody = plane.person("nobody@example.com")
    config = str(nobody.kubeconfig)
    done = run("--for", "1h", "--reason", why, "--kubeconfig", config)
    assert done.exit_code == 4
    assert "403" in done.stderr
    assert having(plane, why) == []
