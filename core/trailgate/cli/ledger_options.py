"""What the ledger's commands have in common: which ledger, and which entries of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from trailgate.cli.output import note

_SQLITE: Final = "sqlite:"
_PROGRESS_EVERY: Final = 100_000
#: The values of `trailgate.ledger.record.Kind`, which is not imported for its weight.
KINDS: Final = (
    "admitted",
    "refused",
    "persisted",
    "running",
    "ended",
    "not-persisted",
    "discrepancy",
    "baseline",
    "control-state",
    "control-test",
    "heartbeat",
    "disarm",
    "gap",
    "erasure",
)
#: A change is admitted, or what ``trailgate.ledger.index_rows.STAGES`` says became of it.
STATES: Final = ("admitted", "persisted", "running", "ended", "not-persisted")
OUTCOMES: Final = ("admitted", "refused", "passed", "failed", "undetermined")


class LedgerAddress(click.ParamType[Path]):
    """``sqlite:PATH``."""

    name = "sqlite:PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Take the path out of the address."""
        if isinstance(value, Path):
            return value
        path = str(value).removeprefix(_SQLITE)
        if path == str(value) or not path:
            self.fail(f"got {value!r}, expected sqlite:PATH", param, ctx)
        return Path(path)


class Moment(click.ParamType[datetime]):
    """A time or a date, in UTC where nothing else is said."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read RFC 3339."""
        from trailgate.ledger.query import moment
        from trailgate.model.errors import MalformedError

        try:
            return moment(str(value))
        except MalformedError as error:
            self.fail(str(error), param, ctx)


def ledger_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--ledger``."""
    return click.option(
        "--ledger",
        "path",
        type=LedgerAddress(),
        required=True,
        envvar="TRAILGATE_LEDGER",
        show_envvar=True,
        help="Which ledger.",
    )(function)


def known_checkpoint_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--known-checkpoint``, with this help."""
    return click.option("--known-checkpoint", "known", type=click.Path(path_type=Path), help=text)


def note_progress(done: int, total: int) -> None:
    """Tell how far verifying has come, where it takes a while."""
    from trailgate.ledger.walk import CHUNK

    if total > _PROGRESS_EVERY and (done % _PROGRESS_EVERY < CHUNK or done == total):
        note(f"verified {done} of {total} entries")


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each member of ``trailgate.ledger.query.Filter``."""
    options = (
        click.option("--from", "start", type=Moment(), help="Decided at this time or later."),
        click.option("--to", "end", type=Moment(), help="Decided before this time."),
        click.option("--kind", type=click.Choice(KINDS)),
        click.option("--state", type=click.Choice(STATES), help="What became of a change, so far."),
        click.option("--outcome", type=click.Choice(OUTCOMES)),
        click.option("-n", "--namespace", help="Of the workload."),
        click.option("--workload", help="Its name, or KIND/NAME."),
        click.option("--committer", help="An id like github:1001, or a login."),
        click.option("--approver", help="An id like github:1002, or a login."),
        click.option("--caller", help="Who sent the request: a Kubernetes user."),
        click.option("--image", help="A digest, sha256:…"),
        click.option("--commit", help="A commit, or its first 7 or more digits."),
    )
    for option in reversed(options):
        function = option(function)
    return function
