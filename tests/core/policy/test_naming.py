"""A policy's form has one name, whoever tells of it."""

import copy

import pytest

from tests.core.policy import builders as b
from trailgate.model.canonical import fingerprint
from trailgate.policy.naming import policy_digest, spec_digest
from trailgate.policy.parse import parse_policy


def without_type(document):
    return {name: value for name, value in document.items() if name not in ("apiVersion", "kind")}


def test_a_readable_form_is_called_as_in_decisions_also_out_of_a_list():
    document = b.document()
    expected = parse_policy(document).reference.digest
    assert policy_digest(document) == policy_digest(without_type(document)) == expected


def test_one_that_cannot_be_read_is_called_by_its_specification():
    broken = b.document()
    broken["spec"]["rules"] = "all of them"
    assert policy_digest(broken) == fingerprint(broken["spec"]) == spec_digest(broken)
    other = copy.deepcopy(broken)
    other["spec"]["rules"] = "none of them"
    assert policy_digest(other) != policy_digest(broken)


@pytest.mark.parametrize("spec", [{"mode": 1e400}, {"mode": 2**60}, None, 7])
def test_whatever_it_is_it_has_a_name(spec):
    document = b.document() | {"spec": spec}
    assert policy_digest(document) == policy_digest(copy.deepcopy(document))
    assert policy_digest(document) != policy_digest(b.document())
