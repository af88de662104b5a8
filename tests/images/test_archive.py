"""Archives: one form, whatever wrote them; a blob is what its digest says; layers lie right."""

import gzip
import io
import json
import os
import tarfile

import pytest

from e2e.images import archive
from e2e.images.archive import Archive
from e2e.images.errors import ImageError

NAME = "localhost/thing:e2e"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def tar(entries, path=None):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.uid, member.gid = os.getuid(), os.getgid()
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                made.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                made.addfile(member)
            else:
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
    if path is not None:
        path.write_bytes(buffer.getvalue())
        return path
    return buffer.getvalue()


def image(*layers):
    """Return (digest, blobs) of an image with these layers."""
    config = json.dumps({"os": "linux", "config": {"Env": ["A=b=c"]}}).encode()
    blobs = {archive._digest(blob): blob for blob in (config, *layers)}
    manifest = json.dumps({
        "mediaType": MANIFEST,
        "config": {"digest": archive._digest(config)},
        "layers": [{"digest": archive._digest(x), "size": len(x)} for x in layers],
    }).encode()  # fmt: skip
    blobs[archive._digest(manifest)] = manifest
    return archive._digest(manifest), blobs


def layout(path, manifests, blobs, **more):
    files = {f"blobs/{name.replace(':', '/')}": blob for name, blob in blobs.items()}
    files["index.json"] = json.dumps({"manifests": manifests}).encode()
    return tar(files | more, path)


def entry(digest, kind=MANIFEST, **annotations):
    return {"mediaType": kind, "digest": digest, "annotations": annotations}


@pytest.fixture
def raw(tmp_path):
    digest, blobs = image(gzip.compress(tar({"a": b"1"})))
    return layout(tmp_path / "raw.tar", [entry(digest)], blobs, junk=b"left by a tool"), digest


def test_what_is_rewritten_has_the_same_digest_and_nothing_else_in_it(raw, tmp_path):
    path, digest = raw
    assert archive.rewrite(path, tmp_path / "out.tar", NAME) == digest
    with tarfile.open(tmp_path / "out.tar") as made:
        names = made.getnames()
        assert names == sorted(names)
        assert "junk" not in names
        assert {member.mtime for member in made} == {0}
        index = json.load(made.extractfile("index.json"))
        (docker,) = json.load(made.extractfile("manifest.json"))
        assert made.extractfile(docker["Config"]).read().startswith(b"{")
    assert docker["RepoTags"] == [NAME]
    assert len(docker["Layers"]) == 1
    (found,) = index["manifests"]
    assert found["digest"] == digest
    assert found["annotations"]["io.containerd.image.name"] == NAME
    with Archive(tmp_path / "out.tar") as opened:
        assert opened.manifest()[0] == digest
        assert opened.config()["config"] == {"Env": ["A=b=c"]}
        (layer,) = opened.layers()
        assert layer.unpacked == 10240


def test_an_index_that_docker_saved_leads_to_the_image_not_to_its_attestation(tmp_path):
    digest, blobs = image(gzip.compress(tar({"a": b"1"})))
    other, more = image(gzip.compress(tar({"attested": b"1"})))
    kind = {"vnd.docker.reference.type": "attestation-manifest"}
    nested = json.dumps({"manifests": [entry(digest), entry(other, **kind)]}).encode()
    blobs |= more | {archive._digest(nested): nested}
    path = layout(tmp_path / "raw.tar", [entry(archive._digest(nested), INDEX)], blobs)
    assert archive.rewrite(path, tmp_path / "out.tar", NAME) == digest


@pytest.mark.parametrize("count", [0, 2])
def test_an_archive_of_other_than_one_image_is_refused(tmp_path, count):
    made = [image(tar({"a": str(n).encode()})) for n in range(count)]
    blobs = {name: blob for _, part in made for name, blob in part.items()}
    path = layout(tmp_path / "raw.tar", [entry(digest) for digest, _ in made], blobs)
    with pytest.raises(ImageError, match=f"got {count} images, expected one"):
        archive.rewrite(path, tmp_path / "out.tar", NAME)
    assert not (tmp_path / "out.tar").exists()


def test_a_blob_that_is_not_what_it_is_named_is_refused(tmp_path):
    digest, blobs = image(gzip.compress(tar({"a": b"1"})))
    for name in blobs:
        path = layout(tmp_path / "raw.tar", [entry(digest)], blobs | {name: blobs[name] + b" "})
        with pytest.raises(ImageError, match=f"the blob {name} has another content"):
            archive.rewrite(path, tmp_path / "out.tar", NAME)


@pytest.mark.parametrize("missing", ["index.json", "blobs"])
def test_what_is_no_layout_is_refused(tmp_path, missing):
    digest, blobs = image(tar({"a": b"1"}))
    path = layout(tmp_path / "raw.tar", [entry(digest)], {} if missing == "blobs" else blobs)
    if missing == "index.json":
        tar({"manifest.json": b"[]"}, path)
    with pytest.raises(ImageError, match=rf"got no {missing}.*, expected an OCI layout"):
        archive.rewrite(path, tmp_path / "out.tar", NAME)


@pytest.mark.skipif(os.getuid() != 0, reason="a layer's owners are root's to set")
def test_layers_lie_over_each_other_as_a_runtime_lays_them(tmp_path):
    lower = {"d": None, "d/gone": b"1", "d/kept": b"2", "o": None, "o/old": b"3", "link": "d/kept",
             "file": b"4", "dir": None, "dir/below": b"5"}  # fmt: skip
    upper = {"d": None, "d/.wh.gone": b"", "o": None, "o/.wh..wh..opq": b"", "o/new": b"6",
             "link": b"7", "file": None, "dir": b"8"}  # fmt: skip
    digest, blobs = image(gzip.compress(tar(lower)), tar(upper))
    path = layout(tmp_path / "raw.tar", [entry(digest)], blobs)
    with Archive(path) as opened:
        opened.unpack(tmp_path / "root")
    found = {
        str(path.relative_to(tmp_path / "root")): path.read_bytes()
        for path in (tmp_path / "root").rglob("*")
        if path.is_file()
    }
    assert found == {"d/kept": b"2", "o/new": b"6", "link": b"7", "dir": b"8"}
    assert (tmp_path / "root" / "file").is_dir()


def test_a_base_of_the_same_files_is_the_same_image(tmp_path):
    rootfs = tar({"etc": None, "etc/a": b"1"}, tmp_path / "rootfs.tar")
    made = [archive.base(rootfs, tmp_path / f"{n}.tar", NAME, "x86_64") for n in range(2)]
    assert made[0] == made[1]
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    with Archive(tmp_path / "0.tar") as opened:
        assert opened.config()["architecture"] == "amd64"
        assert len(opened.config()["history"]) == 1  # buildah counts: one entry a layer
