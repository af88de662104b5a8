"""Real reviews over TLS to the real server: what the API server gets back."""

import asyncio
import json

import pytest

from tests.webhook.conftest import REVIEWS, review
from trailgate_webhook.app import BODY_LIMIT

ALL = sorted(path.stem for path in REVIEWS.glob("*.json"))
P = b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":'


def changed(name="create-deployment", **fields):
    document = review(name)
    for key, value in fields.items():
        if value is ...:
            del document["request"][key]
        else:
            document["request"][key] = value
    return document


@pytest.mark.parametrize("name", ALL)
async def test_every_operation_is_answered_under_its_uid(start, name):
    body = review(name)
    status, answer = await start().post(body)
    assert status == 200
    assert answer["kind"] == "AdmissionReview"
    assert answer["apiVersion"] == "admission.k8s.io/v1"
    assert answer["response"]["uid"] == body["request"]["uid"]
    assert answer["response"]["allowed"] is True
    assert "status" not in answer["response"]
    assert answer["response"]["auditAnnotations"]["decision"] == "allowed"


async def test_a_denial_carries_code_reason_message_and_annotations(start):
    server = start(checkpoint="trailgate 7 abc=")
    status, answer = await server.post(review("create-deployment", test="denied"))
    assert status == 200
    response = answer["response"]
    assert response["allowed"] is False
    assert response["status"] == {
        "status": "Failure",
        "code": 403,
        "reason": "SignerMismatch",
        "message": "trailgate: Deployment shop/web denied",
    }
    annotations = response["auditAnnotations"]
    assert annotations["decision"] == "denied"
    assert annotations["reasons"] == "SignerMismatch"
    assert annotations["checkpoint"] == "trailgate 7 abc="
    assert annotations["policies"].startswith("production@sha256:")
    assert "deployer" not in json.dumps(annotations)


async def test_nothing_is_decided_before_the_policies_were_read(start):
    """Left to the API server: its entries for Enforce and for Audit know what to do."""
    server = start(policies_after=3600)
    status, answer = await server.post(review("create-deployment"), "?timeout=1s")
    assert status == 503
    assert "response" not in answer
    assert "EvidenceUnavailable: policies: not read from the cluster yet" in answer["error"]
    # Whether it passed is the failure policy's doing: nothing was let through here.
    assert await server.metric("trailgate_admission_reviews_undecided_total") == 1
    assert await server.metric("trailgate_admission_evidence_lost_total") == 0


async def test_a_review_in_the_first_moment_waits_for_the_policies(start):
    status, answer = await start(policies_after=1.0).post(review("create-deployment"))
    assert status == 200
    assert answer["response"]["allowed"] is True


async def test_what_could_not_be_fetched_is_a_503(start):
    _, answer = await start().post(review("create-deployment", test="unavailable"))
    assert answer["response"]["allowed"] is False
    assert answer["response"]["status"]["code"] == 503
    assert answer["response"]["status"]["reason"] == "EvidenceUnavailable"


