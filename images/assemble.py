"""Make the two layers of an image: a component's dependencies, and this checkout above them.

Runs inside the image build, by the base's own Python (3.11 or later), from the folder that
the Dockerfiles mount at /context. Nothing that it needs for that reaches the image. The same
inputs give the same bytes: order, times, modes and bytecode are settled here.

    assemble.py dependencies webhook    writes /layers/dependencies
    assemble.py application webhook     writes /layers/application
"""  # noqa: INP001 - a program, not a package

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

CONTEXT = Path("/context")
LAYERS = Path("/layers")
WORK = Path("/tmp/assemble")  # noqa: S108 - of the build's container, which is thrown away
HOME = Path("/opt/trailgate")
PYTHON = HOME / "bin" / "python3"
WHEELS = CONTEXT / "images" / "wheels"
REQUIREMENTS = CONTEXT / "requirements"
#: Of the package index, where the build was given it as a secret.
CERTIFICATE = Path("/run/secrets/pip-cert")
#: 1980-01-01, the first moment that a zip file can name.
_EPOCH = 315_532_800

#: Generated code of the Kubernetes client that no process imports, more than all else together:
#: without bytecode. Those that kopf imports are the exception.
_UNUSED = (
    r"/kubernetes/(aio/)?client/(api|models)/"
    r"(?!(__init__|v1_object_meta|v1_owner_reference|v1_managed_fields_entry)\.py)"
)

#: The console scripts that an image keeps.
SCRIPTS = {
    "webhook": re.compile(r"trailgate(-webhook.*)?"),
    "operator": re.compile(r"trailgate(-operator.*)?"),
}


def main(arguments: Sequence[str]) -> int:
    """Make one layer; a failure of what it calls ends it with that one's status."""
    layer, component = arguments
    make = {"dependencies": dependencies, "application": application}[layer]
    try:
        make(component)
    except subprocess.CalledProcessError as error:
        return error.returncode or 1
    return 0


def dependencies(component: str) -> None:
    """Install the component's pinned, hashed requirements into an environment of their own."""
    layer = LAYERS / "dependencies"
    venv.EnvBuilder(symlinks=True, with_pip=False).create(HOME)
    for left in (*HOME.glob("bin/[Aa]ctivate*"), HOME / "lib64"):
        left.unlink(missing_ok=True)
    shutil.rmtree(HOME / "include", ignore_errors=True)
    _install("--root", layer, "--require-hashes", "-r", REQUIREMENTS / f"{component}.txt")
    _keep_scripts(_inside(layer, HOME), SCRIPTS[component])
    shutil.copytree(HOME, _inside(layer, HOME), symlinks=True, dirs_exist_ok=True)
    _settle(layer)


def application(component: str) -> None:
    """Build this checkout's wheel and install it, with the console scripts of the component."""
    layer, tools, made = LAYERS / "application", WORK / "tools", WORK / "dist"
    _install("--target", tools, "--require-hashes", "-r", REQUIREMENTS / "build.txt")
    build = [PYTHON, "-m", "hatchling", "build", "-t", "wheel", "-d", made]
    _run(build, PYTHONPATH=str(tools))
    offline = ("--no-deps", "--no-index", "--find-links", made)
    _install("--root", layer, *offline, "trailgate")
    _keep_scripts(_inside(layer, HOME), SCRIPTS[component])
    _settle(layer)


def _keep_scripts(home: Path, kept: re.Pattern[str]) -> None:
    """Remove all other commands, of libraries and other components, also from the records."""
    dropped = [path for path in (home / "bin").glob("*") if not kept.fullmatch(path.name)]
    for path in dropped:
        path.unlink()
    gone = tuple(f"/bin/{path.name}" for path in dropped)
    for record in home.glob("lib/python3*/site-packages/*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.split(",")[0].endswith(gone)))


def _install(*arguments: str | Path) -> None:
    """Run the pinned pip by the new environment's Python, which has none and gets none."""
    _run([PYTHON, _pip() / "pip", "install", "--quiet", "--no-compile", *_source(), *arguments])


def _source() -> list[str | Path]:
    """Where packages come from: the wheels that were handed in, else what pip is told."""
    if any(WHEELS.glob("*.whl")):
        return ["--only-binary", ":all:", "--no-index", "--find-links", WHEELS]
    return ["--only-binary", ":all:"]


def _pip() -> Path:
    """Return the pinned pip's wheel, which runs without being installed; checks its hash."""
    wheel = next(WHEELS.glob("pip-*.whl"), None) or next(WORK.glob("pip-*.whl"), None)
    pinned = REQUIREMENTS / "pip.txt"
    if wheel is None:
        _run([sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes",
              *_source(), "-d", WORK, "-r", pinned])  # fmt: skip
        wheel = next(WORK.glob("pip-*.whl"))
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if f"sha256:{found}" not in pinned.read_text():
        raise SystemExit(f"error: got {wheel.name} with sha256 {found}, expected one of pip.txt")
    return wheel


def _run(command: Sequence[str | Path], **more: str) -> None:
    settled = {
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_WARN_SCRIPT_LOCATION": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or str(_EPOCH),
    }
    if CERTIFICATE.exists():
        settled["PIP_CERT"] = str(CERTIFICATE)
    environment = {**os.environ, **settled, **more}
    words = [str(part) for part in command]
    subprocess.run(words, env=environment, cwd=CONTEXT, check=True)  # noqa: S603 - our own words


def _inside(layer: Path, path: Path) -> Path:
    return layer / path.relative_to("/")


def _settle(layer: Path) -> None:
    """Compile, and give every entry its final mode and time.

    The root is read-only at run time, so what isn't compiled here would be compiled at each
    start. Times are rewritten when the image is made: bytecode that names its source's time
    would be void then, so it names none.
    """
    root = _inside(layer, HOME)
    _run([PYTHON, "-m", "compileall", "-q", "-f", "-s", layer, "-p", "/",
          "--invalidation-mode", "unchecked-hash", "-x", _UNUSED, root])  # fmt: skip
    for directory, _, names in os.walk(layer):
        for path in (Path(directory), *(Path(directory, name) for name in names)):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
            os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
