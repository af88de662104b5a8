"""Real batches, sealed and signed."""

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trailgate.ledger.spool import BatchKind, Link, new_boot, seal

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Chain:
    """Makes batches that follow each other."""

    def __init__(self, boot=None):
        self.recorder = X25519PrivateKey.generate()
        self.signer = Ed25519PrivateKey.generate()
        self.link = Link.first(boot or new_boot(AT))

    def next(self, text="x", kind=BatchKind.ADMITTED):
        claim = {
            "decidedAt": "2026-11-23T12:00:00.000000Z",
            "text": text,
            "object": {"kind": "Deployment", "namespace": "shop", "name": "web"},
        }
        batch = seal(
            [claim],
            link=self.link,
            kind=kind,
            recorder_key=self.recorder.public_key(),
            signer=self.signer,
        )
        self.link = batch.following()
        return batch
