"""``trailgate ledger verify``: the verdict on a ledger, and on the index beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from trailgate.cli import files
from trailgate.cli.errors import ExitCode
from trailgate.cli.ledger_options import ledger_option, note_progress
from trailgate.cli.output import emit_json, output_option, visible

if TYPE_CHECKING:
    from trailgate.ledger.index_check import IndexVerdict
    from trailgate.ledger.verify import Verification

_LABEL: Final = 24
_MAX_CHECKPOINT: Final = 1024 * 1024


@click.command()
@ledger_option
@click.option("--vkey", "vkeys", multiple=True, help="The log's public key, or a file with it.")
@click.option(
    "--checkpoint",
    "kept",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="A signed checkpoint that was kept elsewhere.",
)
@output_option("table", "json")
def verify(path: Path, vkeys: tuple[str, ...], kept: tuple[Path, ...], output: str) -> None:
    """Verify every record, the tree, the signatures and the people.

    Exit codes: 0 it holds, 1 it doesn't, 3 it is consistent in itself, but without
    --vkey nobody vouches for it, or lists of it may lack something: its query index
    does not agree with it (run: trailgate ledger reindex).
    """
    from trailgate.ledger.errors import LedgerCorruptError
    from trailgate.ledger.index_check import IndexCheck
    from trailgate.ledger.keys import read_verifier_key
    from trailgate.ledger.sqlite_reader import SqliteReader
    from trailgate.ledger.verify import Outside
    from trailgate.ledger.verify import verify as run

    keys = [read_verifier_key(text) for text in vkeys]
    outside = [
        Outside(str(file), files.read(file, _MAX_CHECKPOINT).decode("utf-8", "replace"))
        for file in kept
    ]
    try:
        with SqliteReader(path) as reader:
            index = IndexCheck(reader)
            result = run(reader, keys, outside, progress=note_progress, index=index)
    except LedgerCorruptError as error:
        if output == "json":
            emit_json({"holds": False, "problems": [{"index": None, "what": str(error)}]})
        else:
            click.echo(f"FAILED: {visible(str(error))}")
        raise SystemExit(ExitCode.NEGATIVE) from None
    if output == "json":
        emit_json(_verification(result))
    else:
        _print(result, compared=bool(outside))
    if not result.holds:
        raise SystemExit(ExitCode.NEGATIVE)
    if not result.authenticated or not result.findable:
        raise SystemExit(ExitCode.UNDETERMINED)


def _verification(result: Verification) -> dict[str, Any]:
    return {
        "holds": result.holds,
        "authenticated": result.authenticated,
        "origin": result.origin,
        "entries": result.size,
        "root": result.root,
        "checkpoints": result.checkpoints,
        "anchored": result.anchored,
        "problems": [
            {"index": one.index, "what": one.what, "expected": one.expected, "found": one.found}
            | {"part": one.part.value}
            for one in result.problems
        ],
        "moreProblems": result.more,
        "notes": list(result.notes),
        "index": None
        if result.index is None
        else {
            "state": result.index.state.value,
            "entries": result.index.size,
            "problems": list(result.index.problems),
        },
    }


def _print(result: Verification, *, compared: bool) -> None:
    for name, value in (
        ("log", result.origin),
        ("entries", result.size),
        ("root", result.root),
        ("checkpoints", f"{result.checkpoints} stored ones hold"),
        ("anchored", _anchored(result, compared=compared)),
        ("index", _index_text(result.index)),
        *(("note", text) for text in result.notes),
    ):
        click.echo(f"{name.ljust(_LABEL)}{visible(str(value))}")
    for one in result.problems:
        where = "" if one.index is None else f"entry {one.index}: "
        click.echo(f"FAILED: {where}{visible(one.what)}")
        for name, text in (("expected", one.expected), ("found", one.found)):
            if text is not None:
                click.echo(f"    {name.ljust(9)}{visible(text)}")
    if result.more:
        click.echo(f"FAILED: and {result.more} more")
    if result.repairable:
        click.echo("the entries hold; for the recorder's own notes run: trailgate ledger repair")
    if not result.findable:
        click.echo("a list of it may lack something, until: run: trailgate ledger reindex")
    if result.holds and result.authenticated:
        click.echo("ok" if result.findable else "the ledger itself holds")
    elif result.holds:
        click.echo(
            "self-consistent, not authenticated: no --vkey was given, so whoever made the file "
            "may have made it up"
        )


def _index_text(index: IndexVerdict | None) -> str:
    if index is None:
        return "was not looked at"
    text = {
        "none": "none; made when it is used",
        "unused": "another ledger's, or another version's; made anew when it is used",
        "agrees": f"agrees with entries 0 to {index.size - 1}",
        "disagrees": "does not agree with the entries",
        "undetermined": "can't be compared",
    }[index.state.value]
    return "; ".join((text, *index.problems))


def _anchored(result: Verification, *, compared: bool) -> str:
    if result.anchored is not None:
        return f"up to size {result.anchored}, by a checkpoint from outside"
    if compared:
        return "no checkpoint from outside agrees"
    return "by nothing (no --checkpoint): entries dropped from the end would not show"
