from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.assess.support import OTHER, edited, real, workload
from trailgate.assess.delta import (
    MAX_POINTER_LENGTH,
    MAX_POINTERS,
    Delta,
    bounded,
    compare,
    escape,
)
from trailgate.assess.images import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
    WORKLOADS,
)
from trailgate.model.admission import Kind
from trailgate.model.errors import MalformedError

KINDS = sorted(WORKLOADS, key=str)


def change(kind: Kind = DEPLOYMENT, **paths: Any) -> Delta:
    old = workload(kind)
    return compare(kind, old, edited(old, **paths))


def metadata(kind: Kind, field: str, key: str) -> Delta:
    old = workload(kind)
    return compare(kind, old, edited(old, **{f"metadata__{field}": {key: "x"}}))


@pytest.mark.parametrize(
    "paths",
    [
        {"status": {"replicas": 3}},
        {"metadata__resourceVersion": "7"},
        {"metadata__generation": 2},
        {"metadata__managedFields": [{"manager": "kubectl"}]},
        {"metadata__deletionTimestamp": "2026-11-23T12:00:00Z"},
        {"metadata__deletionGracePeriodSeconds": 30},
        {"metadata__creationTimestamp": "2026-11-23T12:00:00Z"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_servers_own_bookkeeping_is_no_change_and_not_named(kind, paths):
    delta = change(kind, **paths)
    assert (delta.effective, delta.pointers) == ((), ())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_finalizers_are_named_and_change_nothing(kind):
    delta = change(kind, metadata__finalizers=["a/b"])
    assert (delta.effective, delta.pointers) == ((), ("/metadata/finalizers",))


@pytest.mark.parametrize(
    ("paths", "pointer"),
    [
        ({"spec__template__spec__containers__0__image": OTHER},
         "/spec/template/spec/containers/0/image"),
        ({"spec__template__spec__containers__0__env": [{"name": "A", "value": "secret"}]},
         "/spec/template/spec/containers/0/env"),
        ({"spec__template__metadata__annotations": {"a": "b"}},
         "/spec/template/metadata/annotations"),
        ({"spec__paused": True}, "/spec/paused"),
        ({"spec__selector": {}}, "/spec/selector"),
        ({"metadata__ownerReferences": []}, "/metadata/ownerReferences"),
        ({"metadata__somethingNew": 1}, "/metadata/somethingNew"),
        ({"somethingNew": 1}, "/somethingNew"),
        ({"spec__replicas": ...}, None),
        ({"spec__template": ...}, "/spec/template"),
    ],
)  # fmt: skip
def test_everything_else_is_a_change(paths, pointer):
    delta = change(**paths)
    if pointer is None:
        return
    assert delta.effective == (pointer,)
    assert "secret" not in "".join(delta.pointers)


HARMLESS = [
    "team", "cost_center", "x-1",
    "kubectl.kubernetes.io/last-applied-configuration", "kubernetes.io/change-cause",
    "app.kubernetes.io/version", "helm.sh/chart",
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
]  # fmt: skip
TRIGGERS = [
    "deprecated.deployment.rollback.to",
    "deployment.kubernetes.io/revision",
    "sidecar.istio.io/inject",
    "vault.hashicorp.com/agent-inject",
    "linkerd.io/inject",
    "container.apparmor.security.beta.kubernetes.io/web",
    "io.kubernetes.cri-o.userns-mode",
    "io.kubernetes.cri-o/userns-mode",
    "k8s.v1.cni.cncf.io/networks",
    "iam.amazonaws.com/role",
    "keel.sh/policy",
    "reloader.stakater.com/auto",
    "argocd.argoproj.io/tracking-id",
    "app.kubernetes.io/instance",
    "kueue.x-k8s.io/queue-name",
    "kubernetes.io/config.source",
    "trailgate.dev/anything",
    "what.nobody/has-heard-of",
    "a.b",
    "",
    " team",
]


@pytest.mark.parametrize("key", HARMLESS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_note_is_no_change(kind, key):
    delta = metadata(kind, "annotations", key)
    assert (delta.effective, delta.pointers) == ((), (f"/metadata/annotations/{escape(key)}",))


@pytest.mark.parametrize("key", TRIGGERS)
@pytest.mark.parametrize("field", ["labels", "annotations"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_not_known_to_be_a_note_is_a_change(kind, field, key):
    assert metadata(kind, field, key).effective == (f"/metadata/{field}/{escape(key)}",)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_labels_that_select_are_a_change(kind):
    selected = kind in (POD, REPLICA_SET)
    assert bool(metadata(kind, "labels", "team").effective) is selected


def test_labels_and_annotations_of_other_kinds_select():
    kind = Kind("", "ConfigMap")
    assert metadata(kind, "labels", "team").effective
    assert not metadata(kind, "annotations", "team").effective


def test_removing_and_altering_a_key_are_as_adding_it():
    with_key = workload(DEPLOYMENT, annotations={"keel.sh/policy": "all"})
    for new in (workload(DEPLOYMENT), workload(DEPLOYMENT, annotations={"keel.sh/policy": "no"})):
        assert compare(DEPLOYMENT, with_key, new).effective == (
            "/metadata/annotations/keel.sh~1policy",
        )


def test_a_cluster_may_add_keys():
    old = workload(DEPLOYMENT)
    new = edited(old, metadata__annotations={"acme.example/owner": "x"})
    assert compare(DEPLOYMENT, old, new).effective
    assert not compare(DEPLOYMENT, old, new, frozenset({"acme.example/owner"})).effective


SCALED = (DEPLOYMENT, STATEFUL_SET, REPLICA_SET, REPLICATION_CONTROLLER)


@pytest.mark.parametrize("kind", SCALED, ids=str)
@pytest.mark.parametrize(
    ("before", "after", "up", "down"),
    [(1, 2, True, False), (2, 1, False, True), (1, 0, False, True), (0, 1, True, False)],
)
def test_replicas(kind, before, after, up, down):
    old = edited(workload(kind), spec__replicas=before)
    delta = compare(kind, old, edited(old, spec__replicas=after))
    assert (delta.scaled_up, delta.scaled_down, delta.effective) == (up, down, ())
    assert delta.pointers == ("/spec/replicas",)


def test_missing_replicas_are_one():
    old = edited(workload(DEPLOYMENT), spec__replicas=...)
    assert compare(DEPLOYMENT, old, edited(old, spec__replicas=2)).scaled_up
    assert compare(DEPLOYMENT, old, edited(old, spec__replicas=0)).scaled_down


@pytest.mark.parametrize("odd", ["2", 2.0, None, [2], True])
def test_replicas_that_are_no_number_stay_a_change(odd):
    old = edited(workload(DEPLOYMENT), spec__replicas=5)
    delta = compare(DEPLOYMENT, old, edited(old, spec__replicas=odd))
    assert delta.effective == ("/spec/replicas",)
    assert not delta.scaled_down


@pytest.mark.parametrize("kind", [JOB, CRON_JOB, DAEMON_SET, POD], ids=str)
def test_replicas_mean_nothing_elsewhere(kind):
    old = edited(workload(kind), spec__replicas=5)
    assert compare(kind, old, edited(old, spec__replicas=1)).effective == ("/spec/replicas",)


def test_fewer_replicas_hide_nothing():
    delta = change(spec__replicas=0, spec__template__spec__containers__0__image=OTHER)
    assert delta.effective == ("/spec/template/spec/containers/0/image",)
    assert "/spec/replicas" in delta.pointers


def test_true_is_not_one_in_a_kind_without_types():
    kind = Kind("example.test", "Thing")
    old = workload(kind) | {"spec": {"on": 1, "deep": [{"x": True}], "big": 1.0}}
    for paths in ({"spec__on": True}, {"spec__deep": [{"x": 1}]}, {"spec__big": 1}):
        assert compare(kind, old, edited(old, **paths)).effective


@pytest.mark.parametrize(
    "broken", [{"metadata": "text"}, {"metadata": {"labels": []}}, {"metadata": {"annotations": 1}}]
)
def test_unreadable_metadata_is_malformed(broken):
    with pytest.raises(MalformedError):
        compare(DEPLOYMENT, workload(DEPLOYMENT), workload(DEPLOYMENT) | broken)


def test_pointers_are_few_and_each_is_true():
    old = workload(DEPLOYMENT)
    env = [{"name": f"N{i}", "value": "a"} for i in range(200)]
    old["spec"]["template"]["spec"]["containers"][0]["env"] = env
    new = copy.deepcopy(old)
    for item in new["spec"]["template"]["spec"]["containers"][0]["env"]:
        item["value"] = "b"
    delta = compare(DEPLOYMENT, old, new)
    assert len(delta.effective) == 200
    assert delta.pointers == ("/spec/template/spec/containers/0/env",)


def test_a_long_pointer_names_its_parent():
    key = "k" * 300
    old = workload(DEPLOYMENT, annotations={"a": "b"})
    new = workload(DEPLOYMENT, annotations={"a": "b", key: "c"})
    assert compare(DEPLOYMENT, old, new).pointers == ("/metadata/annotations",)


def nested(depth: int, leaf: int) -> Any:
    value: Any = leaf
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("depth", [40, 100, 400])
def test_deep_nesting_ends(depth):
    kind = Kind("example.test", "Thing")
    old = workload(kind) | {"spec": {"x": nested(depth, 1)}}
    (pointer,) = compare(kind, old, old | {"spec": {"x": nested(depth, 2)}}).effective
    assert pointer.startswith("/spec/x/a/a")
    # Equal, and told so as far as telling goes: never the other way round.
    same = compare(kind, old, old | {"spec": {"x": nested(depth, 1)}})
    assert bool(same.effective) == (depth == 400)


names = st.text(alphabet="ab/~é", min_size=1, max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)
specs = st.dictionaries(names, values, max_size=4)


def resolve(value: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def found(value: Any, pointer: str) -> Any:
    try:
        return ("there", resolve(value, pointer))
    except (KeyError, IndexError, TypeError, ValueError):
        return ("not there",)


@given(specs, specs)
def test_pointers_are_exactly_where_two_specs_differ(before, after):
    kind = Kind("example.test", "Thing")
    old, new = workload(kind) | {"spec": before}, workload(kind) | {"spec": after}
    delta = compare(kind, old, new)
    differ = json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True)
    assert bool(delta.effective) == differ
    for pointer in delta.effective:
        assert repr(found(old, pointer)) != repr(found(new, pointer))


@given(st.lists(st.lists(names, max_size=5), max_size=200))
def test_bounded_covers_all_and_is_bounded(paths):
    pointers = ["".join(f"/{escape(name)}" for name in path) for path in paths]
    short = bounded(pointers)
    assert len(short) <= MAX_POINTERS
    assert all(len(pointer) <= MAX_POINTER_LENGTH for pointer in short)
    for pointer in pointers:
        assert any(pointer == kept or pointer.startswith(f"{kept}/") for kept in short)


def test_a_real_undo_names_the_environment_it_undoes():
    asked = real("rollout undo", "UPDATE deployments deployer")
    assert asked.old_object is not None
    assert asked.object is not None
    pointers = compare(DEPLOYMENT, asked.old_object, asked.object).pointers
    assert "/spec/template/spec/containers/0/env" in pointers
