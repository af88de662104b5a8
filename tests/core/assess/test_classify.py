from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.assess.support import (
    DEPLOYER,
    IMAGE,
    LAPTOP,
    OTHER,
    controller,
    edited,
    owned_by,
    real,
    recorded,
    request,
    workload,
)
from trailgate.assess.classify import Options, RefusedError, Scope, classify, scoped_images
from trailgate.assess.images import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
)
from trailgate.model.admission import Caller, Kind, Operation
from trailgate.model.assessment import ChangeClass
from trailgate.model.errors import MalformedError
from trailgate.model.reason import Reason

ROOT, CHILD, NO_DELTA = ChangeClass.ROOT, ChangeClass.CHILD, ChangeClass.NO_DELTA
DELETE, MIRROR, SCALE = ChangeClass.DELETE, ChangeClass.MIRROR, ChangeClass.SCALE

# What a person or a pipeline did, as the real API server sent it.
BY_PEOPLE = {
    ("create deployment", "CREATE deployments deployer"): ROOT,
    ("set env", "UPDATE deployments deployer"): ROOT,
    ("scale up", "UPDATE deployments/scale deployer"): SCALE,
    ("scale down", "UPDATE deployments/scale deployer"): NO_DELTA,
    ("rollout undo", "UPDATE deployments deployer"): ROOT,
    ("server-side apply over client-side", "UPDATE deployments deployer"): {ROOT, NO_DELTA},
    ("rollback annotation", "UPDATE deployments deployer"): ROOT,
    ("label and note", "UPDATE deployments deployer"): NO_DELTA,
    ("set image on a child pod", "UPDATE pods deployer"): ROOT,
    ("label a child pod", "UPDATE pods deployer"): ROOT,
    ("ephemeral container", "UPDATE pods/ephemeralcontainers admin"): ROOT,
    ("resize", "UPDATE pods/resize admin"): NO_DELTA,
    ("bind", "CREATE pods/binding admin"): NO_DELTA,
    ("evict", "CREATE pods/eviction admin"): NO_DELTA,
    ("delete a child pod", "DELETE pods deployer"): DELETE,
    ("create statefulset", "CREATE statefulsets deployer"): ROOT,
    ("create daemonset", "CREATE daemonsets deployer"): ROOT,
    ("update daemonset", "UPDATE daemonsets deployer"): ROOT,
    ("create replicaset", "CREATE replicasets deployer"): ROOT,
    ("create replicationcontroller", "CREATE replicationcontrollers deployer"): ROOT,
    ("create pod", "CREATE pods deployer"): ROOT,
    ("dry run", "CREATE pods deployer"): ROOT,
    ("create job", "CREATE jobs deployer"): ROOT,
    ("create cronjob", "CREATE cronjobs deployer"): ROOT,
    ("create job from cronjob", "CREATE jobs deployer"): ROOT,
    ("suspend cronjob", "UPDATE cronjobs admin"): ROOT,
    ("orphan", "DELETE deployments deployer"): DELETE,
    ("adopt", "CREATE deployments deployer"): ROOT,
    ("delete deployment", "DELETE deployments deployer"): DELETE,
    ("foreground deletion", "DELETE replicasets deployer"): DELETE,
    ("mirror pod", "CREATE pods node-1"): MIRROR,
    ("mirror pod deleted", "DELETE pods node-1"): MIRROR,
}
# What Kubernetes made of it, that somebody else has to answer for.
NOT_QUIET = {
    ("impersonated controller", "CREATE pods replicaset-controller"): ROOT,
    ("rollback annotation", "UPDATE deployments deployment-controller"): ROOT,
}


@pytest.mark.parametrize("item", recorded(), ids=lambda r: f"{r.step}: {r.what}")
def test_real_reviews_have_the_class_of_the_design(item):
    expected = (BY_PEOPLE | NOT_QUIET).get((item.step, item.what), {CHILD, NO_DELTA})
    allowed = expected if isinstance(expected, set) else {expected}
    assert classify(item.request).change_class in allowed


def test_every_expected_review_was_recorded():
    assert (BY_PEOPLE | NOT_QUIET).keys() <= {(item.step, item.what) for item in recorded()}


