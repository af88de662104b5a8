"""The denial as a person reads it: what was refused, why, and how to see it again.

Form: docs/reference/denial.md. Plain ASCII of at most 1 kB, whatever a spec contains:
kubectl prints it to a terminal, and others put it into chats and logs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from trailgate.model.admission import AdmissionRequest
from trailgate.model.decision import Decision, Finding, Mode
from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference

MAX_MESSAGE = 1024
MAX_WARNING = 120
MAX_WARNINGS = 8
REASONS_PAGE = "https://trailgate.dev/reasons/"

_SHORT_DIGEST = len("sha256:") + 12
_REQUEST = "request"
# What our own texts use beside ASCII; and the escape character itself.
_PLAIN = {"\u2026": "...", "\u2013": "-", "\u2019": "'", "\\": "\\\\"}


def message(request: AdmissionRequest, decision: Decision) -> str:
    """Explain a denial; empty for what is allowed."""
    if decision.allowed:
        return ""
    head = first_line(request, decision)
    groups = _by_subject(decision.denying)
    hints = _hints(decision.denying)
    for short, verbose in ((False, True), (True, True), (True, False)):
        blocks = [_block(image, found, short=short, verbose=verbose) for image, found in groups]
        text = "\n".join([head, *blocks, *hints])
        if len(text) <= MAX_MESSAGE:
            return text
    return _fit(head, groups, hints)


def first_line(request: AdmissionRequest, decision: Decision) -> str:
    """Return the line that others may search for: object, policies, how many images, request."""
    failing = {finding.image for finding in decision.denying if finding.image is not None}
    total = len(decision.images)
    count = f" ({len(failing)} of {total} images)" if failing and total else ""
    again = ", retryable" if decision.retryable else ""
    return (
        f"trailgate: {ascii_line(str(request.key), 200)} denied{_policies(decision)}"
        f"{count}{again} [{ascii_line(request.uid, 8, mark='')}]"
    )


def warnings(decision: Decision) -> tuple[str, ...]:
    """Say what policies in mode Warn would have denied: at most 8 of at most 120 characters.

    Audit says nothing to the caller: it is the administrator who is asking there.
    """
    found = [finding for finding in decision.findings if finding.mode is Mode.WARN]
    lines = dict.fromkeys(_warning(finding) for finding in found)
    shown = list(lines)[:MAX_WARNINGS]
    if len(lines) > MAX_WARNINGS:
        shown[-1] = f"trailgate: and {len(lines) - MAX_WARNINGS + 1} more warnings"
    return tuple(shown)


def ascii_line(text: str, limit: int, *, mark: str = "...") -> str:
    """Make one line of printable ASCII; everything else is shown as an escape.

    Terminal sequences, line breaks and right-to-left marks of a hostile spec end here.
    """
    shown = "".join(
        char if " " <= char <= "~" and char != "\\" else _escaped(char) for char in text[:limit]
    )
    if len(shown) > limit or len(text) > limit:
        return shown[: limit - len(mark)] + mark
    return shown


def _escaped(char: str) -> str:
    return _PLAIN.get(char) or char.encode("unicode_escape").decode("ascii")


def _by_subject(findings: Iterable[Finding]) -> list[tuple[str | None, list[Finding]]]:
    groups: dict[str | None, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.image, []).append(finding)
    return list(groups.items())


def _block(image: str | None, found: Sequence[Finding], *, short: bool, verbose: bool) -> str:
    first = found[0]
    others = _distinct(f.reason.value for f in found[1:] if f.reason is not first.reason)
    more = f" (and {', '.join(others)})" if others else ""
    line = f"- {_name(image, short=short)}: {first.reason.value}{more}"
    if not verbose:
        return line
    limit = 120 if short else 300
    lines = [
        line,
        f"    got      {ascii_line(first.got, limit)}",
        f"    expected {ascii_line(first.expected, limit)}",
    ]
    if first.moved_to is not None:
        lines.append(f"    the tag now names {first.moved_to}")
    return "\n".join(lines)


def _fit(head: str, groups: Sequence[tuple[str | None, list[Finding]]], hints: list[str]) -> str:
    """Give as many images as there is room for, and say how many more there are."""
    blocks = [_block(image, found, short=True, verbose=False) for image, found in groups]
    hints = [hint for hint in hints if len(hint) <= MAX_MESSAGE // 4]
    for count in range(len(blocks) - 1, -1, -1):
        rest = f"- and {len(blocks) - count} more"
        text = "\n".join([head, *blocks[:count], rest, *hints])
        if len(text) <= MAX_MESSAGE:
            return text
    return head


def _hints(findings: Sequence[Finding]) -> list[str]:
    """Return the command that shows it again, and where its code is explained."""
    lines = []
    for finding in findings:
        if finding.image is not None and finding.policy is not None and _parses(finding.image):
            file = shlex.quote(f"{ascii_line(finding.policy, 253)}.yaml")
            lines.append(f"  try: trailgate verify {finding.image} --policy {file}")
            break
    lines.append(f"  see: {REASONS_PAGE}{findings[0].reason.value}")
    return lines


def _name(image: str | None, *, short: bool) -> str:
    if image is None:
        return _REQUEST
    if not short:
        return ascii_line(image, 300)
    name, at, digest = image.partition("@")
    kept = digest[:_SHORT_DIGEST] + "..." if at else ""
    return ascii_line(name, 100) + at + ascii_line(kept, _SHORT_DIGEST + 3)


def _warning(finding: Finding) -> str:
    image = f" {_name(finding.image, short=True)}" if finding.image else ""
    policy = f" ({ascii_line(finding.policy, 40)})" if finding.policy else ""
    return ascii_line(f"trailgate: {finding.reason.value}{policy}:{image}".rstrip(":"), MAX_WARNING)


def _policies(decision: Decision) -> str:
    names = _distinct(f.policy for f in decision.denying if f.policy is not None)
    if not names:
        return ""
    shown = ", ".join(f'"{ascii_line(name, 63)}"' for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004
    return f" by DeployPolicy {shown}{more}"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _parses(image: str) -> bool:
    """Whether an image string is safe to paste: then it has a reference's characters only."""
    try:
        ImageReference.parse(image)
    except MalformedError:
        return False
    return True
