"""``trailgate ledger``: make, read, verify and prove the trail."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from trailgate.cli.errors import ExitCode, InputError
from trailgate.cli.ledger_erase import erase
from trailgate.cli.ledger_options import filter_options, ledger_option
from trailgate.cli.ledger_repair import repair
from trailgate.cli.ledger_verify import verify
from trailgate.cli.output import (
    emit_csv,
    emit_json,
    emit_table,
    note,
    output_option,
    visible,
)

if TYPE_CHECKING:
    from trailgate.ledger.sqlite_reader import SqliteReader

_LABEL: Final = 24
_WIDTH: Final = 100

# The columns of a table; json and csv have all of them, and whole.
_TABLE: Final = (
    "index",
    "decidedAt",
    "kind",
    "state",
    "enforced",
    "namespace",
    "workload",
    "caller",
    "committers",
    "approvers",
    "tests",
    "images",
    "count",
)


@click.group()
def command() -> None:
    """Read and verify the trail."""


@command.command()
@ledger_option
@click.option("--origin", required=True, help="The log's name, like example.com/trail/prod-eu.")
@click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path),
    required=True,
    help="Where the log's new signing key goes (mode 600).",
)
@click.option(
    "--vkey",
    "vkey_path",
    type=click.Path(path_type=Path),
    help="Where its public half goes, for auditors to keep.  [default: the key's name with .vkey]",
)
def init(path: Path, origin: str, key_path: Path, vkey_path: Path | None) -> None:
    """Make an empty ledger, and the key that signs it."""
    from trailgate.ledger import sqlite
    from trailgate.ledger.errors import LedgerError, LedgerExistsError
    from trailgate.ledger.keys import write_signing_key, write_verifier_key
    from trailgate.tlog.note import SigningKey

    public = vkey_path or key_path.with_suffix(".vkey")
    for file in (path, key_path, public):
        if file.exists():
            raise LedgerExistsError(f"{file} is already there; nothing was changed")
    key = SigningKey.generate(origin)
    write_signing_key(key_path, key)
    try:
        write_verifier_key(public, key.verifier)
        sqlite.create(path, key)
    except LedgerError:
        # A key without a ledger would only be in the way of the next try.
        for file in (key_path, public):
            file.unlink(missing_ok=True)
        raise
    note(f"made the ledger {path}, its key {key_path} (keep it secret) and {public}")
    note("give the vkey to whoever will verify, by another way than the ledger itself:")
    click.echo(str(key.verifier))


@command.command(name="list")
@ledger_option
@filter_options
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest so many.")
@output_option("table", "json", "csv")
def list_(path: Path, limit: int | None, output: str, **asked: Any) -> None:
    """List changes, and what else the trail tells: one row a change.

    Without --limit, all that match. A value that is not there is printed as
    "null, REASON".
    """
    from trailgate.ledger.query import Filter, Question
    from trailgate.ledger.summary import COLUMNS, summary

    with _open(path) as reader, _index(reader) as index:
        question = Question(reader, index)
        found = question.select(Filter(**asked))
        shown = found if limit is None else found[-limit:]
        rows = [summary(one) for one in question.find(shown)]
        size = reader.count()
    for name in question.unknown:
        note(f"nobody in this ledger has the id or login {visible(name)}")
    if len(shown) < len(found):
        note(f"the newest {len(shown)} of {len(found)} rows; without --limit all are listed")
    if output == "json":
        total = {"entries": size, "matching": len(found), "rows": [row.plain() for row in rows]}
        emit_json(total)
    elif output == "csv":
        emit_csv(COLUMNS, [row.cells() for row in rows])
    else:
        emit_table(_TABLE, [row.short() for row in rows])


@command.command()
@ledger_option
@click.argument("index", type=click.IntRange(min=0))
@output_option("table", "json", "html")
def show(path: Path, index: int, output: str) -> None:
    """Tell one entry in plain language: who, what, when, under which policy."""
    from trailgate.ledger.plain import plain
    from trailgate.ledger.query import Question
    from trailgate.ledger.readable import Reader
    from trailgate.report.html import Proof, page

    with _open(path) as reader, _index(reader) as tables:
        proof = Proof(reader.log().origin, reader.count(), reader.checkpoint())
        question = Question(reader, tables)
        claims, first = tables.claims(index)
        found = question.read(index, claims, first)
    if output == "json":
        clear = Reader(found.record, found.revealed).clear(found.record)
        emit_json(
            {"index": index, "claims": claims, "first": first}
            | {"record": found.record, "clear": clear}
        )
        return
    if output == "html":
        click.echo(page(index, plain(found), proof), nl=False)
        return
    for name, text in plain(found):
        lines = textwrap.wrap(visible(text), _WIDTH, break_on_hyphens=False, break_long_words=False)
        for number, line in enumerate(lines or [""]):
            label = name if number == 0 else ""
            click.echo(f"{label.ljust(_LABEL)}{line}".rstrip())


@command.command()
@ledger_option
def checkpoint(path: Path) -> None:
    """Print the newest signed checkpoint, to be kept elsewhere."""
    with _open(path) as reader:
        click.echo(reader.checkpoint(), nl=False)


@command.command()
@ledger_option
@click.argument("index", type=click.IntRange(min=0))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where the receipt goes (NAME.tlog-proof).  [default: stdout]",
)
@click.option(
    "--entry",
    "entry_path",
    type=click.Path(path_type=Path),
    help="Where the entry's own bytes go: the receipt is about exactly these.",
)
def receipt(path: Path, index: int, out: Path | None, entry_path: Path | None) -> None:
    """Write a receipt: that the log has this entry, verifiable without the ledger."""
    from trailgate.ledger.receipts import receipt as make

    with _open(path) as reader:
        (record,) = reader.records(index, index + 1)
        text = make(reader, index).encode()
    if entry_path is not None:
        _write(entry_path, record)
    if out is None:
        click.echo(text, nl=False)
    else:
        _write(out, text.encode())


@command.command(name="verify-receipt")
@click.argument("receipt_path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--entry",
    "entry_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="The entry's own bytes.",
)
@click.option(
    "--vkey", "vkeys", multiple=True, required=True, help="The log's public key, or a file with it."
)
def verify_receipt(receipt_path: Path, entry_path: Path, vkeys: tuple[str, ...]) -> None:
    """Verify a receipt offline: no ledger, no network."""
    from trailgate.ledger.keys import read_verifier_key
    from trailgate.tlog.errors import ProofError, SignatureError
    from trailgate.tlog.proof import Receipt

    keys = [read_verifier_key(text) for text in vkeys]
    found = Receipt.parse(_read(receipt_path))
    try:
        head = found.verify(_read(entry_path), keys)
    except (ProofError, SignatureError) as error:
        click.echo(f"FAILED: {visible(str(error))}")
        raise SystemExit(ExitCode.NEGATIVE) from None
    click.echo(f"ok: entry {found.index} of {head.origin}, in its tree of {head.size} entries")


@command.command()
@ledger_option
def reindex(path: Path) -> None:
    """Make the query index anew from the records; nothing else rests on it."""
    from trailgate.ledger.index import Index, index_path

    with _open(path) as reader, Index(reader, rebuild=True) as index:
        where = "in memory only" if index.in_memory else str(index_path(path))
        note(f"indexed {reader.count()} entries, {where}")


command.add_command(erase)
command.add_command(repair)
command.add_command(verify)


@contextmanager
def _open(path: Path) -> Iterator[SqliteReader]:
    from trailgate.ledger.sqlite_reader import SqliteReader

    with SqliteReader(path) as reader:
        yield reader


@contextmanager
def _index(reader: SqliteReader) -> Iterator[Any]:
    from trailgate.ledger.index import Index

    with Index(reader) as index:
        if index.in_memory:
            note("the index beside the ledger can't be written: it was made in memory")
        yield index


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"can't read {path}: {error}") from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"can't write {path}: {error}") from error
    note(f"wrote {path}")
