import csv
import io

import click
import pytest
from click.testing import CliRunner

from trailgate.cli import output


def printed(function, *arguments) -> str:
    command = click.Command("x", callback=lambda: function(*arguments))
    return CliRunner().invoke(command, []).stdout_bytes.decode()


def test_a_table_is_aligned_and_steers_no_terminal():
    rows = [{"a": "\x1b[2J\u202e", "b": 1}, {"a": None, "b": ""}]
    assert printed(output.emit_table, ("a", "b"), rows) == (
        "A                B\n\\u001b[2J\\u202e  1\n-                -\n"
    )


def cell_of(value):
    text = printed(output.emit_csv, ("a",), [{"a": value}])
    ((_,), (read,)) = csv.reader(io.StringIO(text, newline=""))
    return read


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@x", "  =1+1", " @x", "\uff1d1+1", "\uff20x"]
)
def test_a_csv_cell_is_no_formula(cell):
    assert cell_of(cell) == f"'{cell}"


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("\t=1", "\\u0009=1"),
        ("\r=1", "\\u000d=1"),
        ("\n=1", "\\u000a=1"),
        ("\u202ebob", "\\u202ebob"),
        ("a\u2066b", "a\\u2066b"),
        ("\xa0=1", "\\u00a0=1"),
    ],
)
def test_what_cannot_be_seen_in_a_csv_cell_is_made_visible(cell, shown):
    assert cell_of(cell) == shown


def test_csv_is_rfc_4180():
    rows = [{"a": 'x,"y" z', "b": None}]
    assert printed(output.emit_csv, ("a", "b"), rows) == 'a,b\r\n"x,""y"" z",\r\n'


def test_fields_are_lines():
    fields = {"name": "x", "encrypted": True, "plain": False, "none": None}
    assert printed(output.emit_fields, fields) == (
        "name       x\nencrypted  yes\nplain      no\nnone       -\n"
    )
