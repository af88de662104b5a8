from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.core.assess.support import (
    DEPLOYER,
    IMAGE,
    LAPTOP,
    OTHER,
    FactsTwin,
    OwnersTwin,
    assessor,
    codes,
    controller,
    edited,
    good,
    owned_by,
    request,
    workload,
)
from tests.core.ledger import example_records as ex
from tests.core.policy import builders
from trailgate.assess.images import (
    CRON_JOB,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
    WORKLOADS,
)
from trailgate.ledger.record import admitted, state_id
from trailgate.model.admission import AdmissionRequest, Kind, Operation
from trailgate.model.assessment import ChangeClass
from trailgate.model.canonical import fingerprint
from trailgate.model.decision import Check, CheckResult, Mode
from trailgate.model.digest import Digest
from trailgate.model.evidence import Unavailable, UnresolvedTag
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason

KINDS = sorted(WORKLOADS, key=str)
RS_CONTROLLER = controller("replicaset-controller")
DEPLOYMENT_CONTROLLER = controller("deployment-controller")


def unavailable(text: str = IMAGE) -> Unavailable:
    return Unavailable(ImageReference.parse(text), "registry.example: no connection")


async def test_an_unlisted_caller_does_not_scale_an_old_release_up():
    """Orphaned by deleting its Deployment, an old ReplicaSet is a rollback at hand."""
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web-1"}}
    old, new = {**scale, "spec": {"replicas": 0}}, {**scale, "spec": {"replicas": 2}}
    asked = request(new, old, subresource="scale", resource="replicasets", caller=LAPTOP)
    found = await assessor().assess(asked)
    assert codes(found) == ["CallerNotAllowed"]
    assert not found.decision.allowed
    listed = await assessor().assess(replace(asked, caller=DEPLOYER))
    assert listed.decision.allowed
    assert listed.recorded
    assert listed.delta == ("/spec/replicas",)
    web = await assessor().assess(replace(asked, resource="deployments"))
    assert (web.decision.allowed, web.change_class) == (True, ChangeClass.SCALE)


@pytest.mark.parametrize("kind", KINDS, ids=str)
class TestRoot:
    async def test_good_evidence_by_a_listed_caller_is_admitted(self, kind):
        found = await assessor().assess(request(workload(kind)))
        assert found.decision.allowed
        assert found.change_class is ChangeClass.ROOT
        assert found.message == ""
        assert found.recorded
        assert found.spec_digest == fingerprint(workload(kind)["spec"])
        assert (found.delta, found.previous) == (("",), None)
        assert found.changed_images == {IMAGE}
        assert found.decided_at == builders.NOW

    async def test_no_evidence_is_denied(self, kind):
        facts = FactsTwin({IMAGE: replace(good(), statements=())})
        found = await assessor(facts=facts).assess(request(workload(kind)))
        assert not found.decision.allowed
        assert "SignatureMissing" in codes(found)
        assert "SignatureMissing" in found.message

    async def test_nobody_is_asked_for_a_caller_who_is_denied_anyway(self, kind):
        """Else an unlisted caller keeps the gate busy with images that take long."""
        facts = FactsTwin({IMAGE: good()})
        found = await assessor(facts=facts).assess(request(workload(kind), caller=LAPTOP))
        assert codes(found) == ["CallerNotAllowed"]
        assert facts.asked == []
        assert "the images were not looked at" in found.message
        assert found.decision.checks[Check.SIGNATURE] is CheckResult.UNDETERMINED
        assert not found.decision.retryable

    @pytest.mark.parametrize("mode", ["Audit", "Warn"])
    async def test_a_policy_that_does_not_deny_looks_at_everything(self, kind, mode):
        facts = FactsTwin({IMAGE: replace(good(), statements=())})
        policy = builders.policy(mode=mode)
        gate = assessor(policy, facts=facts)
        found = await gate.assess(request(workload(kind), caller=LAPTOP))
        assert {"CallerNotAllowed", "SignatureMissing"} <= set(codes(found))
        assert facts.asked == [IMAGE]

    async def test_one_bad_image_of_two_is_denied(self, kind):
        facts = FactsTwin({IMAGE: good(), OTHER: replace(good(OTHER), statements=())})
        found = await assessor(facts=facts).assess(request(workload(kind, IMAGE, OTHER)))
        assert not found.decision.allowed
        assert {f.image for f in found.decision.denying} == {OTHER}

    async def test_unlisted_caller_is_denied(self, kind):
        found = await assessor().assess(request(workload(kind), caller=LAPTOP))
        assert codes(found) == ["CallerNotAllowed"]
        assert not found.decision.allowed

    async def test_unreadable_spec_is_denied(self, kind):
        for broken, code in (({}, {"NoImagesFound", "Malformed"}), (None, {"Malformed"})):
            item = edited(workload(kind), spec=broken)
            found = await assessor().assess(request(item))
            assert not found.decision.allowed
            assert set(codes(found)) <= code
            assert codes(found)

    async def test_dry_run_is_decided_and_not_recorded(self, kind):
        found = await assessor().assess(request(workload(kind), dry_run=True))
        assert found.decision.allowed
        assert not found.recorded
        found = await assessor().assess(request(workload(kind), dry_run=True, caller=LAPTOP))
        assert not found.decision.allowed