MALFORMED = {
    "empty": (b"", "truncated"),
    "not JSON": (b"hello", "malformed"),
    "not UTF-8": (b"\xff\xfe", "malformed"),
    "an array": (b"[]", "got `array`"),
    "another kind": (json.dumps(review("create-deployment") | {"kind": "Pod"}).encode(), "Invalid"),
    "v1beta1": (
        json.dumps(
            review("create-deployment") | {"apiVersion": "admission.k8s.io/v1beta1"}
        ).encode(),
        "Invalid",
    ),
    "no request": (b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}', "request"),
    "no uid": (json.dumps(changed(uid=...)).encode(), "uid"),
    "empty uid": (json.dumps(changed(uid="")).encode(), "uid"),
    "uid of another type": (json.dumps(changed(uid=7)).encode(), "uid"),
    "nested 100,000 deep": (P + b'{"uid":"u","object":' + b"[" * 100_000, "nested too deeply"),
    "half a review": (json.dumps(review("create-deployment")).encode()[:3000], "truncated"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_body_without_a_readable_uid_is_an_http_400(start, name):
    body, expected = MALFORMED[name]
    status, answer = await start().post(body)
    assert status == 400
    assert expected in answer["error"]
    assert len(answer["error"]) < 600


WRONG = {
    "operation": (changed(operation="PATCH"), "PATCH"),
    "no operation": (changed(operation=...), "operation"),
    "no kind": (changed(kind=...), "kind"),
    "kind of another type": (changed(kind="Deployment"), "kind"),
    "empty kind": (changed(kind={"group": "", "version": "v1", "kind": ""}), "kind"),
    "no resource": (changed(resource=...), "resource"),
    "no user": (changed(userInfo=...), "userInfo"),
    "groups of another type": (changed(userInfo={"username": "a", "groups": "b"}), "groups"),
    "extra of another type": (changed(userInfo={"extra": {"k": "v"}}), "extra"),
    "dryRun of another type": (changed(dryRun="true"), "dryRun"),
    "namespace of another type": (changed(namespace=None), "namespace"),
    "CREATE without an object": (changed(object=None), "object null on CREATE"),
    "CREATE with an old object": (changed(oldObject={}), "oldObject an object on CREATE"),
    "UPDATE without an old object": (
        changed("update-deployment", oldObject=None),
        "oldObject null on UPDATE",
    ),
    "DELETE without an old object": (
        changed("delete-deployment", oldObject=None),
        "oldObject null on DELETE",
    ),
    "DELETE with an object": (
        changed("delete-deployment", object={}),
        "object an object on DELETE",
    ),
    "an object that is a list": (changed(object=[]), "type list"),
    "an object that is a string": (changed(object="x"), "type str"),
    "metadata that is a list": (changed(object={"metadata": []}), "metadata"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_review_with_a_uid_is_a_denial(start, name):
    body, expected = WRONG[name]
    status, answer = await start().post(body)
    assert status == 200
    response = answer["response"]
    assert response["uid"] == body["request"]["uid"]
    assert response["allowed"] is False
    assert response["status"]["code"] == 400
    assert response["status"]["reason"] == "Malformed"
    assert expected in response["status"]["message"]
    assert len(response["status"]["message"]) <= 1024


async def test_deep_nesting_inside_a_whole_review_is_turned_away_and_harms_nobody(start):
    deep = json.dumps(changed(object="DEEP")).encode()
    deep = deep.replace(b'"DEEP"', b'{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}")
    server = start()
    status, answer = await server.post(deep)
    assert status == 400
    assert "nested too deeply" in answer["error"]
    assert (await server.post(review("create-deployment")))[0] == 200


async def test_a_body_over_the_limit_is_413_and_says_so(start):
    server = start()
    body = review("create-deployment")
    body["request"]["object"]["data"] = "x" * BODY_LIMIT
    status, answer = await server.post(body)
    assert status == 413
    assert f"the limit is {BODY_LIMIT}" in answer["error"]
    assert await server.metric('trailgate_admission_turned_away_total{cause="too-large"}') == 1


async def test_a_chunked_body_over_the_limit_is_413(start):
    async def chunks():
        for _ in range(BODY_LIMIT // 65_536 + 1):
            yield b"x" * 65_536

    server = start()
    async with server.client() as client, client.post("/validate", data=chunks()) as got:
        assert got.status == 413


async def test_an_object_that_json_makes_six_times_as_large_is_decided(start):
    """An annotation of 256 KiB of control characters is 1.5 MiB of JSON, twice in an UPDATE."""
    body = review("update-deployment")
    for which in ("object", "oldObject"):
        body["request"][which]["metadata"]["annotations"]["large"] = "\x01" * 262_144
    status, answer = await start().post(body)
    assert status == 200
    assert answer["response"]["allowed"] is True


async def test_a_review_of_2_mib_with_both_objects_is_decided(start):
    body = review("update-deployment")
    for which in ("object", "oldObject"):
        body["request"][which]["metadata"]["annotations"]["large"] = "x" * 1_000_000
    status, answer = await start().post(body)
    assert (status, answer["response"]["allowed"]) == (200, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/validate", 405),
        ("PUT", "/validate", 405),
        ("POST", "/readyz", 405),
        ("GET", "/", 404),
        ("POST", "/validate/x", 404),
    ],
)
async def test_other_methods_and_paths_are_refused(start, method, path, status):
    async with start().client() as client, client.request(method, path) as got:
        assert got.status == status
        assert "error" in await got.json()


async def test_an_unexpected_exception_is_a_denial_with_an_id_and_no_name_in_the_log(start):
    server = start()
    body = review("create-deployment-laptop", test="broken")
    status, answer = await server.post(body)
    response = answer["response"]
    assert (status, response["allowed"]) == (200, False)
    assert response["status"]["code"] == 503
    assert response["status"]["reason"] == "Internal"
    assert body["request"]["uid"] in response["status"]["message"]
    (line,) = [line for line in server.log_lines() if line["event"] == "internal error"]
    assert line["decision"] == body["request"]["uid"]
    assert line["error"] == "RuntimeError"
    assert any("assess" in frame for frame in line["at"])
    assert "dana" not in server.log_text()
    assert "dana" not in response["status"]["message"]


async def test_a_foreign_time_out_is_an_internal_error_not_ours(start):
    _, answer = await start().post(review("create-deployment", test="timeout-bug"))
    assert answer["response"]["status"]["reason"] == "Internal"


async def test_what_hangs_is_denied_before_the_deadline(start):
    server = start()
    loop = asyncio.get_running_loop()
    began = loop.time()
    status, answer = await server.post(review("create-deployment", test="hang"), "?timeout=2s")
    assert 1.0 < loop.time() - began < 1.9
    assert (status, answer["response"]["allowed"]) == (200, False)
    assert answer["response"]["status"]["code"] == 503
    assert answer["response"]["status"]["reason"] == "EvidenceUnavailable"
    assert "try again" in answer["response"]["status"]["message"]


@pytest.mark.parametrize("what", ["broken", "hang"])
async def test_where_nothing_enforces_an_error_is_left_to_the_failure_policy(start, what):
    server = start()
    body = review("create-deployment", test=what, namespace="audited")
    status, answer = await server.post(body, "?timeout=1s")
    assert status == 503
    assert "denied" not in answer
    assert body["request"]["uid"] in answer["error"]
    assert await server.metric("trailgate_admission_reviews_undecided_total") == 1
    assert await server.metric("trailgate_admission_evidence_lost_total") == 0


async def test_where_enforcement_is_unknowable_an_error_is_a_denial(start):
    _, answer = await start().post(
        review("create-deployment", test="broken", namespace="unknowable")
    )
    assert answer["response"]["allowed"] is False


async def test_decisions_are_counted_without_names(start):
    server = start()
    await server.post(review("create-deployment", test="denied"))
    await server.post(review("create-deployment", test="child"))
    series = "trailgate_admission_decisions_total"
    denied = f'{series}{{class="root",mode="Enforce",outcome="denied",reason="SignerMismatch"}}'
    allowed = f'{series}{{class="child",mode="Enforce",outcome="allowed",reason=""}}'
    assert await server.metric(denied) == 1
    assert await server.metric(allowed) == 1
    assert await server.metric('trailgate_admission_duration_seconds_count{stage="total"}') == 2
    _, text = await server.get("/metrics")
    assert "deployer" not in text
    assert "shop" not in text


async def test_probes_answer_while_reviews_hang(start):
    server = start()
    hanging = asyncio.create_task(
        server.post(review("create-deployment", test="hang"), "?timeout=3s")
    )
    assert await server.get("/livez") == (200, "ok\n")
    assert await server.get("/readyz") == (200, "policies: ok\n")
    assert await server.metric("trailgate_admission_in_flight") == 1
    hanging.cancel()
    await asyncio.wait({hanging})


async def test_not_ready_says_what_is_missing(start):
    server = start(policies_problem="not loaded yet")
    assert await server.get("/readyz") == (503, "policies: not loaded yet\n")
    assert await server.get("/livez") == (200, "ok\n")
