"""What a form of a DeployPolicy is called in the trail, whether it can be read or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from trailgate.model.canonical import fingerprint
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.policy import schema
from trailgate.policy.parse import parse_policy


def policy_digest(item: Mapping[str, Any]) -> Digest:
    """Name a policy's form: a readable one as every decision names it, else by its JSON.

    ``item`` is the object; items of a list may lack ``apiVersion`` and ``kind``.
    """
    typed = {"apiVersion": schema.API_VERSION, "kind": schema.KIND, **item}
    try:
        return parse_policy(typed).reference.digest
    except MalformedError:
        return spec_digest(item)


def spec_digest(item: Mapping[str, Any]) -> Digest:
    """Name an object's form by its specification's JSON."""
    spec = item.get("spec")
    try:
        return fingerprint(spec)
    except MalformedError:  # numbers without a canonical form: still a change that has a name
        return Digest.of(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS))
