"""The demo's product: a small application in a real Git repository, with real tests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ALICE = ("Alice Ames", "alice@shop.example")
BOB = ("Bob Byrne", "bob@shop.example")


@dataclass(frozen=True)
class Repository:
    """A Git checkout, driven by the real git."""

    path: Path
    url: str
    """What provenance names as the source, also set as the remote."""

    def git(self, *args: str, who: tuple[str, str] = ALICE) -> str:
        """Run git as somebody; returns what it printed."""
        name, mail = who
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": mail,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": mail,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        return subprocess.run(
            ["git", "-C", str(self.path), *args],
            check=True, capture_output=True, text=True, env=environment,
        ).stdout.strip()  # fmt: skip

    @property
    def head(self) -> str:
        """The checked-out commit."""
        return self.git("rev-parse", "HEAD")

    @property
    def tree(self) -> str:
        """The checked-out commit's tree."""
        return self.git("rev-parse", "HEAD^{tree}")

    def commit(self, files: dict[str, str], message: str, who: tuple[str, str] = ALICE) -> str:
        """Write files and commit them; returns the commit."""
        for name, text in files.items():
            (self.path / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message, who=who)
        return self.head

    def run_tests(self, junit: Path) -> bool:
        """Run the repository's own pytest suite; returns whether it passed."""
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
             "-c", os.devnull, "--rootdir", str(self.path), f"--junitxml={junit}", str(self.path)],
            check=False, capture_output=True, text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        if finished.returncode not in (0, 1):
            raise RuntimeError(f"pytest could not run:\n{finished.stdout}{finished.stderr}")
        return finished.returncode == 0


def create(path: Path, url: str) -> Repository:
    """Make the shop's repository with its first two commits."""
    path.mkdir(parents=True)
    repository = Repository(path, url)
    repository.git("init", "--quiet", "--initial-branch", "main")
    repository.git("remote", "add", "origin", url)
    repository.commit({"README.md": "# Shop\n"}, "Start the shop", who=BOB)
    repository.commit(
        {
            "price.py": "def total(prices):\n    return sum(prices)\n",
            "test_price.py": (
                "from price import total\n\n\n"
                "def test_total():\n    assert total([1, 2]) == 3\n\n\n"
                "def test_nothing_costs_nothing():\n    assert total([]) == 0\n"
            ),
        },
        "Add prices",
    )
    return repository
