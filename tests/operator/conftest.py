"""A whole installation's files, made once a test."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trailgate.ledger import spoolkeys, sqlite
from trailgate.ledger.keys import write_signing_key
from trailgate.tlog.note import SigningKey
from trailgate_operator.configuration import Configuration


class Place:
    """Keys, an empty ledger and a directory elsewhere."""

    def __init__(self, directory):
        self.directory, self.log = directory, SigningKey.generate("log.example/trail")
        self.known = directory / "elsewhere" / "checkpoint"
        self.known.parent.mkdir()
        gate, recorder = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
        (directory / "gate.pub").write_bytes(spoolkeys.public_pem(gate.public_key()))
        (directory / "recorder.key").write_bytes(spoolkeys.private_pem(recorder))
        write_signing_key(directory / "log.key", self.log)
        sqlite.create(directory / "ledger.db", self.log)

    def configuration(self, **changes):
        made = Configuration(
            ledger=self.directory / "ledger.db",
            log_key=self.directory / "log.key",
            recorder_keys=(self.directory / "recorder.key",),
            gate_keys=(self.directory / "gate.pub",),
            known=self.known,
        )
        return replace(made, **changes)

    def options(self, **changes):
        """The command line; None leaves an option out."""
        options = {
            "ledger": f"sqlite:{self.directory / 'ledger.db'}",
            "log_key": self.directory / "log.key",
            "recorder_key": self.directory / "recorder.key",
            "gate_public_key": self.directory / "gate.pub",
            "known_checkpoint": self.known,
            "kubeconfig": self.directory / "kubeconfig",
        } | changes
        return [
            text
            for name, value in options.items()
            if value is not None
            for text in (f"--{name.replace('_', '-')}", str(value))
        ]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)
