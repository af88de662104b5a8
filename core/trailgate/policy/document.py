"""YAML and JSON documents as plain values, read the way Kubernetes reads them.

Not the way YAML readers do by default: a repeated key is refused (the last one would
win, unseen), a time stays the text that it is, and a file has a size.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from trailgate.model.errors import MalformedError

_MAX_BYTES = 1024 * 1024


class _Loader(yaml.CSafeLoader):
    """The safe loader, without times and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"got key {key!r}, expected a string", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"got key {key!r} twice in one object", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read(content: bytes) -> list[Any]:
    """Read all documents of a YAML or JSON stream, without the empty ones.

    Raises ``MalformedError``: not UTF-8, not YAML, a repeated key, more than 1 MiB.
    """
    if len(content) > _MAX_BYTES:
        raise MalformedError(f"got {len(content)} bytes, expected at most {_MAX_BYTES}")
    try:
        text = content.decode("utf-8")
        documents = list(yaml.load_all(text, Loader=_Loader))
    except UnicodeDecodeError as error:
        raise MalformedError(f"got bytes that are not UTF-8 (at {error.start})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MalformedError(f"got text that is not YAML: {_place(error)}") from error
    return [document for document in documents if document is not None]


def _place(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())[:200]
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + (error.problem or error.context or "unreadable")