async def test_every_container_class_is_asked_about():
    pod = workload(POD)
    pod["spec"] |= {
        "initContainers": [{"name": "i", "image": "ghcr.io/acme/web:init"}],
        "volumes": [{"name": "v", "image": {"reference": "ghcr.io/acme/web:volume"}}],
    }
    facts = FactsTwin({IMAGE: good()})
    found = await assessor(facts=facts).assess(request(pod))
    assert {f.image for f in found.decision.denying} == {
        "ghcr.io/acme/web:init", "ghcr.io/acme/web:volume",
    }  # fmt: skip


async def test_an_ephemeral_container_is_asked_about_and_callers_apply():
    old = workload(POD)
    new = edited(old, spec__ephemeralContainers=[{"name": "debug", "image": "docker.io/evil"}])
    asked = request(new, old, subresource="ephemeralcontainers")
    found = await assessor().assess(asked)
    assert codes(found) == ["NoPolicyForImage"]
    assert not found.decision.allowed
    good_image = edited(old, spec__ephemeralContainers=[{"name": "debug", "image": OTHER}])
    found = await assessor().assess(replace(asked, object=good_image, caller=LAPTOP))
    assert codes(found) == ["CallerNotAllowed"]
    found = await assessor().assess(replace(asked, object=good_image))
    assert found.decision.allowed
    assert found.recorded
    assert found.delta == ("/spec/ephemeralContainers",)
    assert found.changed_images == {OTHER}


async def test_an_update_says_what_changed_and_what_was():
    old = workload(DEPLOYMENT)
    new = edited(old, spec__template__spec__containers__0__image=OTHER)
    found = await assessor().assess(request(new, old))
    assert found.decision.allowed
    assert found.delta == ("/spec/template/spec/containers/0/image",)
    assert found.changed_images == {OTHER}
    assert found.previous is not None
    assert found.previous.images == (IMAGE,)
    assert found.previous.spec_digest == fingerprint(old["spec"])
    assert found.spec_digest == fingerprint(new["spec"])


async def test_only_configuration_changed_has_no_changed_image():
    old = workload(DEPLOYMENT)
    new = edited(old, spec__template__spec__containers__0__env=[{"name": "A", "value": "s3cret"}])
    found = await assessor().assess(request(new, old))
    assert found.changed_images == frozenset()
    assert found.delta == ("/spec/template/spec/containers/0/env",)
    assert "s3cret" not in repr((found.delta, found.message, found.warnings))


async def test_the_laptop_may_not_change_the_signed_images_environment():
    old = workload(DEPLOYMENT)
    new = edited(old, spec__template__spec__containers__0__env=[{"name": "A", "value": "b"}])
    found = await assessor().assess(request(new, old, caller=LAPTOP))
    assert codes(found) == ["CallerNotAllowed"]


