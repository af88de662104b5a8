"""The command ``trailgate``: one module per noun, loaded when it is asked for."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from trailgate import __version__
from trailgate.cli.errors import ExitCode, exit_code
from trailgate.cli.lazy import load
from trailgate.model.errors import TrailgateError

#: Noun, module (which exposes a click command named ``command``), and its line in the help.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "key": ("trailgate.cli.key", "Make key pairs."),
    "sign": ("trailgate.cli.sign", "Sign an image."),
    "attest": ("trailgate.cli.attest", "State provenance, tests or a change about an image."),
    "verify": ("trailgate.cli.verify", "Say what holds for an image under a policy."),
    "policy": ("trailgate.cli.policy", "Check and try policies."),
    "ledger": ("trailgate.cli.ledger", "Read and verify the trail."),
    "disarm": ("trailgate_kube.cli.disarm", "Make the gate stand aside for a while."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used.

    It also turns every way to fail into a line on stderr and one of the documented
    exit codes, so that no crash is ever read as a negative verdict.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """List the nouns in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the noun's module."""
        if cmd_name not in COMMANDS:
            return None
        return load(COMMANDS[cmd_name][0], cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(noun, text) for noun, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has left (``| head``) says nothing about a verdict."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # click would exit 1 here. Keep Python from failing again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(ExitCode.READER_LEFT)
        return result

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and exit with a documented code."""
        extra["standalone_mode"] = False
        extra.setdefault("prog_name", "trailgate")
        try:
            # What ctx.exit() was given, or what the command returned.
            code = super().main(*args, **extra)
            sys.stdout.flush()
        except click.exceptions.Abort:
            _fail("interrupted", ExitCode.INTERRUPTED)
        except click.ClickException as error:
            error.show()
            sys.exit(ExitCode.USAGE)
        except TrailgateError as error:
            _fail(str(error), exit_code(error))
        except Exception as error:  # noqa: BLE001  a crash must not exit 1
            if os.environ.get("TRAILGATE_DEBUG"):
                traceback.print_exc()
            _fail(
                f"internal error: {type(error).__name__}: {error} "
                "(TRAILGATE_DEBUG=1 shows where; please report it)",
                ExitCode.UNDETERMINED,
            )
        sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _fail(text: str, code: ExitCode) -> NoReturn:
    click.echo(f"trailgate: {' '.join(text.split())}", err=True)
    try:
        sys.stdout.flush()
    except OSError:  # a full disk: Python would fail again at exit, with a code of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


@click.group(
    "trailgate",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="trailgate")
def main() -> None:
    """Deploy trail and admission gate for Kubernetes.

    Exit codes: 0 ok, 1 negative verdict, 2 usage, 3 could not determine,
    4 authentication. Data goes to stdout, everything else to stderr.
    """


if __name__ == "__main__":
    main()
