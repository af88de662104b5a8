"""What the demo prints: each step as a person would want to read it, then a table."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from dataclasses import dataclass, field


def _colour(code: str, text: str) -> str:
    plain = os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    return text if plain else f"\033[{code}m{text}\033[0m"


@dataclass
class Expectation:
    """One thing that the demo promised, and what came of it."""

    step: str
    what: str
    expected: str
    got: str
    met: bool


@dataclass
class Narrator:
    """Prints the steps and keeps score."""

    expectations: list[Expectation] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _step: str = ""

    def step(self, letter: str, title: str) -> None:
        """Open a step."""
        self._step = letter
        print(f"\n{_colour('1', f'{letter}. {title}')}", flush=True)

    def say(self, text: str) -> None:
        """Say what is going on."""
        print(textwrap.fill(text, 100, initial_indent="   ", subsequent_indent="   "), flush=True)

    def tried(self, who: str, what: str) -> None:
        """Say who tries what."""
        print(f"   {_colour('36', who)} $ {what}", flush=True)

    def answer(self, text: str) -> None:
        """Show what came back, as it came."""
        for line in text.strip().splitlines():
            print(f"     {_colour('2', '|')} {line}", flush=True)

    def expect(self, what: str, expected: str, got: str, *, met: bool) -> None:
        """Hold one promise against what happened."""
        self.expectations.append(Expectation(self._step, what, expected, got, met))
        mark = _colour("32", "ok") if met else _colour("31", "NOT MET")
        print(f"   {mark}: {what}", flush=True)
        if not met:
            print(f"     expected {expected}\n     got      {got}", flush=True)

    @property
    def all_met(self) -> bool:
        """Whether every promise was kept; an empty demo keeps none."""
        return bool(self.expectations) and all(e.met for e in self.expectations)

    def table(self) -> None:
        """Print every expectation, and the count."""
        width = max(len(e.what) for e in self.expectations)
        print(f"\n   {'step':<4}  {'what was expected':<{width}}  {'expected':<28}  met")
        for e in self.expectations:
            mark = "yes" if e.met else f"NO, got {e.got}"
            print(f"   {e.step:<4}  {e.what:<{width}}  {e.expected[:28]:<28}  {mark}")
        met = sum(e.met for e in self.expectations)
        took = time.monotonic() - self.started
        print(
            f"\n   {met} of {len(self.expectations)} expectations met in {took:.0f} s", flush=True
        )
