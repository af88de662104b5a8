"""The command line: every way to be told something that can't work is one line and exit code 2."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import orjson
import pytest

import trailgate
from e2e.controlplane import kubeconfig, ports
from tests.webhook.conftest import ROOT
from trailgate_operator.configuration import Address, ConfigurationError

PATH = ":".join(str(ROOT / part) for part in ("core", "kube", "operator"))


def command(*arguments, before=""):
    code = f"{before}\nfrom trailgate_operator.main import main; main()"
    return [sys.executable, "-c", code, *arguments]


def run(*arguments, before="", **environment):
    return subprocess.run(
        command(*arguments, before=before),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": PATH, "PATH": "/usr/bin:/bin", **environment},
    )


def refused(done, *words, code=2):
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


def test_version_and_help_need_no_extra():
    without = (
        "import sys; sys.modules.update(dict.fromkeys(['kopf', 'kubernetes', 'prometheus_client']))"
    )
    done = run("--version", before=without)
    assert (done.returncode, done.stdout) == (
        0,
        f"trailgate-operator, version {trailgate.__version__}\n",
    )
    assert "--recorder-key FILE" in run("--help", before=without).stdout


@pytest.mark.parametrize("module", ["kopf", "kubernetes", "prometheus_client"])
def test_without_the_extra_one_line_says_what_to_install(place, module):
    done = run(*place.options(), before=f"import sys; sys.modules['{module}'] = None")
    refused(done, "is not installed; run: pip install 'trailgate[operator]'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"log_level": "FOO"}, "'FOO' is not one of"),
        ({"ledger": "ledger.db"}, "got ledger 'ledger.db', expected sqlite:PATH"),
        ({"ledger": "sqlite:/nowhere/l.db"}, "there is no ledger /nowhere/l.db; trailgate ledger"),
        ({"ledger": None}, "Missing option '--ledger'"),
        ({"log_key": "/nowhere/log.key"}, "can't read the log's key"),
        ({"log_key": "/tmp"}, "is a directory"),
        ({"recorder_key": "/nowhere/key"}, "/nowhere/key"),
        ({"gate_public_key": "/nowhere/key"}, "/nowhere/key"),
        ({"known_checkpoint": "/nowhere/checkpoint"}, "/nowhere is not a directory"),
        ({"kubeconfig": "/nowhere/config"}, "/nowhere/config"),
        ({"kubeconfig": None}, "in-cluster configuration"),
        ({"health_listen": "8081"}, "got address '8081', expected HOST:PORT"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(place, changes, says):
    refused(run(*place.options(**changes)), says)


def test_a_directory_without_keys_and_a_key_that_is_none(place):
    empty = place.directory / "empty"
    empty.mkdir()
    refused(run(*place.options(gate_public_key=empty)), "got no *.pub or *.pem file")
    (empty / "a.pub").write_text("no key")
    refused(run(*place.options(gate_public_key=empty)), str(empty / "a.pub"))


def test_what_is_wrong_with_the_ledger_is_exit_code_1(place):
    place.known.write_text("")
    (place.directory / "kubeconfig").write_text(config(place))
    refused(run(*place.options()), "trailgate-operator: the file", "has no checkpoint", code=1)


def config(place, port=1):
    authority = place.directory / "ca.pem"
    authority.write_text("")
    path = place.directory / "written"
    kubeconfig.write(path, f"http://127.0.0.1:{port}", authority, {"token": "t"})
    return path.read_text()


def test_an_option_has_a_twin_in_the_environment(place):
    done = run(*place.options(ledger=None), TRAILGATE_LEDGER="sqlite:/nowhere/l.db")
    refused(done, "there is no ledger /nowhere/l.db")


def test_no_environment_name_means_two_things(place):
    """Of the options that both processes have, those with keys are named for what they hold."""
    from trailgate_operator.main import command as operator
    from trailgate_webhook.main import command as webhook

    shared = {o for p in operator.params for o in p.opts} & {
        o for p in webhook.params for o in p.opts
    }
    assert shared == {
        "--cluster-name", "--environment", "--health-listen", "--image", "--known-checkpoint",
        "--kubeconfig", "--log-level", "--namespace", "--review-token-file", "--version",
    }  # fmt: skip


def test_a_cluster_out_of_reach_is_waited_for_and_told_and_a_signal_ends_it_well(place):
    closed, port = ports.free(2)
    (place.directory / "kubeconfig").write_text(config(place, closed))
    process = subprocess.Popen(
        command(*place.options(health_listen=f"127.0.0.1:{port}", log_level="warning")),
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": PATH, "PATH": "/usr/bin:/bin"},
    )
    try:
        line = orjson.loads(process.stderr.readline())
        assert line["level"] == "warning"
        assert line["event"] == "not started yet; trying again"
        assert str(closed) in line["detail"]
        assert get(port, "/livez") == (200, "ok\n")
        status, text = get(port, "/readyz")
        assert status == 503
        assert text == f"recorder: {line['detail']}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def get(port, path, seconds=10):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (TimeoutError, urllib.error.URLError):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8081", "127.0.0.1", 8081), ("[::]:0", "::", 0), ("localhost:1", "localhost", 1)],
)
def test_an_address_is_host_and_port(text, host, port):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", ":8081", "8081", "host:", "host:x", "host:65536", "host:-1"])
def test_anything_else_is_no_address(text):
    with pytest.raises(ConfigurationError, match="expected HOST:PORT"):
        Address.parse(text)
