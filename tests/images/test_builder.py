"""The builder's decisions: which engine, which wheels, what it says where something is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.images import debian, engine, tools, wheels
from e2e.images.build import fingerprint
from e2e.images.context import Source, stage
from e2e.images.engine import Buildah, Docker, Order, choose
from e2e.images.errors import ImageError
from e2e.images.target import PROBE, Target

DEBIAN = Target("3.11.2", "x86_64", "2.36")
SLIM = Target("3.13.1", "aarch64", "2.41")
ALPINE = Target("3.13.1", "x86_64", "")
REQUIREMENTS = """\
always==1.0 \\
    --hash=sha256:aa
old==1.0 ; python_full_version < '3.13' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via something
win==2.0 ; sys_platform == 'win32' and platform_python_implementation == 'CPython' \\
    --hash=sha256:dd
arm==3.0 ; platform_machine == 'aarch64' \\
    --hash=sha256:ee
"""


def silent(_text):
    pass


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with nothing on it but what a test puts there."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("TRAILGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return folder


def order(tmp_path):
    arguments = {"BASE_IMAGE": "base", "SOURCE_DATE_EPOCH": "7"}
    context = tmp_path / "context"
    context.mkdir(exist_ok=True)
    return Order("images/webhook/Dockerfile", context, "localhost/x:e2e", arguments,
                 tmp_path / "x.tar")  # fmt: skip


def test_docker_builds_where_its_daemon_answers(programs, tmp_path):
    script(programs / "docker", "echo 28.0")
    assert choose(tmp_path, silent) == Docker(programs / "docker")


@pytest.mark.parametrize("lacking", ["version*", "buildx*"])
def test_buildah_builds_where_docker_lacks_something(programs, tmp_path, lacking):
    script(programs / "docker", f'case "$*" in {lacking}) echo cannot >&2; exit 1;; esac')
    script(programs / "buildah", "exit 0")
    said = []
    assert choose(tmp_path, said.append) == Buildah(programs / "buildah", tmp_path, "overlay")
    assert said == ["docker is on PATH, but no daemon answers it, or it has no buildx"]


def test_without_overlay_layers_are_copied(programs, tmp_path):
    script(programs / "buildah", 'case "$*" in *overlay*) exit 1;; esac')
    assert choose(tmp_path / "storage", silent).driver == "vfs"


def test_without_either_it_says_what_is_missing(programs, tmp_path):
    with pytest.raises(ImageError, match="got no buildah on PATH, expected the package buildah"):
        choose(tmp_path, silent)


def test_as_root_the_package_is_installed(programs, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    log = programs / "log"
    script(programs / "apt-get",
           f'echo "$@" >> {log}; [ "$1" = update ] || {{ echo "#!/bin/sh" > {programs}/buildah;'
           f" /bin/chmod 755 {programs}/buildah; }}")  # fmt: skip
    assert tools.require("buildah", "buildah", silent) == programs / "buildah"
    assert log.read_text().splitlines() == [
        "update -qq",
        "install -y -qq --no-install-recommends buildah",
    ]


def test_an_installation_that_fails_says_why(programs, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    script(programs / "apt-get", "echo no mirror today >&2; exit 100")
    with pytest.raises(ImageError, match=r"(?s)no buildah on PATH, and it could.*no mirror today"):
        tools.require("buildah", "buildah", silent)


def test_buildah_is_told_all_that_makes_a_build_reproducible(programs, tmp_path):
    log = tmp_path / "log"
    program = script(programs / "buildah", f'echo "$@" >> {log}')
    Buildah(program, tmp_path, "vfs").build(order(tmp_path), silent)
    build, push = log.read_text().splitlines()
    for word in ("--timestamp 7", "--no-cache", "--pull=never", "--isolation chroot",
                 "--build-arg BASE_IMAGE=base", "--build-arg SOURCE_DATE_EPOCH=7"):  # fmt: skip
        assert word in build
    assert push.endswith(
        f"push --quiet localhost/x:e2e oci-archive:{tmp_path}/x.tar:localhost/x:e2e"
    )


def test_docker_is_told_the_same(programs, tmp_path):
    log = tmp_path / "log"
    Docker(script(programs / "docker", f'echo "$@" >> {log}')).build(order(tmp_path), silent)
    (build,) = log.read_text().splitlines()
    for word in ("--no-cache", "--network none", "--provenance=false", "rewrite-timestamp=true",
                 f"type=oci,dest={tmp_path}/x.tar", "--build-arg SOURCE_DATE_EPOCH=7"):  # fmt: skip
        assert word in build


def test_a_docker_that_cannot_export_saves(programs, tmp_path):
    log = tmp_path / "log"
    fails = "OCI exporter is not supported for the docker driver"
    program = script(
        programs / "docker",
        f'echo "$@" >> {log}; case "$*" in *type=oci*) echo "{fails}" >&2; exit 1;; esac',
    )
    Docker(program).build(order(tmp_path), silent)
    tried, built, saved = log.read_text().splitlines()
    assert "type=oci" in tried
    assert "--output" not in built
    assert saved == f"save --output {tmp_path}/x.tar localhost/x:e2e"


def test_a_build_that_fails_for_another_reason_is_not_tried_again(programs, tmp_path):
    log = tmp_path / "log"
    program = script(programs / "docker", f"echo once >> {log}; echo a bug >&2; exit 1")
    with pytest.raises(ImageError, match="a bug"):
        Docker(program).build(order(tmp_path), silent)
    assert log.read_text() == "once\n"


def test_docker_takes_debians_packages_only_where_nothing_was_asked_for(
    programs, tmp_path, monkeypatch
):
    log = tmp_path / "log"
    program = script(programs / "docker", f'echo "$@" >> {log}; [ "$1" = load ]')
    monkeypatch.setattr(debian, "base", lambda _say: tmp_path / "base.tar")
    with pytest.raises(ImageError, match="pulling mine:1"):
        Docker(program).base("mine:1", silent)
    assert Docker(program).base(None, silent) == debian.reference()
    assert f"load --quiet --input {tmp_path}/base.tar" in log.read_text()
    assert f"pull --quiet {engine.DEFAULT_BASE}" in log.read_text()


def test_the_probe_tells_what_python_is_there():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    version = ".".join(map(str, sys.version_info[:3]))
    assert Target.parse(done.stdout).version == version


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "from the base's Python"),
        ('{"version": "3.11.2"}', "missing required field"),
        ('{"version": "3.10.9", "machine": "x86_64", "glibc": "2.36"}', "got Python 3.10.9"),
    ],
)
def test_a_base_without_a_fitting_python_is_refused(text, says):
    with pytest.raises(ImageError, match=says):
        Target.parse(text)


def test_wheels_are_chosen_for_the_base_not_for_the_builder():
    options = list(DEBIAN.pip_options())
    assert options[:4] == ["--python-version", "3.11", "--implementation", "cp"]
    assert "manylinux_2_36_x86_64" in options
    assert "manylinux2014_x86_64" in options
    assert "manylinux_2_37_x86_64" not in options
    assert "cp311" in options
    arm = list(SLIM.pip_options())
    assert {"cp313", "abi3", "none", "manylinux_2_17_aarch64"} <= set(arm)
    assert not [word for word in arm if "x86_64" in word]
    musl = list(ALPINE.pip_options())
    assert "musllinux_1_2_x86_64" in musl
    assert not [word for word in musl if "manylinux" in word]


def test_markers_are_those_of_the_base():
    assert DEBIAN.applicable(REQUIREMENTS) == (
        "always==1.0 \\\n    --hash=sha256:aa\n"
        "old==1.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n    # via something\n"
    )
    assert SLIM.applicable(REQUIREMENTS) == (
        "always==1.0 \\\n    --hash=sha256:aa\narm==3.0 \\\n    --hash=sha256:ee\n"
    )


@pytest.mark.parametrize("component", ["webhook", "operator"])
def test_all_that_a_component_pins_applies_to_linux(component):
    for file in wheels.requirements(component):
        text = file.read_text()
        pins = [line for line in text.splitlines() if "==" in line]
        applied = DEBIAN.applicable(text)
        assert len([line for line in applied.splitlines() if "==" in line]) == len(pins) > 0
        assert ";" not in applied


def test_the_context_is_the_checkouts_files_and_the_wheels(tmp_path):
    given = tmp_path / "wheels"
    given.mkdir()
    (given / "a.whl").write_bytes(b"wheel")
    umask = os.umask(0o077)
    try:
        context = stage(given, tmp_path / "context")
    finally:
        os.umask(umask)
    names = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "images/wheels/a.whl", "images/assemble.py"} <= names
    assert "core/trailgate/__init__.py" in names
    assert not [name for name in names if name.startswith((".", "tests", "docs", "e2e"))]
    modes = {path.stat().st_mode & 0o777 for path in context.rglob("*")}
    assert modes <= {0o644, 0o755}
    assert context.stat().st_mode & 0o777 == 0o755


def test_the_time_is_the_commits_unless_it_is_told(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    told = subprocess.run(["git", "log", "-1", "--format=%H %ct"], capture_output=True, text=True,
                          check=True, cwd=wheels.ROOT)  # fmt: skip
    commit, seconds = told.stdout.split()
    source = Source.read()
    assert source.epoch == int(seconds)
    assert source.revision.removesuffix("-modified") == commit
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert Source.read().epoch == 7


def test_the_key_of_an_image_follows_everything_that_makes_it(tmp_path):
    first = order(tmp_path)
    (first.context / "file").write_text("1")
    keys = {fingerprint(first, "base")}
    keys.add(fingerprint(first, "another base"))
    first.arguments["SOURCE_DATE_EPOCH"] = "8"
    keys.add(fingerprint(first, "base"))
    (first.context / "file").write_text("2")
    keys.add(fingerprint(first, "base"))
    (first.context / "file").chmod(0o755)
    keys.add(fingerprint(first, "base"))
    (first.context / "file").rename(first.context / "other")
    keys.add(fingerprint(first, "base"))
    assert len(keys) == 6
    assert fingerprint(first, "base") in keys


def test_the_base_has_a_name_that_follows_its_making(monkeypatch):
    before = debian.reference()
    assert before.startswith("localhost/trailgate-base:bookworm-")
    monkeypatch.setattr(debian, "PACKAGES", ("python3",))
    assert debian.reference() != before


def test_the_command_says_in_one_line_what_is_missing(tmp_path):
    environment = {"PATH": str(tmp_path), "TRAILGATE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "e2e.images", "build", "--out", str(tmp_path / "out")],
        env=environment | {"PYTHONPATH": "core"},
        cwd=wheels.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: an image is built from a git checkout: ")
    assert not list(Path(tmp_path / "out").iterdir())