def test_one_server_side_apply_is_one_root_change():
    step = "server-side apply over client-side"
    classes = [
        classify(item.request).change_class
        for item in recorded()
        if (item.step, item.what) == (step, "UPDATE deployments deployer")
    ]
    assert len(classes) >= 3
    assert classes.count(ROOT) == 1
    assert set(classes) == {ROOT, NO_DELTA}


OWNERS = [
    (DEPLOYMENT, REPLICA_SET, "deployment-controller"),
    (REPLICA_SET, POD, "replicaset-controller"),
    (STATEFUL_SET, POD, "statefulset-controller"),
    (DAEMON_SET, POD, "daemon-set-controller"),
    (JOB, POD, "job-controller"),
    (CRON_JOB, JOB, "cronjob-controller"),
    (REPLICATION_CONTROLLER, POD, "replication-controller"),
]


@pytest.mark.parametrize(("owner", "child", "account"), OWNERS, ids=str)
class TestChild:
    def make(self, owner, child, **changes):
        parent = workload(owner, name="owner")
        return workload(child, name="child", ownerReferences=owned_by(parent, **changes))

    def test_by_its_controller_claims_its_owner(self, owner, child, account):
        found = classify(request(self.make(owner, child), caller=controller(account)))
        assert found.change_class is CHILD
        assert found.scope is Scope.ALL
        assert found.claim is not None
        assert (found.claim.kind, found.claim.name) == (owner, "owner")
        assert found.claim.uid == f"uid-{owner.kind}-owner"

    def test_by_anyone_else_is_a_root(self, owner, child, account):
        others = [DEPLOYER, LAPTOP, *(controller(a) for _, _, a in OWNERS if a != account)]
        for caller in others:
            assert classify(request(self.make(owner, child), caller=caller)).change_class is ROOT

    def test_impersonated_is_a_root(self, owner, child, account):
        caller = controller(account, credential=False)
        assert classify(request(self.make(owner, child), caller=caller)).change_class is ROOT

    def test_account_of_the_same_name_elsewhere_is_a_root(self, owner, child, account):
        genuine = controller(account)
        for name in (f"system:serviceaccount:shop:{account}", account, f"kube-system:{account}"):
            caller = replace(genuine, username=name)
            assert classify(request(self.make(owner, child), caller=caller)).change_class is ROOT

    @pytest.mark.parametrize(
        "changes",
        [
            {"controller": False},
            {"controller": "true"},
            {"controller": None},
            {"apiVersion": "example.test/v1"},
            {"kind": "Rollout"},
            {"uid": ""},
            {"name": ""},
            {"uid": None},
        ],
        ids=str,
    )
    def test_reference_that_is_not_to_that_owner_is_a_root(self, owner, child, account, changes):
        made = self.make(owner, child, **changes)
        assert classify(request(made, caller=controller(account))).change_class is ROOT

    def test_two_controllers_are_none(self, owner, child, account):
        made = self.make(owner, child)
        made["metadata"]["ownerReferences"] *= 2
        assert classify(request(made, caller=controller(account))).change_class is ROOT

    def test_shared_account_only_by_option(self, owner, child, account):
        shared = replace(controller(account), username="system:kube-controller-manager")
        asked = request(self.make(owner, child), caller=shared)
        assert classify(asked).change_class is ROOT
        options = Options(shared_controller_manager=True)
        assert classify(asked, options).change_class is CHILD
        nobody = replace(asked, caller=replace(shared, extra={}))
        assert classify(nobody, options).change_class is ROOT


def test_a_controller_makes_only_its_own_kind_of_child():
    parent = workload(DEPLOYMENT, name="owner")
    pod = workload(POD, ownerReferences=owned_by(parent))
    caller = controller("deployment-controller")
    assert classify(request(pod, caller=caller)).change_class is ROOT


def test_a_controllers_write_to_a_root_template_is_a_root():
    old = workload(DEPLOYMENT)
    new = edited(old, spec__template__spec__containers__0__image=OTHER)
    caller = controller("deployment-controller")
    found = classify(request(new, old, caller=caller))
    assert (found.change_class, found.scope) == (ROOT, Scope.ALL)


