"""Images of the same inputs are built once; others are built, and old ones make room."""

import gzip
import importlib
import io
import tarfile

import pytest

from e2e.images import archive, build
from e2e.images.context import Source
from e2e.images.target import Target

module = importlib.import_module("e2e.images.build")  # the package's name for it is the function


class Engine:
    """Builds at once, an image of one file, and counts."""

    def __init__(self, work):
        self.work = work
        self.built = []
        self.state = "sha256:base"

    def base(self, wanted, _say):
        return wanted or "base"

    def identity(self, _base):
        return self.state

    def target(self, _base):
        return Target("3.11.2", "x86_64", "2.36")

    def build(self, order, _say):
        self.built.append(order)
        rootfs = self.work / "rootfs.tar"
        with tarfile.open(rootfs, "w") as tar:
            content = order.arguments["REVISION"].encode()
            member = tarfile.TarInfo("revision")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        archive.base(rootfs, order.archive, order.reference, "x86_64")


@pytest.fixture
def engine(tmp_path, monkeypatch):
    made = Engine(tmp_path)
    monkeypatch.setenv("TRAILGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "choose", lambda *_: made)
    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(module, "wheels", lambda *_: tmp_path / "wheels")
    return made


@pytest.fixture
def at(monkeypatch):
    """Pretend that the checkout is of another commit."""

    def revision(name):
        monkeypatch.setattr(Source, "read", lambda: Source("0.1.0", name, 7))

    revision("first")
    return revision


def silent(_text):
    pass


def test_the_same_inputs_are_built_once(engine, at, tmp_path):
    first = build(tmp_path / "out", silent)
    assert set(first) == {"webhook", "operator"}
    assert build(tmp_path / "out", silent) == first
    assert len(engine.built) == 2
    assert first["webhook"].reference == "localhost/trailgate-webhook:e2e"
    with archive.Archive(first["webhook"].archive) as opened:
        assert opened.manifest()[0] == first["webhook"].digest


def test_fresh_means_built(engine, at, tmp_path):
    first = build(tmp_path / "out", silent)
    again = build(tmp_path / "out", silent, fresh=True)
    assert len(engine.built) == 4
    assert again == first


@pytest.mark.parametrize("what", ["commit", "base", "state of the base", "tag"])
def test_other_inputs_are_another_image(engine, at, tmp_path, what):
    build(tmp_path / "out", silent)
    options = {"base": {"base": "other"}, "tag": {"tag": "other"}}.get(what, {})
    if what == "commit":
        at("second")
    if what == "state of the base":
        engine.state = "sha256:moved"
    build(tmp_path / "out", silent, **options)
    assert len(engine.built) == 4


def test_a_damaged_image_in_the_cache_is_built_again(engine, at, tmp_path):
    first = build(tmp_path / "out", silent)
    (kept,) = (tmp_path / "cache" / "bin").glob("trailgate-webhook-*/trailgate-webhook.tar")
    kept.write_bytes(kept.read_bytes().replace(b"first", b"worst") + b"\0")
    assert build(tmp_path / "out", silent) == first
    assert len(engine.built) == 3


def test_only_the_newest_are_kept(engine, at, tmp_path):
    for name in "abcde":
        at(name)
        build(tmp_path / "out", silent)
    kept = list((tmp_path / "cache" / "bin").glob("trailgate-operator-*"))
    assert len(kept) == 3
    build(tmp_path / "out", silent)
    assert len(engine.built) == 10


def test_what_the_layers_weigh_is_told(engine, at, tmp_path):
    built = build(tmp_path / "out", silent)["webhook"]
    assert built.unpacked == 10240
    with archive.Archive(built.archive) as opened:
        (entry,) = opened.manifest()[1]["layers"]
        assert built.added == len(opened.blob(entry["digest"]))
        assert len(gzip.decompress(opened.blob(entry["digest"]))) == 10240