class TestNotAsked:
    async def test_no_delta_asks_nobody_and_is_not_recorded(self):
        facts = FactsTwin()
        old = workload(DEPLOYMENT)
        new = edited(old, metadata__labels={"team": "shop"})
        found = await assessor(facts=facts).assess(request(new, old, caller=LAPTOP))
        assert found.decision.allowed
        assert found.change_class is ChangeClass.NO_DELTA
        assert not found.recorded
        assert facts.asked == []
        assert [p.name for p in found.decision.policies] == ["production"]

    async def test_scaling_is_allowed_and_recorded(self):
        facts = FactsTwin()
        old = workload(DEPLOYMENT)
        found = await assessor(facts=facts).assess(
            request(edited(old, spec__replicas=5), old, caller=LAPTOP)
        )
        assert (found.decision.allowed, found.recorded) == (True, True)
        assert found.change_class is ChangeClass.SCALE
        assert found.delta == ("/spec/replicas",)
        assert facts.asked == []

    async def test_scaling_with_anything_else_is_asked_about(self):
        old = workload(DEPLOYMENT)
        new = edited(old, spec__replicas=5, spec__paused=True)
        found = await assessor().assess(request(new, old, caller=LAPTOP))
        assert codes(found) == ["CallerNotAllowed"]

    async def test_deletion_is_recorded_never_verified(self):
        facts = FactsTwin()
        old = workload(DEPLOYMENT)
        asked = request(None, old, operation=Operation.DELETE, caller=LAPTOP)
        found = await assessor(facts=facts).assess(asked)
        assert (found.decision.allowed, found.recorded) == (True, True)
        assert facts.asked == []
        assert found.spec_digest is None
        assert found.previous is not None
        assert found.previous.images == (IMAGE,)

    async def test_deletion_is_denied_where_the_policy_says_so(self):
        callers = {"serviceAccounts": ["ci/deployer"], "delete": "Deny"}
        guarded = builders.policy(callers=callers)
        asked = request(None, workload(DEPLOYMENT), operation=Operation.DELETE, caller=LAPTOP)
        found = await assessor(guarded).assess(asked)
        assert codes(found) == ["CallerNotAllowed"]
        assert (await assessor(guarded).assess(replace(asked, caller=DEPLOYER))).decision.allowed
        child = edited(workload(POD), metadata__ownerReferences=owned_by(workload(REPLICA_SET)))
        asked = request(
            None, child, operation=Operation.DELETE, caller=controller("generic-garbage-collector")
        )
        assert (await assessor(guarded).assess(asked)).decision.allowed

    async def test_an_unreadable_object_can_still_be_deleted(self):
        for old in ({"metadata": {}}, edited(workload(DEPLOYMENT), spec={"x": 1.5}), None):
            asked = request(None, old, operation=Operation.DELETE, kind=DEPLOYMENT)
            assert (await assessor().assess(asked)).decision.allowed

    async def test_a_forged_mirror_is_denied(self):
        pod = workload(POD, annotations={"kubernetes.io/config.mirror": "x"})
        found = await assessor().assess(request(pod))
        assert codes(found) == ["CallerNotAllowed"]
        assert not found.decision.allowed

    async def test_another_kind_is_for_listed_callers(self):
        item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {}}
        assert (await assessor().assess(request(item))).decision.allowed
        found = await assessor().assess(request(item, caller=LAPTOP))
        assert codes(found) == ["CallerNotAllowed"]
        assert not found.decision.allowed


