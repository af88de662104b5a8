"""Data for people and for programs: ``-o table|json|csv`` on stdout."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

# Also the full-width forms, which some spreadsheets take for the same.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001


def output_option(*formats: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``-o/--output`` with these formats, the first being the default."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How to print the result.",
    )


def emit_json(value: Any) -> None:
    """Print one JSON document, keys in the given order."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def emit_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print aligned columns; a missing value is ``-``; control characters are made visible."""
    texts = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    texts[0] = [column.upper() for column in columns]
    widths = [max(len(line[index]) for line in texts) for index in range(len(columns))]
    for line in texts:
        click.echo("  ".join(map(str.ljust, line, widths)).rstrip())


def emit_fields(fields: Mapping[str, Any]) -> None:
    """Print one thing as lines of name and value."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        text = {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else _cell(value)
        click.echo(f"{name.ljust(width)}  {text}")


def emit_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print RFC 4180 CSV; a cell that a spreadsheet would run as a formula gets a ``'``.

    Control characters are made visible, those too that turn the direction of a text.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_guarded(row.get(column)) for column in columns])
    click.echo(buffer.getvalue(), nl=False)


def note(text: str) -> None:
    """Say something about progress on stderr."""
    click.echo(text, err=True)


def visible(text: str) -> str:
    """Replace control characters, so that data cannot steer the terminal."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else visible(str(value))


def _guarded(value: Any) -> str:
    text = "" if value is None else visible(str(value))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
