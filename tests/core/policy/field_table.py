"""The table of fields in docs/reference/policy.md, written from the schema.

``python -m tests.core.policy.field_table`` writes it anew; a test holds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trailgate.policy import crd

PAGE = Path(__file__).parents[3] / "docs/reference/policy.md"
START, END = "field_table -->\n", "<!-- end of fields -->"


def rows(node: dict[str, Any], path: str = "spec"):
    for name, child in node["properties"].items():
        where = f"{path}.{name}"
        required = name in node.get("required", [])
        yield where, _type(child), _default(child, required=required), child["description"]
        inner = child.get("items", child)
        if inner.get("type") == "object":
            yield from rows(inner, where + ("[]" if "items" in child else ""))


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return " \\| ".join(node["enum"])
    if "items" in node:
        inner = node["items"].get("type")
        return "list" if inner == "object" else f"list of {inner}s"
    return {"date-time": "time", "int32": "integer"}.get(node.get("format", ""), node["type"])


def _default(node: dict[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    default = node.get("default")
    return "" if default is None else str(default).lower() if default is True else str(default)


def table() -> str:
    lines = ["", "| field | type | default | |", "|---|---|---|---|"]
    lines += [
        f"| `{path.removeprefix('spec.')}` | {kind} | {default} | {text} |"
        for path, kind, default, text in rows(crd.spec_schema())
    ]
    return "\n".join(lines) + "\n\n"


def split(page: str) -> tuple[str, str, str]:
    before, _, rest = page.partition(START)
    inside, _, after = rest.partition(END)
    return before + START, inside, END + after


if __name__ == "__main__":
    head, _, tail = split(PAGE.read_text())
    PAGE.write_text(head + table() + tail)
