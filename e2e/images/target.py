"""The Python inside a base image: what wheels have to fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from packaging.markers import Environment, Marker, default_environment

from e2e.images.errors import ImageError

#: Run by the base's own Python; prints what ``Target`` holds, as JSON.
PROBE = (
    "import json, platform;"
    "print(json.dumps({'version': platform.python_version(), 'machine': platform.machine(),"
    " 'glibc': platform.libc_ver()[1]}))"
)
_MINIMUM = (3, 11)
_OLDEST_GLIBC = 5
_MUSL = ("musllinux_1_2", "musllinux_1_1")
_PIN = re.compile(r"^(?P<pin>[A-Za-z0-9][^\s;\\]*) *(?:; *(?P<marker>[^\\]*?))? *(?P<rest>\\?)$")


@dataclass(frozen=True, slots=True)
class Target:
    """A CPython on Linux."""

    version: str
    """Such as ``3.13.1``."""
    machine: str
    """As the kernel names it, such as ``x86_64``."""
    glibc: str
    """Such as ``2.36``; empty where the base has musl."""

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read what ``PROBE`` printed; raises ``ImageError`` for a Python that is too old."""
        try:
            target = msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise ImageError(f"got {text!r} from the base's Python: {error}") from error
        if tuple(map(int, target.minor.split("."))) < _MINIMUM:
            raise ImageError(f"got Python {target.version} in the base, expected 3.11 or later")
        return target

    @property
    def minor(self) -> str:
        """Such as ``3.13``."""
        return ".".join(self.version.split(".")[:2])

    def pip_options(self) -> Iterator[str]:
        """What makes ``pip download`` choose wheels for this Python instead of its own."""
        yield from ("--python-version", self.minor, "--implementation", "cp")
        yield from ("--abi", f"cp{self.minor.replace('.', '')}", "--abi", "abi3", "--abi", "none")
        for platform in self._platforms():
            yield from ("--platform", f"{platform}_{self.machine}")

    def _platforms(self) -> Iterator[str]:
        if not self.glibc:
            yield from _MUSL
            return
        newest = int(self.glibc.split(".")[1])
        yield from (f"manylinux_2_{minor}" for minor in range(newest, _OLDEST_GLIBC - 1, -1))
        yield from ("manylinux2014", "manylinux2010", "manylinux1")

    def applicable(self, requirements: str) -> str:
        """Return the hashed requirements that hold for this Python, without markers.

        pip evaluates markers for the Python that it runs in, also when it downloads for another.
        """
        kept, keep = [], True
        for line in requirements.splitlines():
            if found := _PIN.match(line):
                keep = found["marker"] is None or self._holds(found["marker"])
                line = f"{found['pin']} {found['rest']}"  # noqa: PLW2901 - the same, shorter
            if keep:
                kept.append(line)
        return "\n".join(kept) + "\n"

    def _holds(self, marker: str) -> bool:
        environment: Environment = {
            **default_environment(),
            "python_version": self.minor,
            "python_full_version": self.version,
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
        }
        return Marker(marker).evaluate(dict(environment))  # type: ignore[arg-type]
