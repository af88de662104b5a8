"""Liveness and readiness. Neither ever waits for anything, least of all a registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Check = Callable[[], str | None]
"""None when well; else one line that says what is missing, without personal data."""


class Health:
    """Ready when every check is well and the process isn't on its way out."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        notes: Mapping[str, Check],
        broken: Callable[[], bool] = lambda: False,
    ) -> None:
        self._checks = checks
        self._notes = notes
        self._broken = broken
        self.draining = False

    def alive(self) -> bool:
        """Whether a restart would not help; independent of everything outside."""
        return not self._broken()

    def ready(self) -> tuple[bool, str]:
        """(ready, a line per part). Notes are shown and never decide."""
        lines, well = [], not self.draining
        if self.draining:
            lines.append("shutting down")
        for name, check in self._checks.items():
            problem = check()
            well = well and problem is None
            lines.append(f"{name}: {problem or 'ok'}")
        lines += [f"{name}: {text}" for name, note in self._notes.items() if (text := note())]
        return well, "\n".join(lines) + "\n"
