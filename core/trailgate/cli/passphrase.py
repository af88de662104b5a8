"""Passphrases come from the environment or a prompt, never from an argument.

Arguments are seen by every process of the machine and kept in shell histories.
"""

from __future__ import annotations

import os
import sys

import click

from trailgate.cli.errors import InputError

VARIABLE = "TRAILGATE_KEY_PASSPHRASE"


def new() -> bytes | None:
    """Ask for the passphrase of a new key; None where it is to have none."""
    text = os.environ.get(VARIABLE)
    if text is None:
        if not sys.stdin.isatty():
            raise InputError(
                f"no passphrase: set {VARIABLE} (empty for a key without one), "
                "or run this in a terminal"
            )
        text = click.prompt(
            "Passphrase for the new key (empty for none)",
            default="",
            show_default=False,
            hide_input=True,
            confirmation_prompt=True,
            err=True,
        )
    return text.encode("utf-8") or None


def existing(name: str) -> bytes | None:
    """Ask for the passphrase of an encrypted key; None where there is nobody to ask."""
    text = os.environ.get(VARIABLE)
    if text is None:
        if not sys.stdin.isatty():
            raise InputError(f"{name} is encrypted: set {VARIABLE}, or run this in a terminal")
        text = click.prompt(f"Passphrase of {name}", hide_input=True, err=True)
    return str(text).encode("utf-8") or None