class TestUpdateOfAChild:
    parent = workload(REPLICA_SET, name="owner")
    pod = workload(POD, ownerReferences=owned_by(parent))
    caller = controller("replicaset-controller")

    @pytest.mark.parametrize(
        "changes",
        [
            {"spec__containers__0__image": OTHER},
            {"metadata__labels": {"app": "web"}},
            {"metadata__ownerReferences": []},
            {"spec__activeDeadlineSeconds": 1},
            {"metadata__annotations": {"sidecar.istio.io/inject": "true"}},
        ],
        ids=str,
    )
    def test_by_a_user_is_a_root(self, changes):
        for caller in (DEPLOYER, LAPTOP):
            asked = request(edited(self.pod, **changes), self.pod, caller=caller)
            assert classify(asked).change_class is ROOT

    def test_same_images_by_its_controller_need_nothing(self):
        new = edited(self.pod, metadata__labels={"controller-revision-hash": "x"})
        found = classify(request(new, self.pod, caller=self.caller))
        assert (found.change_class, found.claim, found.scope) == (CHILD, None, Scope.NONE)

    def test_other_images_by_its_controller_are_a_claim(self):
        new = edited(self.pod, spec__containers__0__image=OTHER)
        found = classify(request(new, self.pod, caller=self.caller))
        assert found.change_class is CHILD
        assert found.claim is not None
        assert found.scope is Scope.ALL

    def test_adoption_and_release_are_its_controllers(self):
        free = edited(self.pod, metadata__ownerReferences=...)
        for new, old in ((self.pod, free), (free, self.pod)):
            assert classify(request(new, old, caller=self.caller)).change_class is CHILD
            assert classify(request(new, old, caller=LAPTOP)).change_class is ROOT

    def test_release_with_another_image_is_a_root(self):
        free = edited(self.pod, metadata__ownerReferences=..., spec__containers__0__image=OTHER)
        assert classify(request(free, self.pod, caller=self.caller)).change_class is ROOT

    def test_new_template_of_a_replicaset_by_its_controller_is_a_claim(self):
        deployment = workload(DEPLOYMENT, name="owner")
        old = workload(REPLICA_SET, ownerReferences=owned_by(deployment))
        new = edited(old, spec__template__spec__containers__0__env=[{"name": "A"}])
        found = classify(request(new, old, caller=controller("deployment-controller")))
        assert found.change_class is CHILD
        assert found.claim is not None

    def test_scaling_by_its_controller_is_no_scaling_of_somebodys(self):
        deployment = workload(DEPLOYMENT, name="owner")
        old = workload(REPLICA_SET, ownerReferences=owned_by(deployment))
        new = edited(old, spec__replicas=5)
        asked = request(new, old, caller=controller("deployment-controller"))
        assert classify(asked).change_class is CHILD
        assert classify(replace(asked, caller=LAPTOP)).change_class is ROOT

    @pytest.mark.parametrize("kind", [REPLICA_SET, REPLICATION_CONTROLLER])
    def test_scaling_up_a_release_is_a_rollback(self, kind):
        """The Deployment is deleted and its ReplicaSets are orphaned: nobody's template changes."""
        old = edited(workload(kind), spec__replicas=0)
        autoscaler = controller("horizontal-pod-autoscaler")
        for caller in (LAPTOP, autoscaler, controller("deployment-controller")):
            found = classify(request(edited(old, spec__replicas=1), old, caller=caller))
            assert (found.change_class, found.scope) == (ROOT, Scope.ALL)
            down = classify(request(old, edited(old, spec__replicas=1), caller=caller))
            assert down.change_class is NO_DELTA


@pytest.mark.parametrize("values", [(), ("x",), ("JTI=x",), ("X509SHA256=1",)])
def test_a_credential_id_of_another_form_makes_no_controller(values):
    """As given by --as-user-extra, by somebody who did not look at a real one."""
    owner = workload(REPLICA_SET, name="owner")
    extra = {"authentication.kubernetes.io/credential-id": values}
    forged = replace(controller("replicaset-controller"), extra=extra)
    pod = workload(POD, ownerReferences=owned_by(owner))
    assert classify(request(pod, caller=forged)).change_class is ROOT
    assert classify(request(None, pod, operation=Operation.DELETE, caller=forged)).change_class is (
        DELETE
    )


