"""The real cosign and ours read what the other wrote; and neither takes what is spoiled.

On a real registry process, with the referrers API and without it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from e2e.controlplane.cosign import Cosign
from e2e.controlplane.registry import RegistryProcess
from tests.core.evidence.samples import CHANGE, PROVENANCE, TESTS
from trailgate.cli.main import main
from trailgate.cli.registry import by_digest, open_registry
from trailgate.evidence import change, keys, provenance, sign, simplesigning, testresult, verify
from trailgate.model.evidence import (
    Evidence,
    EvidenceFormat,
    PublicKey,
    StatementKind,
)
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason
from trailgate.oci import media
from trailgate.oci.attached import fetch_attached
from trailgate.oci.push import LegacyLayer, append_legacy

pytestmark = [pytest.mark.cosign, pytest.mark.registry]

PREDICATES = {
    StatementKind.PROVENANCE: (provenance.TYPE, PROVENANCE),
    StatementKind.TESTS: (testresult.TYPE, TESTS),
    StatementKind.CHANGE: (change.TYPE, CHANGE),
}
KINDS = [*PREDICATES]


@dataclass(frozen=True)
class Shop:
    """An image in a real registry, and a key of each tool."""

    cosign: Cosign
    image: ImageReference
    directory: Path
    ours: Path
    ours_public: PublicKey
    theirs: Path
    theirs_public: PublicKey

    def run(self, *arguments: str | Path):
        """Our command line."""
        done = CliRunner().invoke(
            main,
            [*map(str, arguments), "--allow-insecure-registry", self.image.registry],
            env={"TRAILGATE_KEY_PASSPHRASE": "", "HOME": str(self.directory)},
        )
        assert done.exit_code == 0, done.output
        return done

    def evidence(self, *trusted: PublicKey) -> Evidence:
        async def fetch():
            async with open_registry(self.image, [self.image.registry]) as client:
                return await fetch_attached(client, self.image)

        attached = asyncio.run(fetch())
        assert not attached.skipped
        return verify.verify(attached, trusted)

    def predicate(self, kind: StatementKind) -> Path:
        path = self.directory / "predicate.json"
        path.write_text(json.dumps(PREDICATES[kind][1]))
        return path


async def push_image(address: str, repository: str) -> ImageReference:
    target = ImageReference(address, repository, "v1")
    config = json.dumps({"architecture": "amd64", "os": "linux", "n": repository}).encode()
    async with open_registry(target, [address]) as client:
        digest = await client.push_blob(target, config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": {"mediaType": media.OCI_CONFIG, "digest": str(digest), "size": len(config)},
            "layers": [],
        }
        await client.push_manifest(target, json.dumps(manifest).encode(), media.OCI_MANIFEST)
        return await by_digest(client, target)


@pytest.fixture(scope="module", params=["referrers", "fallback tag"])
def address(request) -> str:
    name = "registry" if request.param == "referrers" else "registry_without_referrers"
    process: RegistryProcess = request.getfixturevalue(name)
    return process.address


@pytest.fixture(scope="module")
def pair(cosign: Cosign, tmp_path_factory) -> tuple[Path, Path, Path, Path]:
    directory = tmp_path_factory.mktemp("keys")
    key = keys.generate()
    (directory / "ours.key").write_bytes(keys.private_pem(key, None))
    (directory / "ours.pub").write_bytes(keys.public_pem(key.public))
    return (
        directory / "ours.key",
        directory / "ours.pub",
        *cosign.generate_key_pair(directory / "theirs"),
    )


@pytest.fixture
def shop(cosign, address, pair, tmp_path, request) -> Shop:
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    ours, ours_pub, theirs, theirs_pub = pair
    return Shop(
        cosign,
        asyncio.run(push_image(address, f"interop/{name}")),
        tmp_path,
        ours,
        keys.load_public_key(ours_pub.read_bytes()),
        theirs,
        keys.load_public_key(theirs_pub.read_bytes()),
    )


def test_cosign_signs_and_we_verify(shop, stored):
    shop.cosign.sign(str(shop.image), shop.theirs, legacy=stored is EvidenceFormat.LEGACY)
    (found,) = shop.evidence(shop.ours_public, shop.theirs_public).statements
    assert found.kind is StatementKind.SIGNATURE
    assert found.signer.fingerprint == shop.theirs_public.fingerprint
    assert found.format is stored


def test_we_sign_and_cosign_verifies(shop, stored, pair):
    shop.run("sign", shop.image, "--key", shop.ours, "--format", stored, "-a", "stage=release")
    legacy = stored is EvidenceFormat.LEGACY
    done = shop.cosign.verify(str(shop.image), pair[1], legacy=legacy)
    (said,) = json.loads(done.stdout)
    assert said["critical"]["image"]["docker-manifest-digest"] == str(shop.image.digest)
    assert said["optional"]["stage"] == "release"
    assert shop.cosign.verify(str(shop.image), pair[3], legacy=legacy, check=False).returncode


@pytest.mark.parametrize("kind", KINDS)
def test_cosign_attests_and_we_verify(shop, stored, kind):
    predicate_type, _ = PREDICATES[kind]
    shop.cosign.attest(
        str(shop.image),
        shop.theirs,
        shop.predicate(kind),
        predicate_type,
        legacy=stored is EvidenceFormat.LEGACY,
    )
    (found,) = shop.evidence(shop.theirs_public).statements
    assert (found.kind, found.predicate_type, found.format) == (kind, predicate_type, stored)
    assert found.signer.fingerprint == shop.theirs_public.fingerprint


def command_of(shop: Shop, kind: StatementKind) -> list[str | Path]:
    commit, repository = "1f" * 20, "https://github.com/acme/web"
    if kind is StatementKind.PROVENANCE:
        builder = ["--builder", "https://ci.example/runner/1"]
        return ["provenance", *builder, "--commit", commit, "--repository", repository]
    if kind is StatementKind.TESTS:
        report = shop.directory / "junit.xml"
        report.write_text('<testsuite name="unit"><testcase name="a"/></testsuite>')
        return ["tests", "--junit", report, "--commit", commit, "--repository", repository]
    record = shop.directory / "change.yaml"
    text = {key: value for key, value in CHANGE[change.EXTENSION].items() if key != "basis"}
    record.write_text(json.dumps(text))
    return ["change", "--file", record, "--verifier", "https://acme.example/verifier"]


@pytest.mark.parametrize("kind", KINDS)
def test_we_attest_and_both_verify(shop, stored, kind, pair):
    noun, *options = command_of(shop, kind)
    shop.run("attest", noun, shop.image, *options, "--key", shop.ours, "--format", stored)
    predicate_type, _ = PREDICATES[kind]
    legacy = stored is EvidenceFormat.LEGACY
    done = shop.cosign.verify_attestation(str(shop.image), pair[1], predicate_type, legacy=legacy)
    statement = json.loads(base64.b64decode(json.loads(done.stdout.splitlines()[0])["payload"]))
    assert statement["predicateType"] == predicate_type
    refused = shop.cosign.verify_attestation(
        str(shop.image), pair[3], predicate_type, legacy=legacy, check=False
    )
    assert refused.returncode
    (found,) = shop.evidence(shop.ours_public).statements
    assert (found.kind, found.format) == (kind, stored)


def test_both_tools_add_to_what_the_other_wrote(shop, stored, pair):
    """Neither overwrites: four signatures by turns, all there, all found by both."""
    legacy = stored is EvidenceFormat.LEGACY
    for _ in range(2):
        shop.run("sign", shop.image, "--key", shop.ours, "--format", stored)
        shop.cosign.sign(str(shop.image), shop.theirs, legacy=legacy)
    found = shop.evidence(shop.ours_public, shop.theirs_public)
    signers = sorted(item.signer.fingerprint for item in found.statements)
    # cosign leaves out a legacy signature where its key has signed the same payload before.
    ours, theirs = shop.ours_public.fingerprint, shop.theirs_public.fingerprint
    assert signers.count(ours) == 2
    assert signers.count(theirs) == (1 if legacy else 2)
    shop.cosign.verify(str(shop.image), pair[1], legacy=legacy)
    shop.cosign.verify(str(shop.image), pair[3], legacy=legacy)


def test_another_key_is_refused_by_both(shop, stored, pair):
    shop.cosign.sign(str(shop.image), shop.theirs, legacy=stored is EvidenceFormat.LEGACY)
    found = shop.evidence(shop.ours_public)
    assert not found.statements
    (rejected,) = found.rejected
    assert rejected.reason is Reason.SIGNER_MISMATCH
    bundled = stored is EvidenceFormat.BUNDLE
    assert rejected.signer_hint == (shop.theirs_public.fingerprint if bundled else None)
    legacy = not bundled
    assert shop.cosign.verify(str(shop.image), pair[1], legacy=legacy, check=False).returncode


def test_a_tampered_signature_is_refused_by_both(shop, stored, pair):
    """The payload of one signature under the signature of another."""
    key = keys.load_private_key(shop.ours.read_bytes(), None)
    one = sign.signature(shop.image, key, stored, {"a": "1"})
    two = sign.signature(shop.image, key, stored, {"a": "2"})

    async def attach():
        async with open_registry(shop.image, [shop.image.registry]) as client:
            if stored is EvidenceFormat.BUNDLE:
                good, other = json.loads(one.content), json.loads(two.content)
                good["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"]
                await client.attach(shop.image, json.dumps(good).encode(), sign.SIGN_TYPE)
            else:
                layer = LegacyLayer(simplesigning.MEDIA_TYPE, one.content, two.annotations)
                await append_legacy(client, shop.image, ".sig", layer)

    asyncio.run(attach())
    found = shop.evidence(shop.ours_public)
    (rejected,) = found.rejected
    bundled = stored is EvidenceFormat.BUNDLE
    assert rejected.reason is (Reason.SIGNATURE_INVALID if bundled else Reason.SIGNER_MISMATCH)
    assert not found.statements
    done = shop.cosign.verify(str(shop.image), pair[1], legacy=not bundled, check=False)
    assert done.returncode


def test_an_attestation_is_no_signature_for_us_although_it_is_for_cosign(shop, pair):
    """cosign takes any bundle by the key as a signature; that is why we look at the type."""
    shop.cosign.attest(
        str(shop.image), shop.theirs, shop.predicate(StatementKind.TESTS), testresult.TYPE
    )
    assert not shop.evidence(shop.theirs_public).of_kind(StatementKind.SIGNATURE)


@pytest.mark.parametrize("algorithm", ["p384", "rsa", "ed25519"])
def test_other_kinds_of_keys(shop, stored, algorithm):
    secret = {
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 3072),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    pem = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private, public = shop.directory / "k.pem", shop.directory / "k.pub"
    private.write_bytes(pem)
    key = keys.load_private_key(pem, None).public
    public.write_bytes(keys.public_pem(key))
    legacy = stored is EvidenceFormat.LEGACY

    shop.run("sign", shop.image, "--key", private, "--format", stored)
    shop.cosign.verify(str(shop.image), public, legacy=legacy)
    imported = shop.directory / "imported"
    shop.cosign.run("import-key-pair", "--key", private, "--output-key-prefix", imported)
    imported = imported.with_suffix(".key")
    shop.cosign.attest(
        str(shop.image),
        imported,
        shop.predicate(StatementKind.TESTS),
        testresult.TYPE,
        legacy=legacy,
    )
    found = shop.evidence(key)
    assert [item.kind for item in found.of_kind(StatementKind.SIGNATURE)]
    if algorithm == "ed25519":
        # cosign signs statements with Ed25519ph, which we do not read: we say so.
        (rejected,) = found.rejected
        if legacy:
            assert rejected.reason is Reason.SIGNER_MISMATCH
        else:
            assert "Ed25519ph" in rejected.detail
    else:
        assert found.of_kind(StatementKind.TESTS)