class TestChild:
    deployment = workload(DEPLOYMENT)
    replicaset = workload(REPLICA_SET, ownerReferences=owned_by(deployment))
    pod = workload(POD, ownerReferences=owned_by(replicaset))

    async def test_a_rollout_is_carried_out_without_reading_anything(self):
        facts, owners = FactsTwin({IMAGE: good()}), OwnersTwin()
        gate = assessor(facts=facts, owners=owners)
        for item, caller in (
            (self.deployment, DEPLOYER),
            (self.replicaset, DEPLOYMENT_CONTROLLER),
            (self.pod, RS_CONTROLLER),
        ):
            found = await gate.assess(request(item, caller=caller))
            assert found.decision.allowed
        assert found.change_class is ChangeClass.CHILD
        assert not found.recorded
        assert owners.asked == []

    async def test_a_cold_gate_reads_the_owner_once(self):
        owners = OwnersTwin()
        owners.add(self.replicaset)
        gate = assessor(owners=owners)
        for _ in range(3):
            found = await gate.assess(request(self.pod, caller=RS_CONTROLLER))
            assert found.decision.allowed
        assert owners.asked == ["ReplicaSet shop/web"]

    async def test_a_denied_root_teaches_nothing(self):
        owners = OwnersTwin()
        gate = assessor(owners=owners)
        denied = await gate.assess(request(self.deployment, caller=LAPTOP))
        assert not denied.decision.allowed
        found = await gate.assess(request(self.replicaset, caller=DEPLOYMENT_CONTROLLER))
        assert codes(found) == ["OwnerUnverified"]

    async def test_a_dry_run_teaches_nothing(self):
        gate = assessor()
        assert (await gate.assess(request(self.deployment, dry_run=True))).decision.allowed
        found = await gate.assess(request(self.replicaset, caller=DEPLOYMENT_CONTROLLER))
        assert codes(found) == ["OwnerUnverified"]

    async def test_an_owner_that_is_not_there_is_denied_for_good(self):
        found = await assessor().assess(request(self.pod, caller=RS_CONTROLLER))
        assert codes(found) == ["OwnerUnverified"]
        assert not found.decision.allowed
        assert not found.decision.retryable
        assert "uid-ReplicaSet-web" in found.message

    async def test_an_owner_that_cannot_be_read_is_to_be_tried_again(self):
        found = await assessor(owners=OwnersTwin(down=True)).assess(
            request(self.pod, caller=RS_CONTROLLER)
        )
        assert codes(found) == ["OwnerUnverified"]
        assert not found.decision.allowed
        assert found.decision.retryable

    async def test_an_owner_that_does_not_answer_is_to_be_tried_again(self):
        class Hanging(OwnersTwin):
            async def owner(self, kind: Kind, namespace: str, name: str) -> Any:
                await asyncio.Event().wait()

        for usual, this_time in ((0.01, None), (60, 0.01)):
            found = await assessor(owners=Hanging(), budget=usual).assess(
                request(self.pod, caller=RS_CONTROLLER), this_time
            )
            assert codes(found) == ["OwnerUnverified"]
            assert found.decision.retryable

    async def test_an_image_that_does_not_verify_is_denied(self):
        owners = OwnersTwin()
        owners.add(self.replicaset)
        for fact in (replace(good(), statements=()), unavailable()):
            gate = assessor(facts=FactsTwin({IMAGE: fact}), owners=owners)
            found = await gate.assess(request(self.pod, caller=RS_CONTROLLER))
            assert not found.decision.allowed

    async def test_inherited_images_need_their_signature_only(self):
        owners = OwnersTwin()
        owners.add(self.replicaset)
        only_signed = FactsTwin({IMAGE: good(provenance=None, tests=None, change=None)})
        gate = assessor(facts=only_signed, owners=owners)
        assert (await gate.assess(request(self.pod, caller=RS_CONTROLLER))).decision.allowed
        # The same image by a root needs everything.
        assert not (await gate.assess(request(workload(POD)))).decision.allowed

    async def test_injected_images_need_everything(self):
        owners = OwnersTwin()
        owners.add(self.replicaset)
        facts = {IMAGE: good(), OTHER: good(OTHER, provenance=None)}
        pod = workload(POD, IMAGE, OTHER, ownerReferences=owned_by(self.replicaset))
        found = await assessor(facts=FactsTwin(dict(facts)), owners=owners).assess(
            request(pod, caller=RS_CONTROLLER)
        )
        assert not found.decision.allowed
        assert {f.image for f in found.decision.denying} == {OTHER}
        facts[OTHER] = good(OTHER)
        found = await assessor(facts=FactsTwin(facts), owners=owners).assess(
            request(pod, caller=RS_CONTROLLER)
        )
        assert found.decision.allowed

    async def test_old_facts_do_for_inherited_images_only(self):
        class Aged(FactsTwin):
            def peek(self, image: Any, keys: Any, secrets: Any, *, running: bool = False) -> Any:
                self.asked.append(f"{image.digest.hex[0]} {running}")
                return self.facts.get(str(image))

            async def recall(self, image: Any, keys: Any, secrets: Any) -> Any:
                raise AssertionError("nothing is unavailable here")

        owners = OwnersTwin()
        owners.add(self.replicaset)
        facts = Aged({IMAGE: good(), OTHER: good(OTHER)})
        pod = workload(POD, IMAGE, OTHER, ownerReferences=owned_by(self.replicaset))
        gate = assessor(facts=facts, owners=owners)
        assert (await gate.assess(request(pod, caller=RS_CONTROLLER))).decision.allowed
        assert facts.asked == ["a True", "b False"]

    async def test_a_swapped_template_is_denied(self):
        owners = OwnersTwin()
        owners.add(self.deployment)
        evil = edited(self.replicaset, spec__template__spec__containers__0__command=["sh", "-c"])
        found = await assessor(owners=owners).assess(request(evil, caller=DEPLOYMENT_CONTROLLER))
        assert codes(found) == ["OwnerUnverified"]
        assert not found.decision.allowed

    async def test_a_claim_by_anyone_else_is_a_root(self):
        owners = OwnersTwin()
        owners.add(self.replicaset)
        for caller in (LAPTOP, controller("replicaset-controller", credential=False)):
            found = await assessor(owners=owners).assess(request(self.pod, caller=caller))
            assert found.change_class is ChangeClass.ROOT
            assert codes(found) == ["CallerNotAllowed"]
        assert owners.asked == []

    async def test_a_job_of_a_cronjob(self):
        cron = workload(CRON_JOB)
        owners = OwnersTwin()
        owners.add(cron)
        job = workload(JOB, ownerReferences=owned_by(cron))
        gate = assessor(owners=owners)
        found = await gate.assess(request(job, caller=controller("cronjob-controller")))
        assert (found.decision.allowed, found.change_class) == (True, ChangeClass.CHILD)
        found = await gate.assess(request(job, caller=LAPTOP))
        assert found.change_class is ChangeClass.ROOT

    async def test_an_older_revision_of_a_statefulset_may_come_back_if_it_has_it_all(self):
        owners = OwnersTwin()
        owners.add(workload(STATEFUL_SET, OTHER))
        pod = workload(POD, IMAGE, ownerReferences=owned_by(workload(STATEFUL_SET)))
        caller = controller("statefulset-controller")
        assert (await assessor(owners=owners).assess(request(pod, caller=caller))).decision.allowed
        facts = FactsTwin({IMAGE: good(tests=None)})
        gate = assessor(facts=facts, owners=owners)
        assert not (await gate.assess(request(pod, caller=caller))).decision.allowed


