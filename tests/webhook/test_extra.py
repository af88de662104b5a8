"""The gate's command where only the library is installed."""

import subprocess
import sys

import pytest

import trailgate

OPTIONS = [
    "--tls-cert", "c", "--tls-key", "k", "--recorder-public-key", "r", "--gate-key", "g",
]  # fmt: skip


def run(*arguments, without):
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({without!r}))\n"
        "from trailgate_webhook.main import main\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_version_and_help_need_no_extra():
    extra = ["uvloop", "uvicorn", "httptools", "prometheus_client", "kubernetes"]
    done = run("--version", without=extra)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"trailgate-webhook, version {trailgate.__version__}\n"
    assert "--gate-key FILE" in run("--help", without=extra).stdout


@pytest.mark.parametrize("module", ["uvloop", "uvicorn", "prometheus_client"])
def test_without_the_extra_one_line_says_what_to_install(module):
    done = run(*OPTIONS, without=[module])
    assert done.returncode == 2
    assert done.stderr == (
        f"trailgate-webhook: {module} is not installed; run: pip install 'trailgate[webhook]'\n"
    )
