"""``trailgate ledger repair``: make anew what the recorder goes by, from the entries."""

from __future__ import annotations

from pathlib import Path

import click

from trailgate.cli.ledger_options import (
    known_checkpoint_option,
    ledger_option,
    note_progress,
)
from trailgate.cli.output import note, visible


@click.command()
@ledger_option
@click.option(
    "--log-key",
    "key_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The log's signing key: the entries are held against it, nothing is signed anew.",
)
@known_checkpoint_option("The recorder's file: a ledger that has less, or other, is not changed.")
def repair(path: Path, key_path: Path, known: Path | None) -> None:
    """Make the recorder's own notes anew from the entries: dedupe keys and positions.

    For a recorder that ends with "names an entry, which is another one" or "the
    position says". Verifies first: where the entries or their tree don't hold, it
    changes nothing (exit code 3). Prints each change. The recorder must be stopped.
    """
    from trailgate.ledger.keys import read_signing_key
    from trailgate.ledger.known import require_known
    from trailgate.ledger.repair import repair as run

    signed = None if known is None else require_known(known)
    done = run(path, read_signing_key(key_path), known=signed, progress=note_progress)
    for change in done.changes:
        click.echo(visible(change))
    if not done.changes:
        note(f"nothing to repair: the notes agree with the {done.before.size} entries")
        return
    note(f"changed {len(done.changes)} notes; none of the {done.before.size} entries was touched")
    note("somebody wrote to this file who should not: find out who can")
