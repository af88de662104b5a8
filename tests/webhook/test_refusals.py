"""Denials that no policy asked for are in the trail too, each under its reason."""

import json

import pytest

from tests.webhook.conftest import review, until
from tests.webhook.memory_spool import MemoryAdmissions
from tests.webhook.serving import Scripted, enforcing
from tests.webhook.test_spool import Scribe, claims
from trailgate_webhook.deadline import Deadline
from trailgate_webhook.endpoint import Gate
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.spool import SpoolWriter


@pytest.fixture
async def gate():
    """(ask, admissions, writer): the gate before a spool in memory."""
    admissions, metrics = MemoryAdmissions(), Metrics()
    writer = SpoolWriter(admissions, Scribe(), metrics)
    await writer.start()
    await until(lambda: writer.started)
    answering = Gate(Scripted(), writer, enforcing, metrics)

    async def ask(document, query=b"timeout=10s"):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        reply = await answering.review(body, Deadline.of_query(query))
        answer = json.loads(reply.body)
        assert not answer.get("response", {}).get("allowed", False)
        return reply.status

    yield ask, admissions, writer
    await writer.stop()


def malformed(**fields):
    document = review("create-deployment")
    document["request"] |= {"object": None} | fields
    return document


async def told(admissions, writer):
    """[(reason, namespace, count)] of the trail once all is written."""
    await writer.stop()
    return [
        (one["reason"], one["namespace"], one["count"]) for one in claims(admissions, "refused")
    ]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (review("create-deployment", test="hang"), "EvidenceUnavailable"),
        (review("create-deployment", test="broken"), "Internal"),
        (review("create-deployment", test="broken", namespace="unknowable"), "Internal"),
        (malformed(), "Malformed"),
    ],
)
async def test_what_could_not_be_decided_is_counted(gate, document, reason):
    ask, admissions, writer = gate
    for _ in range(2):
        assert await ask(document, b"timeout=500ms") == 200
    namespace = document["request"]["namespace"]
    assert await told(admissions, writer) == [(reason, namespace, 2)]
    (claim,) = claims(admissions, "refused")
    assert claim["first"]["kind"] == "Deployment"
    assert claim["first"]["name"] == document["request"]["name"]
    assert claim["policies"] == []
    assert claims(admissions, "gap") == []


async def test_what_no_longer_fits_into_the_spool_is_counted_under_its_policy(gate):
    ask, admissions, writer = gate
    admissions.limit = 1
    assert await ask(review("create-deployment")) == 200
    admissions.limit = 100
    assert await told(admissions, writer) == [("SpoolFull", "shop", 1)]
    (claim,) = claims(admissions, "refused")
    assert [one["name"] for one in claim["policies"]] == ["production"]
    assert claim["caller"]["user"] == "system:serviceaccount:ci:deployer"


@pytest.mark.parametrize(
    ("document", "status"),
    [(malformed(userInfo=7), 200), (b"{}", 400)],
)
async def test_a_review_that_names_nobody_is_a_gap(gate, document, status):
    ask, admissions, writer = gate
    assert await ask(document) == status
    assert await told(admissions, writer) == []
    (gap,) = claims(admissions, "gap")
    assert (gap["cause"], gap["count"]) == ("reviews-undecided", 1)


@pytest.mark.parametrize(
    "document",
    [
        review("create-deployment", test="broken"),
        malformed(),
        review("create-deployment", test="broken", namespace="audited"),
    ],
)
async def test_a_dry_run_that_is_refused_is_not(gate, document):
    ask, admissions, writer = gate
    document["request"]["dryRun"] = True
    await ask(document, b"timeout=500ms")
    assert await told(admissions, writer) == []
    assert claims(admissions, "gap") == []
