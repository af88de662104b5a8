"""What docs/how-to/install gives by hand is what the chart gives: the same rights, the same guards."""

import copy

import yaml

from tests.charts.rendering import find, render
from tests.charts.test_rights import BY_HAND, KEYS, ROOT, granted

GUARDS = list(yaml.safe_load_all((ROOT / "docs/how-to/install/guards.yaml").read_text()))


def test_the_operator_by_hand_has_the_charts_rights_without_its_keys(helm):
    assert granted(BY_HAND, "trailgate-operator") == granted(render(helm), "trailgate-operator") - KEYS  # fmt: skip


def test_the_probes_namespace_is_held_by_hand_as_by_the_chart(helm):
    def held(objects):
        labels = find(objects, "Namespace", "trailgate-probe")["metadata"]["labels"]
        return {name: value for name, value in labels.items() if name.startswith("pod-security.")}

    assert held(BY_HAND) == held(render(helm))
    assert held(BY_HAND)


def test_the_guards_by_hand_are_those_of_the_chart(helm):
    objects = render(helm)
    names = [(one["kind"], one["metadata"]["name"]) for one in GUARDS]
    assert {name for _, name in names} == {"trailgate-policies", "trailgate-probe"}
    assert len(set(names)) == len(names) == 4  # each with its binding
    for kind, name in names:
        wanted = copy.deepcopy(find(objects, kind, name))
        del wanted["metadata"]["labels"]
        assert find(GUARDS, kind, name) == wanted
