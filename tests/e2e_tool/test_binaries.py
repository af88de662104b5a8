"""Where the programs come from, and that the cache holds whole ones only."""

import fcntl
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from e2e.controlplane import binaries, cache, gotool
from e2e.controlplane.binaries import PROGRAMS, ensure
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache and a memory of our own; no assets from outside."""
    monkeypatch.setenv("TRAILGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(binaries, "_found", {})
    monkeypatch.setattr(binaries, "_failed", {})
    return tmp_path


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def fake_go(home, monkeypatch):
    """A ``go`` that builds anything at once, and writes down that it was asked."""
    log = home / "go.log"
    script(
        home / "path" / "go",
        f'[ "$1" = version ] && echo "go version go1.26.1 linux/amd64" && exit\n'
        f'echo "$@" >> {log}\n'
        'while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done\n'
        'sleep 0.3\nprintf "#!/bin/sh\\necho built\\n" > "$out"; chmod +x "$out"',
    )
    monkeypatch.setenv("PATH", f"{home / 'path'}:/usr/bin:/bin")
    return log


def builds(log):
    return log.read_text().splitlines() if log.exists() else []


def silent(_text):
    pass


def test_what_is_built_once_is_found_again(fake_go, monkeypatch):
    first = ensure(["registry"], silent)["registry"]
    monkeypatch.setattr(binaries, "_found", {})
    assert ensure(["registry"], silent)["registry"] == first
    assert subprocess.run([first], capture_output=True, check=True).stdout == b"built\n"
    (line,) = builds(fake_go)
    assert line.startswith("build -p 2 -trimpath -mod=readonly -ldflags -s -w -o ")


@pytest.mark.parametrize("damage", ["truncate", "change", "unexecutable", "no-checksum", "empty"])
def test_a_damaged_cache_entry_is_built_again(fake_go, monkeypatch, damage):
    path = ensure(["etcd"], silent)["etcd"]
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "change":
        path.write_bytes(path.read_bytes().replace(b"built", b"stole"))
    elif damage == "unexecutable":
        path.chmod(0o644)
    elif damage == "no-checksum":
        path.with_name("etcd.sha256").unlink()
    else:
        path.unlink()
    monkeypatch.setattr(binaries, "_found", {})
    again = ensure(["etcd"], silent)["etcd"]
    assert len(builds(fake_go)) == 2
    assert again.read_bytes().endswith(b"echo built\n")
    assert again.stat().st_mode & stat.S_IXUSR


def test_a_build_that_was_killed_leaves_nothing_that_counts(fake_go, home):
    (home / "cache" / ".work-killed").mkdir(parents=True)
    (home / "cache" / ".work-killed" / "etcd").write_text("half")
    (home / "cache" / "bin" / ".new-killed").mkdir(parents=True)
    ensure(["etcd"], silent)
    assert [p.name for p in (home / "cache").iterdir() if p.name.startswith(".work")] == []
    assert [p.name for p in (home / "cache" / "bin").iterdir()] == [binaries._key(PROGRAMS["etcd"])]


def _ensure_in_a_process(_number):
    return str(ensure(["registry"], silent)["registry"])


def test_two_runs_at_once_build_once(fake_go):
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        found = pool.map(_ensure_in_a_process, range(3))
    assert len(set(found)) == 1
    assert len(builds(fake_go)) == 1


def test_whoever_waits_for_another_run_says_so(home):
    said = []
    (home / "cache").mkdir()
    with (home / "cache" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        release = threading.Timer(0.5, fcntl.flock, (file, fcntl.LOCK_UN))
        release.start()
        with cache.lock(said.append):
            pass
        release.join()
    assert said == ["waiting for another run to finish its build (0 s)"]


def test_assets_come_first_and_only_for_what_they_have(home, fake_go, monkeypatch):
    asset = script(home / "assets" / "etcd", "echo asset")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(home / "assets"))
    found = ensure(["etcd", "kubectl"], silent)
    assert found["etcd"] == asset
    assert found["kubectl"].is_relative_to(home / "cache")
    assert len(builds(fake_go)) == 1


def test_setup_envtest_is_asked_before_building(home, fake_go, monkeypatch):
    script(home / "envtest" / "etcd", "echo envtest")
    script(home / "path" / "setup-envtest", f"echo {home / 'envtest'}")
    path = ensure(["etcd"], silent)["etcd"]
    assert subprocess.run([path], capture_output=True, check=True).stdout == b"envtest\n"
    assert builds(fake_go) == []


@pytest.mark.parametrize("answer", ["echo no network >&2; exit 2", "sleep 60", "echo /nowhere"])
def test_a_setup_envtest_that_has_nothing_does_not_stop_us(home, fake_go, monkeypatch, answer):
    monkeypatch.setattr(binaries, "_ENVTEST_SECONDS", 0.5)
    script(home / "path" / "setup-envtest", answer)
    said = []
    ensure(["etcd"], said.append)
    assert len(builds(fake_go)) == 1
    assert any("setup-envtest" in line and ("no etcd" in line or "in time" in line)
               for line in said)  # fmt: skip


def test_a_failed_build_shows_why_and_what_to_do(home, monkeypatch):
    script(
        home / "path" / "go",
        '[ "$1" = version ] && echo "go version go1.27 linux/amd64" && exit\n'
        "echo dial tcp: lookup nowhere: no such host >&2; exit 1",
    )
    monkeypatch.setenv("PATH", f"{home / 'path'}:/usr/bin:/bin")
    with pytest.raises(ControlPlaneError) as failed:
        ensure(["etcd"], silent)
    assert "no such host" in str(failed.value)
    assert "KUBEBUILDER_ASSETS" in str(failed.value)
    assert cache.lookup(binaries._key(PROGRAMS["etcd"]), "etcd") is None
    (home / "path" / "go").unlink()
    with pytest.raises(ControlPlaneError, match="no such host"):  # at once, not by trying again
        ensure(["etcd"], silent)


@pytest.mark.parametrize("version", ["go1.25.9", "go1.9", "devel", ""])
def test_an_old_go_is_not_used_and_without_a_network_that_is_said(home, monkeypatch, version):
    script(home / "path" / "go", f'echo "go version {version} linux/amd64"')
    installer = script(home / "path" / "uv", "echo Network is unreachable >&2; exit 1")
    monkeypatch.setenv("PATH", f"{home / 'path'}:/usr/bin:/bin")
    monkeypatch.setattr(gotool, "_installer", lambda: [str(installer)])
    with pytest.raises(ControlPlaneError) as failed:
        ensure(["etcd"], silent)
    assert "no Go >= 1.26 on PATH" in str(failed.value)
    assert "Network is unreachable" in str(failed.value)
    assert "KUBEBUILDER_ASSETS" in str(failed.value)


def test_the_key_follows_everything_that_makes_the_program(home, monkeypatch):
    keys = {name: binaries._key(program) for name, program in PROGRAMS.items()}
    assert keys["kubectl"].startswith("kubectl-1.37.2-")
    modules = home / "go"
    for name in ("go.mod", "go.sum", "main.go"):
        source = ROOT / "e2e" / "controlplane" / "go" / "registry" / name
        (modules / "registry").mkdir(parents=True, exist_ok=True)
        (modules / "registry" / name).write_bytes(source.read_bytes())
    monkeypatch.setattr(binaries, "_MODULES", modules)
    registry = PROGRAMS["registry"]
    assert binaries._key(registry) == keys["registry"]
    for name in ("go.mod", "go.sum", "main.go"):
        with (modules / "registry" / name).open("a") as file:
            file.write("\n")
        assert binaries._key(registry) != keys["registry"]
        keys["registry"] = binaries._key(registry)


def test_the_cache_is_where_it_is_said_to_be(monkeypatch, tmp_path):
    monkeypatch.setenv("TRAILGATE_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert cache.root() == tmp_path / "a"
    monkeypatch.delenv("TRAILGATE_CACHE")
    assert cache.root() == tmp_path / "b" / "trailgate"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == tmp_path / "c" / ".cache" / "trailgate"


def test_progress_is_said_while_it_runs(monkeypatch):
    monkeypatch.setattr("e2e.controlplane.progress._EVERY_SECONDS", 0.2)
    said = []
    run("napping", ["sleep", "0.9"], said.append, 20)
    assert said[0] == "napping …"
    assert said.count("napping … 0 s") >= 2
    assert said[-1].startswith("napping: done in")


def test_a_command_that_takes_too_long_is_ended():
    with pytest.raises(ControlPlaneError, match="took too long"):
        run("napping", ["sleep", "600"], silent, 0.3)


def test_the_command_line_prints_paths(fake_go):
    done = subprocess.run(
        [sys.executable, "-m", "e2e.controlplane", "build", "registry", "etcd"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
        check=True,
    )
    names = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert names == ["registry", "etcd"]
    assert "building etcd" in done.stderr