class TestGarbageCollector:
    old = workload(
        REPLICA_SET,
        ownerReferences=[
            *owned_by(workload(DEPLOYMENT, name="a")),
            *owned_by(workload(DEPLOYMENT, name="b"), controller=False),
        ],
    )
    caller = controller("generic-garbage-collector")

    def test_may_take_owners_away(self):
        for left in ([], self.old["metadata"]["ownerReferences"][:1]):
            new = edited(self.old, metadata__ownerReferences=left)
            assert classify(request(new, self.old, caller=self.caller)).change_class is NO_DELTA

    def test_may_not_add_one_or_change_more(self):
        more = [
            *self.old["metadata"]["ownerReferences"],
            *owned_by(workload(DEPLOYMENT, name="c"), controller=False),
        ]
        new = edited(self.old, metadata__ownerReferences=more)
        assert classify(request(new, self.old, caller=self.caller)).change_class is ROOT
        new = edited(self.old, metadata__ownerReferences=[], metadata__labels={"app": "x"})
        assert classify(request(new, self.old, caller=self.caller)).change_class is ROOT

    def test_impersonated_may_not(self):
        new = edited(self.old, metadata__ownerReferences=[])
        caller = controller("generic-garbage-collector", credential=False)
        assert classify(request(new, self.old, caller=caller)).change_class is ROOT


def test_only_the_controller_writes_the_revision_down():
    old = workload(DEPLOYMENT)
    new = edited(old, metadata__annotations={"deployment.kubernetes.io/revision": "2"})
    by = controller("deployment-controller")
    assert classify(request(new, old, caller=by)).change_class is NO_DELTA
    assert classify(request(new, old, caller=LAPTOP)).change_class is ROOT
    by = controller("deployment-controller", credential=False)
    assert classify(request(new, old, caller=by)).change_class is ROOT


NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u"}}


class TestMirror:
    kubelet = Caller(
        "system:node:n1",
        groups=("system:nodes",),
        extra={"authentication.kubernetes.io/credential-id": ("X509SHA256=" + "1f" * 32,)},
    )

    def pod(self, **reference):
        return workload(
            POD,
            ownerReferences=owned_by(NODE, **reference),
            annotations={"kubernetes.io/config.mirror": "1"},
        )

    def test_by_the_nodes_kubelet(self):
        assert classify(request(self.pod(), caller=self.kubelet)).change_class is MIRROR

    @pytest.mark.parametrize(
        "caller",
        [
            DEPLOYER,
            LAPTOP,
            replace(kubelet, groups=()),
            replace(kubelet, username="system:node:n2"),
            replace(kubelet, username="system:node:"),
            replace(kubelet, username="n1"),
            replace(kubelet, extra={}),
            controller("replicaset-controller"),
        ],
        ids=lambda caller: caller.username,
    )
    def test_by_anyone_else_is_refused(self, caller):
        with pytest.raises(RefusedError) as refused:
            classify(request(self.pod(), caller=caller))
        assert refused.value.reason is Reason.CALLER_NOT_ALLOWED

    @pytest.mark.parametrize(
        "reference",
        [{"name": "n2"}, {"kind": "Pod"}, {"apiVersion": "apps/v1"}, {"controller": False}],
        ids=str,
    )
    def test_owner_must_be_the_node(self, reference):
        with pytest.raises(RefusedError):
            classify(request(self.pod(**reference), caller=self.kubelet))

    @pytest.mark.parametrize("value", ["", "0", None])
    def test_the_annotation_counts_whatever_its_value(self, value):
        pod = workload(POD, annotations={"kubernetes.io/config.mirror": value})
        with pytest.raises(RefusedError):
            classify(request(pod, caller=LAPTOP))

    def test_adding_the_annotation_is_refused(self):
        plain = edited(self.pod(), metadata__annotations=...)
        with pytest.raises(RefusedError):
            classify(request(self.pod(), plain, caller=LAPTOP))

    def test_a_mirror_that_is_one_already_is_changed_like_any_pod(self):
        new = edited(self.pod(), metadata__labels={"app": "web"})
        assert classify(request(new, self.pod(), caller=LAPTOP)).change_class is ROOT

    def test_an_ordinary_pod_of_a_kubelet_is_a_root(self):
        pod = edited(self.pod(), metadata__annotations=...)
        assert classify(request(pod, caller=self.kubelet)).change_class is ROOT

    def test_deleted_by_another_is_a_deletion(self):
        asked = request(None, self.pod(), caller=LAPTOP, operation=Operation.DELETE)
        assert classify(asked).change_class is DELETE


