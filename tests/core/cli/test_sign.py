import json

import pytest

from trailgate.evidence import keys
from trailgate.model.digest import Digest
from trailgate.model.evidence import EvidenceFormat, StatementKind

pytestmark = pytest.mark.registry


def test_signing_says_what_is_where(workbench):
    done = workbench.run("sign", workbench.image, "--key", workbench.key_file, "-o", "json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    (found,) = workbench.evidence().statements
    assert said["image"] == str(workbench.image)
    assert said["digest"] == str(found.digest)
    assert said["format"] == "bundle"
    assert Digest.parse(said["manifest"])
    assert found.kind is StatementKind.SIGNATURE
    assert done.stderr == ""


def test_a_tag_is_resolved_and_its_digest_said(workbench):
    done = workbench.run("sign", workbench.tagged, "--key", workbench.key_file)
    assert done.exit_code == 0, done.stderr
    assert f"{workbench.tagged} is {workbench.image.digest}" in done.stderr
    assert str(workbench.image) in done.stdout
    assert workbench.evidence().statements


def test_legacy_and_annotations(workbench):
    done = workbench.run(
        "sign", workbench.image, "--key", workbench.key_file, "--format", "legacy",
        "-a", "stage=prod", "-a", "x=a=b",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    (found,) = workbench.evidence().statements
    assert found.format is EvidenceFormat.LEGACY
    assert found.predicate.annotations == (("stage", "prod"), ("x", "a=b"))


def test_the_key_may_come_from_the_environment(workbench):
    env = {"SECRET_KEY": workbench.key_file.read_text(), "TRAILGATE_KEY": "env://SECRET_KEY"}
    assert workbench.run("sign", workbench.image, env=env).exit_code == 0
    assert workbench.evidence().statements


def test_an_encrypted_key_needs_its_passphrase(workbench):
    workbench.key_file.write_bytes(keys.private_pem(workbench.key, b"right"))
    sign = ("sign", workbench.image, "--key", workbench.key_file)
    assert workbench.run(*sign, env={"TRAILGATE_KEY_PASSPHRASE": "right"}).exit_code == 0
    wrong = workbench.run(*sign, env={"TRAILGATE_KEY_PASSPHRASE": "wrong"})
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "does not open" in wrong.stderr
    none = workbench.run(*sign, env={"TRAILGATE_KEY_PASSPHRASE": None})
    assert none.exit_code == 2
    assert "TRAILGATE_KEY_PASSPHRASE" in none.stderr
    assert len(workbench.evidence().statements) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "0 PEM blocks"),
        ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "cosign's own encryption"),
        (keys.public_pem(keys.generate().public).decode(), "PUBLIC KEY"),
        (None, "No such file"),
    ],
    ids=["empty", "cosign", "public", "missing"],
)
def test_a_key_that_is_none(workbench, content, said):
    path = workbench.directory / "other.key"
    if content is not None:
        path.write_text(content)
    done = workbench.run("sign", workbench.image, "--key", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert "other.key" in done.stderr
    assert not workbench.evidence().statements


@pytest.mark.parametrize("image", ["a/UPPER", "a b", "", "a@sha256:00", "a/b:c:d"])
def test_an_image_that_is_none_is_wrong_usage(workbench, image):
    done = workbench.run("sign", image, "--key", workbench.key_file)
    assert done.exit_code == 2
    assert "Usage: trailgate sign" in done.stderr


def test_an_annotation_that_is_none_is_wrong_usage(workbench):
    done = workbench.run("sign", workbench.image, "--key", workbench.key_file, "-a", "x")
    assert done.exit_code == 2
    assert "NAME=VALUE" in done.stderr


def test_an_image_that_is_not_there_is_undetermined(workbench):
    other = workbench.image.with_digest(Digest("ab" * 32))
    done = workbench.run("sign", other, "--key", workbench.key_file)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "404" in done.stderr


def test_a_registry_that_is_not_there_is_undetermined(workbench):
    image = "127.0.0.1:1/a/b:c"
    done = workbench.run(
        "sign", image, "--key", workbench.key_file, "--allow-insecure-registry", "127.0.0.1:1"
    )
    assert (done.exit_code, done.stdout) == (3, "")
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_plain_http_and_private_addresses_are_asked_for(workbench):
    env = {"TRAILGATE_ALLOW_INSECURE_REGISTRY": None}
    done = workbench.run("sign", workbench.image, "--key", workbench.key_file, env=env)
    assert done.exit_code == 3
    assert "private addresses are not allowed" in done.stderr
    assert not workbench.evidence().statements
