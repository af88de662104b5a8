"""``trailgate ledger erase``: forget a person, and say so in the trail."""

from __future__ import annotations

from pathlib import Path

import click

from trailgate.cli.errors import ExitCode
from trailgate.cli.ledger_options import known_checkpoint_option, ledger_option
from trailgate.cli.output import note, visible


@click.command()
@ledger_option
@click.argument("person")
@click.option(
    "--log-key",
    "key_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The log's signing key: an entry says that something was erased.",
)
@known_checkpoint_option(
    "The recorder's file: a ledger that has less, or other, than it says is not written to, and "
    "afterwards it has the new checkpoint."
)
@click.option("--reason", help="Why, for the entry; don't name the person.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def erase(
    path: Path,
    person: str,
    key_path: Path,
    known: Path | None,
    reason: str | None,
    *,
    yes: bool,
) -> None:
    """Forget PERSON, an id like github:1001, for good.

    Deletes what opens that person's commitments, and appends the entry that says
    so, in one transaction. The recorder must be stopped: a ledger has one writer.
    Exit code 1: nobody in this ledger has that id (any more).
    """
    from datetime import UTC, datetime

    from trailgate.ledger.erasure import carry_out, plan
    from trailgate.ledger.keys import read_signing_key
    from trailgate.ledger.known import require_known, write_known
    from trailgate.ledger.sqlite import SqliteStore

    shown = visible(person)
    signed = None if known is None else require_known(known)
    with SqliteStore(path, read_signing_key(key_path), known=signed) as store:
        found = plan(store, person)
        if not found.rows:
            note(f"nobody in this ledger has the id {shown}; nothing was erased")
            raise SystemExit(ExitCode.NEGATIVE)
        if not yes:
            question = f"Erase {shown} ({len(found.commitments)} values) for good?"
            click.confirm(question, abort=True, err=True)
        entries = carry_out(store, found, datetime.now(UTC), reason=reason)
        which = ", ".join(map(str, entries))
        click.echo(f"erased {shown}: {len(found.commitments)} values, recorded in entry {which}")
        if known is not None:
            write_known(known, store.checkpoint())
    note("a copy of the ledger from before still opens them: erase there too, or let it expire")
