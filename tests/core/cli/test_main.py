import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from trailgate.cli import lazy
from trailgate.cli import main as module
from trailgate.cli.errors import ExitCode, InputError, exit_code
from trailgate.cli.main import main
from trailgate.evidence.keys import PassphraseError
from trailgate.model.errors import MalformedError, TrailgateError
from trailgate.oci.errors import NotFoundError, UnauthorizedError, UnavailableError


class OwnCodeError(TrailgateError):
    exit_code = 1


def run(*arguments, **more):
    return CliRunner().invoke(main, arguments, **more)


@pytest.fixture
def failing(monkeypatch):
    """A command ``sign`` that does what the test says."""

    def install(action):
        class Fake:
            command = click.Command("sign", callback=action)

        monkeypatch.setattr(lazy.importlib, "import_module", lambda _: Fake)

    return install


def test_help_lists_every_noun_and_imports_none():
    code = (
        "import sys; from trailgate.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'cryptography', 'aiohttp', 'msgspec', 'yaml', 'trailgate.evidence.keys'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for noun, (_, text) in module.COMMANDS.items():
        assert noun in done.stdout
        assert text in done.stdout


@pytest.mark.parametrize("noun", ["key", "sign", "attest"])
def test_every_noun_of_ours_has_help(noun):
    done = run(noun, "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: trailgate {noun}")


def test_the_version_is_said():
    assert run("--version").stdout.startswith("trailgate, version ")


@pytest.mark.parametrize(
    "arguments",
    [("no-such-noun",), ("--no-such-option",), ("sign",), ("key", "generate", "-o", "csv"), ()],
)
def test_wrong_usage_is_a_2(arguments):
    assert run(*arguments).exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MalformedError("x"), 2),
        (InputError("x"), 2),
        (PassphraseError("x"), 2),
        (UnauthorizedError("x"), 4),
        (UnavailableError("x"), 3),
        (NotFoundError("x"), 3),
        (TrailgateError("x"), 3),
        (OwnCodeError("x"), 1),
    ],
)
def test_every_foreseen_error_has_its_exit_code(error, code):
    assert exit_code(error) == code


def test_a_foreseen_error_is_one_line_on_stderr(failing):
    def action():
        raise UnavailableError("registry a.b:\n  no connection")

    failing(action)
    done = run("sign")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "trailgate: registry a.b: no connection\n"


def test_a_crash_is_never_a_verdict(failing, monkeypatch):
    monkeypatch.delenv("TRAILGATE_DEBUG", raising=False)

    def action():
        raise KeyError("surprise")

    failing(action)
    done = run("sign")
    assert done.exit_code == ExitCode.UNDETERMINED
    assert "internal error: KeyError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in run("sign", env={"TRAILGATE_DEBUG": "1"}).stderr


def test_a_verdict_passes_through(failing):
    failing(lambda: click.get_current_context().exit(1))
    assert run("sign").exit_code == ExitCode.NEGATIVE


def test_interruption_is_no_verdict(failing):
    def action():
        raise KeyboardInterrupt

    failing(action)
    assert run("sign").exit_code == ExitCode.INTERRUPTED


def test_a_reader_that_leaves_is_no_verdict():
    script = (
        "import click, sys; from trailgate.cli import lazy, main as m\n"
        "def action():\n"
        "    for _ in range(200000): click.echo('x' * 80)\n"
        "class Fake: command = click.Command('sign', callback=action)\n"
        "lazy.importlib.import_module = lambda _: Fake\n"
        "m.main(['sign'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (ExitCode.READER_LEFT, b"")


def test_a_full_disk_is_no_verdict():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trailgate.cli.main", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == ExitCode.UNDETERMINED
    assert os.strerror(errno.ENOSPC).encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_completion_knows_the_nouns():
    environment = {
        "COMP_WORDS": "trailgate att",
        "COMP_CWORD": "1",
        "_TRAILGATE_COMPLETE": "bash_complete",
    }
    assert run(env=environment, prog_name="trailgate").stdout == "plain,attest\n"
