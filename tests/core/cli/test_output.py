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


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_csv_cell_is_no_formula(cell):
    text = printed(output.emit_csv, ("a",), [{"a": cell}])
    ((_,), (read,)) = csv.reader(io.StringIO(text, newline=""))
    assert read == f"'{cell}"


def test_csv_is_rfc_4180():
    rows = [{"a": 'x,"y"\nz', "b": None}]
    assert printed(output.emit_csv, ("a", "b"), rows) == 'a,b\r\n"x,""y""\nz",\r\n'


def test_fields_are_lines():
    fields = {"name": "x", "encrypted": True, "plain": False, "none": None}
    assert printed(output.emit_fields, fields) == (
        "name       x\nencrypted  yes\nplain      no\nnone       -\n"
    )
