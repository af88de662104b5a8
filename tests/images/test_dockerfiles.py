"""What the Dockerfiles promise, without building: they, the requirements and the code agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from e2e.images.build import COMPONENTS
from e2e.images.context import INPUTS
from images import assemble

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)

pytestmark = pytest.mark.parametrize("component", COMPONENTS)


def instructions(component):
    text = (ROOT / "images" / component / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def pins(name):
    return dict(PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text()))


def direct(extra):
    """Names that an extra asks for itself, through the extras of our own that it includes."""
    found = set()
    for wanted in PROJECT["optional-dependencies"][extra]:
        name = re.match(r"[A-Za-z0-9._-]+", wanted)[0].lower()
        if name != "trailgate":
            found.add(name)
            continue
        for other in re.search(r"\[(.*)\]", wanted)[1].split(","):
            found |= direct(other)
    return found


def test_the_base_can_be_chosen_and_nothing_else_is_pulled(component):
    lines = instructions(component)
    assert lines[0] == "ARG BASE_IMAGE=python:3.13-slim"
    stages = [line for line in lines if line.startswith("FROM ")]
    assert stages == [
        "FROM ${BASE_IMAGE} AS build",
        "FROM ${BASE_IMAGE} AS dependencies",
        "FROM dependencies",
    ]


def test_nothing_runs_in_what_is_shipped_and_no_shell_is_asked_for(component):
    lines = instructions(component)
    shipped = lines[lines.index("FROM ${BASE_IMAGE} AS dependencies") :]
    assert not [line for line in shipped if line.startswith(("RUN", "ADD", "SHELL"))]
    runs = [line for line in lines if line.startswith("RUN")]
    assert [run.partition("[")[2] for run in runs] == [
        f'"python3", "/context/images/assemble.py", "{layer}", "{component}"]'
        for layer in ("dependencies", "application")
    ]


def test_it_runs_as_nobody_in_particular(component):
    lines = instructions(component)
    assert "USER 65532:65532" in lines
    assert f'ENTRYPOINT ["/opt/trailgate/bin/trailgate-{component}"]' in lines
    assert f"trailgate-{component}" in PROJECT["scripts"]
    (env,) = (line for line in lines if line.startswith("ENV"))
    for word in ("PYTHONDONTWRITEBYTECODE=1", "PYTHONNOUSERSITE=1", "HOME=/nonexistent"):
        assert word in env


def test_the_settings_of_pip_are_mounted_never_copied(component):
    lines = instructions(component)
    assert not [x for x in lines if x.startswith(("ARG", "ENV", "COPY")) and "pip" in x.lower()]
    for run in (line for line in lines if line.startswith("RUN")):
        assert "--mount=type=secret,id=pip.conf,target=/etc/pip.conf" in run
        assert "--mount=type=secret,id=pip-cert" in run


def test_the_context_is_what_the_builder_stages(component):
    lines = (ROOT / "images" / component / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(INPUTS)


def test_the_pins_are_the_extras_and_no_tool_is_among_them(component):
    found = pins(component)
    own = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in PROJECT["dependencies"]}
    assert own | direct(component) <= set(found)
    for tool in ("pytest", "mypy", "ruff", "sigstore", "hatchling", "pip", "setuptools", "uv"):
        assert tool not in found
    foreign = {"webhook": "kopf", "operator": "uvicorn"}[component]
    assert foreign not in found


def test_what_is_shipped_is_what_was_tested(component):
    tested = pins("dev")
    assert {name: tested.get(name) for name in pins(component)} == pins(component)


def test_each_component_keeps_its_own_commands(component):
    kept = {name for name in PROJECT["scripts"] if assemble.SCRIPTS[component].fullmatch(name)}
    expected = {
        name
        for name in PROJECT["scripts"]
        if name == "trailgate" or name.startswith(f"trailgate-{component}")
    }
    assert kept == expected
    for name in ("pip", "python", "uvicorn", "kopf", "trailgates", "x-trailgate"):
        assert not assemble.SCRIPTS[component].fullmatch(name)


def test_the_program_that_assembles_needs_nothing_but_python(component):
    code = "import runpy, sys; runpy.run_path(sys.argv[1])"
    program = ROOT / "images" / "assemble.py"
    command = [sys.executable, "-I", "-S", "-c", code, str(program)]
    assert subprocess.run(command, check=False, cwd=ROOT / component).returncode == 0


def test_a_pip_with_another_hash_is_not_run(component, tmp_path, monkeypatch):
    (tmp_path / "pip-99.0-py3-none-any.whl").write_bytes(b"another pip")
    (tmp_path / "pip.txt").write_text("pip==99.0 --hash=sha256:" + "0" * 64)
    monkeypatch.setattr(assemble, "WHEELS", tmp_path)
    monkeypatch.setattr(assemble, "REQUIREMENTS", tmp_path)
    ran = []
    monkeypatch.setattr(assemble, "_run", ran.append)
    with pytest.raises(SystemExit, match=r"got pip-99.0-py3-none-any.whl with sha256 \w+, exp"):
        assemble._install(component)
    assert ran == []
