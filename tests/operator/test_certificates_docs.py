"""The page names every option of the two scripts, with its default, and every key of the Secrets."""

import re

import pytest

from tests.operator.test_docs import REFERENCE, cells
from trailgate_operator import keyring
from trailgate_operator.certificates_plan import Lifetimes
from trailgate_operator.certificates_state import (
    ACTIVE_KEY,
    AUTHORITY,
    BUNDLE,
    JOINING_KEY,
    LEAF,
    LEAF_KEY,
    SERVING,
)
from trailgate_operator.prepare_command import command as prepare
from trailgate_operator.uninstall_command import command as uninstall

PAGE = (REFERENCE / "certificates.md").read_text()


def part(heading):
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", [prepare, uninstall], ids=["prepare", "uninstall"])
def test_every_option_and_its_default(command):
    heading = f"trailgate-operator-{'prepare' if command is prepare else 'uninstall'}"
    text = part(heading).partition("| option |")[2].partition("\n\n")[0]
    described = dict(zip(cells(text, 0), cells(text, 1), strict=True))
    parameters = {one.opts[0]: one for one in command.params if one.name not in ("version", "help")}
    assert {name.strip("`").split()[0] for name in described} == set(parameters)
    for name, default in described.items():
        parameter = parameters[name.strip("`").split()[0]]
        assert (default == "required") == parameter.required, name
        if default.startswith("`"):
            assert default == f"`{parameter.default}`"


def test_every_secret_and_its_keys():
    secrets = {
        keyring.GATE: {keyring.GATE_KEY, keyring.RECORDER_PUB, keyring.REVIEW_TOKEN},
        keyring.RECORDER: {keyring.RECORDER_KEY, keyring.GATE_PUB},
        keyring.LOG: {keyring.LOG_KEY, keyring.LOG_VKEY},
        AUTHORITY: {BUNDLE, ACTIVE_KEY, JOINING_KEY},
        SERVING: {LEAF, LEAF_KEY, "kubernetes.io/tls"},
    }
    text = PAGE.partition("| Secret |")[2].partition("\n\n")[0]
    described = dict(zip(cells(text, 0), cells(text, 1), strict=True))
    assert {
        name.strip("`"): set(re.findall(r"`([^`]+)`", keys)) for name, keys in described.items()
    } == secrets


def test_the_lifetimes():
    lifetimes = Lifetimes()
    assert f"| leaf | {lifetimes.leaf.days} days | when {lifetimes.leaf.days // 3} days" in PAGE
    assert f"| authority | {lifetimes.authority.days} days |" in PAGE
    assert f"for {lifetimes.overlap.seconds // 60} minutes (**overlap**)" in PAGE
    assert lifetimes.grace.seconds == 3600
    assert "for an hour (**grace**)" in PAGE
