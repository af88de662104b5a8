"""values.yaml, its schema and the README say the same."""

import copy
import importlib.util
import json
import sys

import jsonschema
import pytest
import yaml

import trailgate
from e2e.controlplane.helm import CHART
from tests.charts.rendering import EVERYTHING, GIVEN, MONITORING, merged

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.fixture(scope="module")
def readme():
    """The script, loaded as the dataclasses in it want it."""
    spec = importlib.util.spec_from_file_location("chart_readme", CHART.parent / "readme.py")
    module = sys.modules["chart_readme"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["chart_readme"]


def chart():
    return yaml.safe_load((CHART / "Chart.yaml").read_text())


def resolved(node):
    reference = node.get("$ref")
    return SCHEMA["$defs"][reference.rpartition("/")[2]] if reference else node


def nodes(node):
    yield node
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict | list):
            yield from nodes(value)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_takes_the_defaults_and_everything_there_is():
    for values in (DEFAULTS, merged(DEFAULTS, GIVEN, EVERYTHING, MONITORING)):
        jsonschema.validate(values, SCHEMA)


def test_every_object_of_ours_is_closed():
    for node in nodes(SCHEMA):
        if isinstance(node, dict) and "properties" in node and isinstance(node["properties"], dict):
            assert node.get("additionalProperties") is False, node


def test_the_schema_has_exactly_the_values():
    def compare(values, node, path):
        node = resolved(node)
        if "properties" not in node or not isinstance(values, dict):
            return
        if path and path[-1] in ("resources", "requests", "limits", "affinity"):
            return  # optional parts of Kubernetes' own
        assert set(values) == set(node["properties"]) - {"global"}, path
        for key, value in values.items():
            compare(value, node["properties"][key], (*path, key))

    compare(DEFAULTS, SCHEMA, ())


def leaves(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict) and value and key != "resources":
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


@pytest.mark.parametrize("path", [path for path, _ in leaves(DEFAULTS)], ids=".".join)
def test_a_value_of_the_wrong_type_is_refused(path):
    values = copy.deepcopy(DEFAULTS)
    parent = values
    for key in path[:-1]:
        parent = parent[key]
    wrong = 3.5 if not isinstance(parent[path[-1]], bool) else "true"
    parent[path[-1]] = wrong
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)


def test_the_version_is_the_programs():
    assert chart()["appVersion"] == trailgate.__version__


def test_the_readme_is_what_the_values_say(readme):
    text = (CHART / "values.yaml").read_text()
    assert (CHART / "README.md").read_text() == readme.readme(chart(), text)


def test_every_value_has_a_row_of_its_own(readme):
    page = (CHART / "README.md").read_text()
    for path, _ in leaves(DEFAULTS):
        name = ".".join(path)
        assert page.count(f"| `{name}` |") == 1, name


def test_a_value_without_a_comment_is_refused(readme):
    with pytest.raises(readme.ValuesError, match=r"a\.b has no comment"):
        list(readme.values("# A.\na:\n  b: 1\n"))


def test_a_comment_does_not_reach_over_an_empty_line(readme):
    with pytest.raises(readme.ValuesError, match="a has no comment"):
        list(readme.values("# About something else.\n\na: 1\n"))
