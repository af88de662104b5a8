from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.assess.support import IMAGE, OTHER, edited, real, workload
from trailgate.assess.images import (
    CRON_JOB,
    DEPLOYMENT,
    POD,
    WORKLOADS,
    NoImagesError,
    find_images,
    pod_spec,
)
from trailgate.model.admission import ContainerClass, ContainerImage, Kind
from trailgate.model.errors import MalformedError

KINDS = sorted(WORKLOADS, key=str)


def with_spec(kind: Kind, spec: Any) -> dict[str, Any]:
    item = workload(kind)
    if kind == POD:
        item["spec"] = spec
    elif kind == CRON_JOB:
        item["spec"]["jobTemplate"]["spec"]["template"]["spec"] = spec
    else:
        item["spec"]["template"]["spec"] = spec
    return item


def test_the_eight_kinds_are_the_eight_kinds():
    assert sorted(map(str, WORKLOADS)) == [
        "CronJob.batch", "DaemonSet.apps", "Deployment.apps", "Job.batch", "Pod",
        "ReplicaSet.apps", "ReplicationController", "StatefulSet.apps",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_container_class_of_every_kind_is_found(kind):
    item = with_spec(
        kind,
        {
            "containers": [{"name": "a", "image": "i1"}, {"name": "b", "image": "i2"}],
            "initContainers": [
                {"name": "c", "image": "i3"},
                {"name": "d", "image": "i4", "restartPolicy": "Always"},
            ],
            "ephemeralContainers": [{"name": "e", "image": "i5"}],
            "volumes": [
                {"name": "f", "image": {"reference": "i6", "pullPolicy": "Always"}},
                {"name": "g", "emptyDir": {}},
            ],
        },
    )
    assert find_images(kind, item) == (
        ContainerImage("a", ContainerClass.CONTAINER, "i1"),
        ContainerImage("b", ContainerClass.CONTAINER, "i2"),
        ContainerImage("c", ContainerClass.INIT, "i3"),
        ContainerImage("d", ContainerClass.INIT, "i4"),
        ContainerImage("e", ContainerClass.EPHEMERAL, "i5"),
        ContainerImage("f", ContainerClass.IMAGE_VOLUME, "i6"),
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("spec", [None, "text", [], 7])
def test_a_pod_spec_that_is_none_is_an_error(kind, spec):
    with pytest.raises(MalformedError, match=kind.kind):
        find_images(kind, with_spec(kind, spec))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_missing_spec_is_an_error(kind):
    with pytest.raises(MalformedError, match="missing"):
        find_images(kind, edited(workload(kind), spec=...))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"containers": []},
        {"containers": None},
        {"initContainers": [{"name": "a", "image": "i"}]},
        {"volumes": [{"name": "v", "image": {"reference": "i"}}]},
    ],
)
def test_no_containers_is_never_nothing_to_verify(kind, spec):
    with pytest.raises(NoImagesError):
        find_images(kind, with_spec(kind, spec))


@pytest.mark.parametrize(
    "broken",
    [
        {"containers": {"name": "a", "image": "i"}},
        {"containers": "a"},
        {"containers": ["a"]},
        {"containers": [{"name": "a"}]},
        {"containers": [{"name": "a", "image": ""}]},
        {"containers": [{"name": "a", "image": None}]},
        {"containers": [{"name": "a", "image": ["i"]}]},
        {"containers": [{"image": "i"}]},
        {"containers": [{"name": 7, "image": "i"}]},
        {"containers": [{"name": "a", "image": "i"}], "initContainers": [{"name": "b"}]},
        {"containers": [{"name": "a", "image": "i"}], "ephemeralContainers": {"x": 1}},
        {"containers": [{"name": "a", "image": "i"}], "volumes": [{"name": "v", "image": {}}]},
        {"containers": [{"name": "a", "image": "i"}], "volumes": [{"name": "v", "image": "i"}]},
        {"containers": [{"name": "a", "image": "i"}], "volumes": ["v"]},
    ],
)
def test_what_cannot_be_read_is_an_error(broken):
    with pytest.raises(MalformedError, match="got"):
        find_images(DEPLOYMENT, with_spec(DEPLOYMENT, broken))


def test_a_real_deployment_has_its_images_in_every_class():
    item = real("create deployment", "CREATE deployments deployer").object
    assert item is not None
    assert {use.container_class for use in find_images(DEPLOYMENT, item)} == {
        ContainerClass.CONTAINER, ContainerClass.INIT, ContainerClass.IMAGE_VOLUME,
    }  # fmt: skip


def test_the_kind_is_told_by_its_group_too():
    stranger = Kind("example.test", "Deployment")
    assert stranger not in WORKLOADS
    assert pod_spec(DEPLOYMENT, workload(DEPLOYMENT, IMAGE, OTHER))["containers"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["spec", "template", "jobTemplate", "containers", "volumes", "name",
                         "image", "initContainers", "reference"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(KINDS), st.dictionaries(st.just("spec"), json_values))
def test_whatever_comes_there_are_images_or_a_foreseen_error(kind, item):
    try:
        found = find_images(kind, item)
    except (MalformedError, NoImagesError):
        return
    assert found
    assert all(use.image for use in found)