class TestModes:
    @pytest.mark.parametrize("mode", ["Audit", "Warn"])
    async def test_that_do_not_enforce_let_everything_pass_with_findings(self, mode):
        gate = assessor(builders.policy(mode=mode))
        pod = workload(POD, annotations={"kubernetes.io/config.mirror": "x"})
        child = workload(POD, ownerReferences=owned_by(workload(REPLICA_SET)))
        broken = edited(workload(DEPLOYMENT), spec={})
        floating = edited(workload(DEPLOYMENT), spec__template__spec__x=0.5)
        for asked, code in (
            (request(workload(POD), caller=LAPTOP), "CallerNotAllowed"),
            (request(pod), "CallerNotAllowed"),
            (request(child, caller=RS_CONTROLLER), "OwnerUnverified"),
            (request(broken), "Malformed"),
            (request(floating), "Malformed"),
        ):
            found = await gate.assess(asked)
            assert found.decision.allowed
            assert found.message == ""
            assert codes(found) == [code]
            assert {f.mode for f in found.decision.findings} == {Mode(mode)}
            assert bool(found.warnings) == (mode == "Warn")

    async def test_the_most_severe_policy_answers_for_what_nobody_was_asked(self):
        policies = [
            builders.policy("a", mode="Audit"),
            builders.policy("b"),
            builders.policy("c", mode="Warn"),
        ]
        found = await assessor(*policies).assess(request(edited(workload(POD), spec=None)))
        assert not found.decision.allowed
        assert [f.policy for f in found.decision.findings] == ["b"]
        assert [p.name for p in found.decision.policies] == ["a", "b", "c"]

    async def test_a_namespace_without_policy_is_classified_and_passes(self):
        facts, owners = FactsTwin(), OwnersTwin()
        gate = assessor(facts=facts, owners=owners)
        for asked, expected in (
            (request(workload(POD), caller=LAPTOP, namespace="other"), ChangeClass.ROOT),
            (request(edited(workload(POD), spec=None), namespace="other"), ChangeClass.ROOT),
            (request(TestChild.pod, caller=RS_CONTROLLER, namespace="other"), ChangeClass.CHILD),
        ):
            found = await gate.assess(asked)
            assert found.decision.allowed
            assert found.change_class is expected
            assert found.decision.policies == ()
        assert (facts.asked, owners.asked) == ([], [])


def told(assessment):
    return admitted(assessment, ex.CONTEXT)


UNCANONICAL = 9007199254740993