class TestDeletion:
    pod = workload(POD, ownerReferences=owned_by(workload(REPLICA_SET, name="owner")))

    @pytest.mark.parametrize(
        "account",
        ["generic-garbage-collector", "pod-garbage-collector", "replicaset-controller",
         "taint-eviction-controller", "namespace-controller", "node-controller",
         "ttl-after-finished-controller", "device-taint-eviction-controller"],
    )  # fmt: skip
    def test_of_a_child_by_kubernetes_is_the_childs(self, account):
        asked = request(None, self.pod, caller=controller(account), operation=Operation.DELETE)
        assert classify(asked).change_class is CHILD
        nobody = controller(account, credential=False)
        assert classify(replace(asked, caller=nobody)).change_class is DELETE

    def test_of_a_child_by_its_kubelet_is_the_childs(self):
        asked = request(None, self.pod, caller=TestMirror.kubelet, operation=Operation.DELETE)
        assert classify(asked).change_class is CHILD

    def test_of_a_root_is_always_a_deletion(self):
        root = workload(DEPLOYMENT)
        for caller in (DEPLOYER, LAPTOP, controller("namespace-controller")):
            asked = request(None, root, caller=caller, operation=Operation.DELETE)
            assert classify(asked).change_class is DELETE

    def test_without_the_old_object(self):
        asked = request(None, None, operation=Operation.DELETE, kind=POD)
        assert classify(asked).change_class is DELETE


class TestSubresources:
    pod = workload(POD)

    def test_ephemeral_container_answers_for_itself_and_what_is_new(self):
        new = edited(self.pod, spec__ephemeralContainers=[{"name": "debug", "image": OTHER}])
        asked = request(new, self.pod, subresource="ephemeralcontainers", caller=LAPTOP)
        found = classify(asked)
        assert (found.change_class, found.scope) == (ROOT, Scope.EPHEMERAL)
        assert [use.image for use in scoped_images(asked, found.scope)] == [OTHER]

    def test_ephemeral_containers_that_bring_another_image_answer_for_it(self):
        new = edited(
            self.pod,
            spec__ephemeralContainers=[{"name": "debug", "image": OTHER}],
            spec__containers__0__image="evil",
        )
        asked = request(new, self.pod, subresource="ephemeralcontainers")
        found = scoped_images(asked, classify(asked).scope)
        assert {use.image for use in found} == {OTHER, "evil"}

    def test_ephemeral_container_without_old_object_answers_for_all(self):
        asked = request(self.pod, None, subresource="ephemeralcontainers")
        assert [use.image for use in scoped_images(asked, classify(asked).scope)] == [IMAGE]

    def test_ephemeral_container_with_the_image_of_the_pod_still_answers(self):
        new = edited(self.pod, spec__ephemeralContainers=[{"name": "debug", "image": IMAGE}])
        asked = request(new, self.pod, subresource="ephemeralcontainers")
        assert [use.image for use in scoped_images(asked, classify(asked).scope)] == [IMAGE]

    def test_resize_is_quiet_for_resources_alone(self):
        resized = edited(self.pod, spec__containers__0__resources={"limits": {"cpu": "1"}})
        assert classify(request(resized, self.pod, subresource="resize")).change_class is NO_DELTA
        more = edited(resized, spec__containers__0__image=OTHER)
        assert classify(request(more, self.pod, subresource="resize")).change_class is ROOT
        # The same change of the pod itself is not a resize.
        assert classify(request(resized, self.pod)).change_class is ROOT

    def test_status_is_quiet_until_it_carries_more(self):
        new = edited(self.pod, status__phase="Running")
        assert classify(request(new, self.pod, subresource="status")).change_class is NO_DELTA
        more = edited(new, metadata__labels={"app": "web"})
        assert classify(request(more, self.pod, subresource="status")).change_class is ROOT
        more = edited(new, spec__containers__0__image=OTHER)
        assert classify(request(more, self.pod, subresource="status")).change_class is ROOT

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [(1, 2, SCALE), (0, 1, SCALE), (2, 2, NO_DELTA), (2, 1, NO_DELTA), (2, 0, NO_DELTA),
         (2, None, NO_DELTA), (None, 1, SCALE)],
    )  # fmt: skip
    def test_scale(self, old, new, expected):
        def scale(replicas):
            spec = {} if replicas is None else {"replicas": replicas}
            return {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": spec,
                    "metadata": {"name": "web"}}  # fmt: skip

        asked = request(scale(new), scale(old), subresource="scale", resource="deployments")
        assert classify(asked).change_class is expected
        for resource in ("replicasets", "replicationcontrollers"):
            found = classify(replace(asked, resource=resource))
            assert found.change_class is (ROOT if expected is SCALE else expected)
            assert found.scope is Scope.NONE

    @pytest.mark.parametrize("replicas", ["3", 3.0, True, [3]])
    def test_scale_to_what_is_no_number_is_malformed(self, replicas):
        old = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 1}}
        new = {**old, "spec": {"replicas": replicas}}
        with pytest.raises(MalformedError):
            classify(request(new, old, subresource="scale"))

    def test_binding_that_carries_more_than_a_node_is_a_root(self):
        def bind(**metadata):
            item = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p", **metadata}}
            return request(item, subresource="binding", resource="pods", caller=LAPTOP)

        assert classify(bind()).change_class is NO_DELTA
        zone = {"topology.kubernetes.io/zone": "a"}
        assert classify(bind(labels=zone)).change_class is NO_DELTA
        assert classify(bind(labels={"app": "web"})).change_class is ROOT
        assert classify(bind(labels=7)).change_class is ROOT
        carried = bind(annotations={"iam.amazonaws.com/role": "admin"})
        assert classify(carried).change_class is ROOT
        scheduler = replace(LAPTOP, username="system:kube-scheduler")
        assert classify(replace(carried, caller=scheduler)).change_class is NO_DELTA
        scheduler = replace(scheduler, extra={})
        assert classify(replace(carried, caller=scheduler)).change_class is ROOT

    def test_unknown_subresource_of_a_workload_is_malformed(self):
        with pytest.raises(MalformedError, match="rollback"):
            classify(request(workload(DEPLOYMENT), subresource="rollback"))


