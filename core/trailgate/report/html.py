"""One entry as a web page: self-contained, without scripts, fit to be printed or mailed.

Everything in a record may have been chosen by somebody hostile (a commit's author, an
image's name), so everything is escaped, and the page's own policy lets it load and run
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Line = tuple[str, str]
"""What it is, and what is said of it; an empty name continues the line before."""

# What an auditor asks first. The rest, with its hashes, is folded away below.
_FIRST: Final = frozenset(
    {
        "what", "change", "outcome", "refused", "reasons", "committed by", "approved by",
        "deployment approved by", "last pushed by", "tests", "change request", "ticket",
        "goes back to", "image", "sent by", "checks", "against it", "policy", "self-asserted",
        "decided", "cluster", "environment", "shortened", "cause", "count", "subject", "state",
        "since then", "admitted", "seen", "pods", "runs", "since", "gate armed then", "workload",
        "part", "from", "to", "gate armed", "gates ready", "policies", "waiting in the spool",
        "entries before it", "workloads watched", "of them unexplained", "test", "reason",
        "namespace", "until", "name",
    }
)  # fmt: skip

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem;
  padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
p { margin: .25rem 0 1rem; }
table { border-collapse: collapse; width: 100%; }
caption { font-weight: 600; padding: .5rem 0; text-align: left; }
th, td { border-top: 1px solid #8886; padding: .4rem .75rem .4rem 0; text-align: left;
  vertical-align: top; }
th { font-weight: 600; width: 13rem; }
td span { display: block; white-space: pre-wrap; }
details { margin-top: 1.5rem; }
summary { cursor: pointer; font-weight: 600; }
summary:focus-visible { outline: 3px solid; outline-offset: 2px; }
pre { border: 1px solid #8886; overflow-wrap: anywhere; padding: .75rem; white-space: pre-wrap; }
.null { font-style: italic; }
@media print { body { margin: 0; max-width: none; } details > *:not(summary) { display: block; } }
"""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Proof:
    """What the page says of how the entry can be verified."""

    origin: str
    size: int
    """Entries under the checkpoint."""
    checkpoint: str
    """The signed note, as it was kept."""


def page(index: int, lines: Sequence[Line], proof: Proof) -> str:
    """Render one entry as an HTML document (UTF-8)."""
    told = _joined(lines)
    title = f"Entry {index} of {proof.origin}"
    subject = next((texts[0] for name, texts in told if name in ("change", "refused")), "")
    first = [line for line in told if line[0] in _FIRST]
    rest = [line for line in told if line[0] not in _FIRST]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_text(subject or title)}</h1>
<p>{_text(title)}</p>
{_table("Who, what and when", first)}
<details>
<summary>Fingerprints and details</summary>
{_table("Details", rest)}
</details>
<details>
<summary>How to verify this entry</summary>
<p>This page proves nothing by itself: it shows what entry {index} said when the page was
written. The log had {proof.size} entries then, under this signed checkpoint. Write the
entry's receipt with <code>trailgate ledger receipt {index}</code> and verify it with
<code>trailgate ledger verify-receipt</code> and the log's public key, which you have from
another place than this page.</p>
<pre>{_text(proof.checkpoint)}</pre>
</details>
</main>
</body>
</html>
"""


def _joined(lines: Iterable[Line]) -> list[tuple[str, list[str]]]:
    """Put lines that continue, or repeat a name, under one heading."""
    told: list[tuple[str, list[str]]] = []
    for name, text in lines:
        if told and name in ("", told[-1][0]):
            told[-1][1].append(text)
        else:
            told.append((name, [text]))
    return told


def _table(caption: str, lines: Iterable[tuple[str, list[str]]]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{"".join(map(_cell, texts))}</td></tr>'
        for name, texts in lines
    )
    return f"<table>\n<caption>{_text(caption)}</caption>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _cell(text: str) -> str:
    missing = ' class="null"' if text.startswith("null, ") else ""
    return f"<span{missing}>{_text(text)}</span>"


def _text(text: str) -> str:
    """Escape, and show what would be invisible or turn the line around."""
    return escape(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