class TestWithoutPolicy:
    """What nothing covers stands in the trail as it is, and is joined with what is stored."""

    @pytest.mark.parametrize("kind", KINDS, ids=str)
    async def test_a_creation_has_its_digest_and_its_images(self, kind):
        item = workload(kind, IMAGE, "ghcr.io/acme/web:latest")
        found = told(await assessor().assess(request(item, caller=LAPTOP, namespace="other")))
        digest = fingerprint(item["spec"])
        assert found["object"]["specDigest"] == str(digest)
        assert [one["reference"] for one in found["images"]] == [IMAGE, "ghcr.io/acme/web:latest"]
        assert [one["digest"] for one in found["images"]] == [IMAGE.partition("@")[2], None]
        assert [one["changed"] for one in found["images"]] == [True, True]
        assert found["delta"] == [""]
        assert (found["policies"], found["reasons"], found["enforced"]) == ([], [], False)
        metadata = item["metadata"]
        change = state_id(ex.CONTEXT.cluster.uid, metadata["uid"], metadata["generation"], digest)
        assert found["changeId"] == str(change)  # as the observer names it

    @pytest.mark.parametrize("kind", KINDS, ids=str)
    async def test_an_update_has_what_changed(self, kind):
        old, new = workload(kind), workload(kind, OTHER, generation=2)
        found = told(await assessor().assess(request(new, old, caller=LAPTOP, namespace="other")))
        assert found["object"]["specDigest"] == str(fingerprint(new["spec"]))
        assert [one["reference"] for one in found["images"]] == [OTHER]
        assert found["delta"]
        assert all(pointer.endswith("/image") for pointer in found["delta"])
        assert found["previous"]["specDigest"] == str(fingerprint(old["spec"]))
        assert [one["reference"] for one in found["previous"]["images"]] == [IMAGE]

    async def test_a_deletion_has_what_was_there(self):
        old = workload(POD)
        asked = request(None, old, operation=Operation.DELETE, caller=LAPTOP, namespace="other")
        found = told(await assessor().assess(asked))
        assert found["object"]["specDigest"] is None
        assert found["absent"]["/object/specDigest"] == "NotApplicable"
        assert found["previous"]["specDigest"] == str(fingerprint(old["spec"]))

    async def test_what_has_no_canonical_form_is_admitted_and_said_to_have_none(self):
        item = workload(POD)
        item["spec"]["terminationGracePeriodSeconds"] = UNCANONICAL
        found = await assessor().assess(request(item, caller=LAPTOP, namespace="other"))
        assert found.decision.allowed
        assert found.recorded
        assert told(found)["object"]["specDigest"] is None
        assert told(found)["absent"]["/object/specDigest"] == "NotVerified"
        assert [one["reference"] for one in told(found)["images"]] == [IMAGE]

    @pytest.mark.parametrize("broken", [None, {}, {"containers": "none"}, "none", [1.5]])
    @pytest.mark.parametrize("kind", [POD, DEPLOYMENT], ids=str)
    async def test_what_cannot_be_read_is_admitted_without_images(self, kind, broken):
        item = edited(workload(kind), spec=broken)
        found = await assessor().assess(request(item, caller=LAPTOP, namespace="other"))
        assert found.decision.allowed
        assert told(found)["images"] == []

    async def test_what_is_refused_elsewhere_has_its_digest(self):
        mirror = workload(POD, annotations={"kubernetes.io/config.mirror": "x"})
        found = await assessor().assess(request(mirror, caller=LAPTOP, namespace="other"))
        assert found.decision.allowed
        assert told(found)["object"]["specDigest"] == str(fingerprint(mirror["spec"]))
        assert [one["reference"] for one in told(found)["images"]] == [IMAGE]

    @pytest.mark.parametrize("mode", ["Audit", "Warn"])
    async def test_so_has_what_a_policy_only_remarks_on(self, mode):
        gate = assessor(builders.policy(mode=mode))
        mirror = workload(POD, annotations={"kubernetes.io/config.mirror": "x"})
        found = await gate.assess(request(mirror, caller=LAPTOP))
        assert found.decision.allowed
        assert codes(found) == ["CallerNotAllowed"]
        assert told(found)["object"]["specDigest"] == str(fingerprint(mirror["spec"]))

    @pytest.mark.parametrize("dry_run", [True, False])
    async def test_nothing_is_worked_out_of_what_is_not_recorded(self, monkeypatch, dry_run):
        def hashed(_):
            raise AssertionError("got a fingerprint, expected none")

        monkeypatch.setattr("trailgate.assess.facts.fingerprint", hashed)
        if dry_run:
            asked = request(workload(POD), caller=LAPTOP, namespace="other", dry_run=True)
        else:
            asked = request(TestChild.pod, caller=RS_CONTROLLER, namespace="other")
        found = await assessor().assess(asked)
        assert (found.decision.allowed, found.recorded) == (True, False)
        assert found.decision.images == ()