class TestForm:
    @pytest.mark.parametrize("operation", [Operation.CREATE, Operation.UPDATE])
    def test_no_object_is_malformed(self, operation):
        with pytest.raises(MalformedError, match="object"):
            classify(request(None, None, operation=operation, kind=DEPLOYMENT))

    def test_update_without_old_object_is_malformed(self):
        asked = request(workload(DEPLOYMENT), None, operation=Operation.UPDATE)
        with pytest.raises(MalformedError, match="oldObject"):
            classify(asked)

    @pytest.mark.parametrize(
        "changes", [{"kind": "Pod"}, {"apiVersion": "extensions/v1beta1"}, {"kind": ""}], ids=str
    )
    def test_object_of_another_kind_is_malformed(self, changes):
        item = workload(DEPLOYMENT)
        with pytest.raises(MalformedError, match=r"expected Deployment\.apps"):
            classify(request(item | changes, kind=DEPLOYMENT))

    def test_another_kind_is_a_root_without_images(self):
        item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {}}
        found = classify(request(item))
        assert (found.change_class, found.scope) == (ROOT, Scope.NONE)
        found = classify(request(edited(item, data__a="1"), item))
        assert (found.change_class, found.scope) == (ROOT, Scope.NONE)

    def test_a_kind_of_the_same_name_in_another_group_is_no_workload(self):
        item = workload(Kind("example.test", "Deployment"))
        assert classify(request(item)).scope is Scope.NONE

    def test_connect_is_not_covered(self):
        asked = request(None, None, operation=Operation.CONNECT, kind=Kind("", "PodExecOptions"))
        assert classify(asked).change_class is NO_DELTA


def test_delta_of_a_real_rollback_names_the_template():
    asked = real("rollback annotation", "UPDATE deployments deployment-controller")
    found = classify(asked)
    assert found.delta is not None
    assert any(p.startswith("/spec/template/spec/") for p in found.delta.pointers)
