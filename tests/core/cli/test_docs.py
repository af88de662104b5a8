"""The pages say what the commands say."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from trailgate.cli import main as module
from trailgate.cli.main import main

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
BLOCKS = re.findall(r"```text\n\$ trailgate ([^\n]*) --help\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize(("words", "shown"), BLOCKS, ids=[words for words, _ in BLOCKS])
def test_the_help_on_the_page_is_the_commands_own(words, shown):
    done = CliRunner().invoke(main, [*words.split(), "--help"], env={"COLUMNS": "100"})
    assert done.stdout == shown


@pytest.mark.parametrize("noun", list(module.COMMANDS))
def test_every_command_is_on_the_page(noun):
    command = module.main.get_command(None, noun)
    names = getattr(command, "commands", None)
    expected = [f"{noun} {name}" for name in names] if names else [noun]
    assert set(expected) <= {words for words, _ in BLOCKS}