class TestNeverAnAllow:
    async def test_an_error_of_the_source_is_internal(self, caplog):
        found = await assessor(facts=FactsTwin(failure=RuntimeError("secret"))).assess(
            request(workload(POD))
        )
        assert codes(found) == ["Internal"]
        assert not found.decision.allowed
        assert found.decision.retryable
        assert "secret" not in found.message
        assert "RuntimeError" in found.message
        assert "Traceback" in caplog.text

    async def test_policies_that_cannot_be_had_are_internal(self, caplog):
        gate = assessor()

        def broken() -> Any:
            raise OSError("gone")

        gate._policies = broken
        for namespace in ("shop", "other"):
            found = await gate.assess(request(workload(POD), namespace=namespace))
            assert codes(found) == ["Internal"]
            assert not found.decision.allowed

    async def test_an_error_of_the_reader_is_internal(self, caplog):
        class Broken(OwnersTwin):
            async def owner(self, kind: Kind, namespace: str, name: str) -> Any:
                raise KeyError(name)

        found = await assessor(owners=Broken()).assess(request(TestChild.pod, caller=RS_CONTROLLER))
        assert codes(found) == ["Internal"]
        assert not found.decision.allowed

    async def test_where_policies_only_audit_an_error_passes_as_everything_does(self, caplog):
        gate = assessor(builders.policy(mode="Audit"), facts=FactsTwin(failure=RuntimeError()))
        found = await gate.assess(request(workload(POD)))
        assert found.decision.allowed
        assert codes(found) == ["Internal"]

    async def test_cancelling_is_no_answer(self):
        class Hanging(FactsTwin):
            async def gather(self, image: Any, keys: Any, secrets: Any) -> Any:
                await asyncio.Event().wait()

        task = asyncio.create_task(assessor(facts=Hanging()).assess(request(workload(POD))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_what_does_not_answer_in_time_is_unavailable_and_the_rest_is_there(self):
        class Slow(FactsTwin):
            async def gather(self, image: Any, keys: Any, secrets: Any) -> Any:
                if str(image) == OTHER:
                    await asyncio.Event().wait()
                return await super().gather(image, keys)

        for usual, this_time in ((0.02, None), (60, 0.02)):
            gate = assessor(facts=Slow({IMAGE: good()}), budget=usual)
            found = await gate.assess(request(workload(POD, IMAGE, OTHER)), this_time)
            assert [(f.image, f.reason) for f in found.decision.findings] == [
                (OTHER, Reason.EVIDENCE_UNAVAILABLE)
            ]
            assert found.decision.retryable
        assert not found.decision.allowed

    async def test_unavailable_is_retryable_and_with_a_definite_no_it_is_not(self):
        facts = FactsTwin({IMAGE: unavailable(), OTHER: replace(good(OTHER), statements=())})
        found = await assessor(facts=facts).assess(request(workload(POD)))
        assert found.decision.retryable
        found = await assessor(facts=facts).assess(request(workload(POD, IMAGE, OTHER)))
        assert not found.decision.retryable

    async def test_too_many_images_are_denied(self):
        images = [f"{builders.REPOSITORY}@sha256:{number:064x}" for number in range(33)]
        facts = FactsTwin({image: good(image) for image in images})
        found = await assessor(facts=facts).assess(request(workload(POD, *images)))
        assert codes(found) == ["Malformed"]
        assert not found.decision.allowed
        found = await assessor(facts=facts).assess(request(workload(POD, *images[:32])))
        assert found.decision.allowed

    async def test_an_image_that_is_none_is_denied(self):
        found = await assessor().assess(request(workload(POD, "NOT AN IMAGE")))
        assert codes(found) == ["Malformed"]
        assert not found.decision.allowed

    @pytest.mark.parametrize("value", [0.5, 2**53, -(2**60)])
    async def test_a_spec_that_no_record_can_name_is_denied(self, value):
        item = edited(workload(POD), spec__activeDeadlineSeconds=value)
        found = await assessor().assess(request(item))
        assert codes(found) == ["Malformed"]
        assert not found.decision.allowed

    async def test_images_without_a_rule_are_never_asked_about(self):
        facts = FactsTwin()
        found = await assessor(facts=facts).assess(request(workload(POD, "docker.io/evil/x")))
        assert codes(found) == ["NoPolicyForImage"]
        assert facts.asked == []


garbage = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**60) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["spec", "template", "metadata", "labels", "annotations", "containers",
                         "ownerReferences", "controller", "image", "name", "uid", "replicas",
                         "kind", "apiVersion", "kubernetes.io/config.mirror", "status"]),
        inner, max_size=4),
    max_leaves=15,
)  # fmt: skip
objects = st.none() | st.dictionaries(
    st.sampled_from(["metadata", "spec", "status", "data"]), garbage, max_size=3
)


