"""Everything that the real command needs, in one directory; and the recorder's view of its spool."""

import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.bench.webhook_process import issue
from trailgate.ledger.chain import follow
from trailgate.ledger.spool import Batch, open_batch
from trailgate.ledger.spoolkeys import key_id, private_pem, public_pem

RELEASE = ec.generate_private_key(ec.SECP256R1())


def policy(
    namespace="guarded", mode="Enforce", image="ghcr.io/acme/*", name="production", pem=None
):
    """A policy that asks for a signature."""
    return {
        "apiVersion": "trailgate.dev/v1alpha1",
        "kind": "DeployPolicy",
        "metadata": {"name": name},
        "spec": {
            "mode": mode,
            "namespaces": [namespace],
            "callers": {
                "serviceAccounts": ["ci/deployer"],
                "users": ["dana@example.com"],
            },
            "rules": [
                {
                    "images": [image],
                    "signature": {"signers": [{"name": "release", "key": pem or release_pem()}]},
                }
            ],
        },
    }


def release_pem():
    return public_pem(RELEASE.public_key()).decode()


class World:
    """Keys, certificate, policies and spool of one gate."""

    def __init__(self, root: Path):
        self.root = root
        self.certs = root / "certs"
        self.policies = root / "policies"
        self.spool = root / "spool"
        for directory in (self.certs, self.policies, self.spool):
            directory.mkdir()
        issue(self.certs)
        self.recorder, self.signer = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        (root / "recorder.pub").write_bytes(public_pem(self.recorder.public_key()))
        (root / "gate.key").write_bytes(private_pem(self.signer))
        self.holding = None
        """A socket that a test keeps open."""
        self.set_policy(policy())

    def set_policy(self, *documents):
        text = "\n---\n".join(json.dumps(document) for document in documents)
        draft = self.root / "draft"
        draft.write_text(text)
        draft.rename(self.policies / "policies.yaml")

    def options(self, **changes):
        """The command's options; None leaves one out, a list repeats it."""
        found = {
            "listen": "127.0.0.1:0",
            "tls-cert": self.certs / "tls.crt",
            "tls-key": self.certs / "tls.key",
            "recorder-public-key": self.root / "recorder.pub",
            "gate-key": self.root / "gate.key",
            "policy-dir": self.policies,
            "spool-dir": self.spool,
            "cluster-uid": "6b0f4f0e",
            "drain-delay": 0,
        } | {name.replace("_", "-"): value for name, value in changes.items()}
        arguments = [sys.executable, "-m", "trailgate_webhook.main"]
        for name, value in found.items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    arguments += [f"--{name}", str(one)]
        return arguments

    def opened(self):
        """[(batch, claims)] in order, after holding each boot's chain to be without a fault."""
        files = sorted(self.spool.glob("*.json"))
        batches = {Batch.from_spec(json.loads(path.read_bytes())): path.stem for path in files}
        signers = {key_id(self.signer.public_key()): self.signer.public_key()}
        steps = follow({}, batches).steps
        assert all(isinstance(step, Batch) for step in steps), steps
        return [
            (
                step,
                open_batch(
                    step, name=batches[step], recorder_keys=[self.recorder], signer_keys=signers
                ),
            )
            for step in steps
        ]

    def claims(self, kind):
        return [claim for _, claims in self.opened() for claim in claims if claim["kind"] == kind]
