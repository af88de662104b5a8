"""The house rules that no tool holds: where packages lie, what no file may contain."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "trailgate": "core",
    "trailgate_kube": "kube",
    "trailgate_operator": "operator",
    "trailgate_webhook": "webhook",
}
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 40
#: Functions that are longer for a reason, and how long: none may grow.
LONGER = {
    "e2e/demo/pipeline.py:record": (45, "one change record, member by member"),
    "e2e/demo/proof.py:killed": (53, "a story that is read from top to bottom"),
    "e2e/demo/stories.py:bad_evidence": (76, "the same story in eight variants, side by side"),
    "kube/trailgate_kube/crd.py:_properties": (42, "a table: the schema's members, one a line"),
    "webhook/trailgate_webhook/assemble.py:build": (43, "makes each part of the process once"),
}
# In pieces, or this file would be its own first finding.
HOSTS = [
    "py" + "pi.org",
    "files.python" + "hosted.org",
    "proxy.go" + "lang.org",
    "sum.go" + "lang.org",
    "registry.npm" + "js.org",
    "deb.deb" + "ian.org",
    "static.crates" + ".io",
    "repo.maven.ap" + "ache.org",
]
UNFINISHED = re.compile(r"(#|//|--|<!--)\s*(" + "TO" + "DO|FIX" + "ME|XX" + r"X)\b")
OTHERS_TEXT = {"LICENSE"}


def tracked(*patterns):
    """Return the files that are, or are about to be, in the repository."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({ROOT / name for name in done.stdout.split("\0") if name})


def texts():
    for path in tracked():
        if path.is_file() and path.name not in OTHERS_TEXT:
            try:
                yield path.relative_to(ROOT), path.read_text()
            except UnicodeDecodeError:
                continue


def modules():
    return [path for path in tracked("*.py") if path.is_file()]


def test_no_package_shadows_the_standard_librarys_operator():
    """With an __init__.py there, every ``import operator`` from the root gets our folder."""
    for folder in set(PACKAGES.values()):
        assert not (ROOT / folder / "__init__.py").exists()
    code = "import operator, sys; sys.exit('itemgetter' not in vars(operator))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(("package", "folder"), PACKAGES.items())
def test_each_package_is_typed_and_shipped(package, folder):
    directory = ROOT / folder / package
    assert (directory / "__init__.py").is_file()
    assert (directory / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert f"{folder}/{package}" in wheel
    assert package in project["tool"]["mypy"]["packages"]
    assert package in project["tool"]["importlinter"]["root_packages"]


@pytest.mark.parametrize("folder", sorted(set(PACKAGES.values())))
def test_every_folder_of_a_package_is_one(folder):
    for module in (ROOT / folder).rglob("*.py"):
        assert (module.parent / "__init__.py").is_file(), module


def test_no_file_names_a_package_registry():
    """Which index or proxy to use is the user's configuration, never ours."""
    found = [f"{path}: {host}" for path, text in texts() for host in HOSTS if host in text.lower()]
    assert found == []


def test_nothing_is_left_for_later_in_a_comment():
    found = [
        f"{path}: {match[0]}"
        for path, text in texts()
        if path.suffix not in (".sum", ".txt", ".json")
        for match in [UNFINISHED.search(text)]
        if match
    ]
    assert found == []


def test_modules_stay_short():
    source = [path for path in modules() if "tests" not in path.relative_to(ROOT).parts]
    long = {
        str(path.relative_to(ROOT)): lines
        for path in source
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


def functions(path):
    """Yield (name, lines) of each function of a module, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines, first = node.end_lineno - node.lineno + 1, node.body[0]
        if ast.get_docstring(node) is not None:
            lines -= first.end_lineno - first.lineno + 1
        yield node.name, lines


def test_functions_stay_short():
    source = [path for path in modules() if "tests" not in path.relative_to(ROOT).parts]
    long = {
        f"{path.relative_to(ROOT)}:{name}": lines
        for path in source
        for name, lines in functions(path)
        if lines > MOST_LINES_OF_A_FUNCTION
    }
    known = {name: lines for name, (lines, _) in LONGER.items()}
    assert {name: lines for name, lines in long.items() if lines > known.get(name, 0)} == {}
    assert known.keys() <= long.keys(), "short enough by now: take it off the list"


def test_only_hashed_and_pinned_requirements():
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        pins = re.findall(r"^[a-z0-9][^\s;=<>]*(\S*)", text, re.MULTILINE)
        assert pins, path
        assert all(pin.startswith("==") for pin in pins), path
        assert text.count("--hash=sha256:") >= len(pins)
        assert "://" not in text, f"{path} names an address"