hostile = st.builds(
    AdmissionRequest,
    uid=st.just("u"),
    operation=st.sampled_from(list(Operation)),
    kind=st.sampled_from([*KINDS, Kind("", "ConfigMap"), Kind("autoscaling", "Scale")]),
    resource=st.just("things"),
    subresource=st.sampled_from(
        ["", "status", "scale", "ephemeralcontainers", "resize", "binding", "x"]
    ),
    namespace=st.just("shop"),
    name=st.just(""),
    caller=st.sampled_from([LAPTOP, RS_CONTROLLER, controller("generic-garbage-collector")]),
    dry_run=st.booleans(),
    object=objects,
    old_object=objects,
)


@given(hostile)
@settings(max_examples=400)
def test_whatever_comes_it_is_answered_and_never_allowed_by_accident(raw):
    kind = raw.kind
    shape = {"apiVersion": f"{kind.group}/v1" if kind.group else "v1", "kind": kind.kind}
    asked = replace(
        raw,
        object=None if raw.object is None else raw.object | shape,
        old_object=None if raw.old_object is None else raw.old_object | shape,
    )
    found = asyncio.run(assessor().assess(asked))
    event(found.change_class)
    if found.change_class is ChangeClass.ROOT:
        assert not found.decision.allowed
    if found.change_class is ChangeClass.CHILD and asked.operation is Operation.CREATE:
        assert not found.decision.allowed


class TestMovedTag:
    text = f"{builders.REPOSITORY}:v1@{builders.DIGEST}"
    moved = Digest("c" * 64)

    def facts(self, current: Digest | None) -> FactsTwin:
        tag = ImageReference.parse(f"{builders.REPOSITORY}:v1")
        return FactsTwin(
            {
                self.text: replace(good(), statements=()),
                f"{builders.REPOSITORY}:v1": UnresolvedTag(tag, current),
            }
        )

    async def test_is_told_with_the_missing_signature(self):
        found = await assessor(facts=self.facts(self.moved)).assess(
            request(workload(POD, self.text))
        )
        missing = [f for f in found.decision.findings if f.reason is Reason.SIGNATURE_MISSING]
        assert missing
        assert all(f.moved_to == self.moved for f in missing)
        assert str(self.moved) in found.message
        assert [f.moved_to for f in found.decision.images[0].findings if f in missing]

    async def test_is_not_told_when_it_has_not_moved(self):
        for current in (builders.DIGEST, None):
            found = await assessor(facts=self.facts(current)).assess(
                request(workload(POD, self.text))
            )
            assert all(f.moved_to is None for f in found.decision.findings)

    async def test_costs_nothing_when_all_is_well(self):
        facts = FactsTwin({self.text: good()})
        assert (
            await assessor(facts=facts).assess(request(workload(POD, self.text)))
        ).decision.allowed
        assert facts.asked == [self.text]


async def test_policies_are_asked_anew_each_time():
    loaded = [builders.policy()]
    gate = assessor()
    gate._policies = lambda: loaded
    asked = request(workload(POD))
    assert (await gate.assess(asked)).decision.allowed
    loaded[0] = builders.policy(rules=[builders.rule(signature={"signers": builders.signers("x")})])
    assert not (await gate.assess(asked)).decision.allowed
    loaded.clear()
    assert (await gate.assess(asked)).decision.policies == ()


async def test_each_namespace_has_the_keys_of_its_own_policies():
    class Noting(FactsTwin):
        async def gather(self, image: Any, keys: Any, secrets: Any) -> Any:
            self.asked.append(",".join(sorted(key.fingerprint for key in keys)))
            return good()

    facts = Noting()
    other = builders.rule(signature={"signers": builders.signers("x")})
    gate = assessor(
        builders.policy("a"), builders.policy("b", namespaces=["other"], rules=[other]), facts=facts
    )
    for namespace in ("shop", "other"):
        await gate.assess(request(workload(POD), namespace=namespace))
    first, second = facts.asked
    assert builders.signer("x").fingerprint in second
    assert builders.signer("x").fingerprint not in first
