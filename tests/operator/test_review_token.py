"""The token in the operator: read from its file, told the API server, and nobody else."""

import ssl

import aiohttp
import pytest

from tests.operator.armed import SYSTEM, Site, start_plane, until
from tests.operator.test_sentinel import DENIED
from trailgate.ledger.record import ControlTest
from trailgate_kube.resources import VALIDATING_WEBHOOKS
from trailgate_kube.webhooks import Address, FailClosed, configuration
from trailgate_operator.configuration import ConfigurationError, review_token
from trailgate_operator.main import command
from trailgate_operator.selfreview import review
from trailgate_operator.sentinel_probe import judge

TOKEN = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


def test_it_is_read_from_its_file(tmp_path):
    path = tmp_path / "review-token"
    path.write_text(f"{TOKEN}\n")
    assert review_token(path) == TOKEN
    assert review_token(None) is None


@pytest.mark.parametrize("content", [None, "", "short", TOKEN.upper()])
def test_what_is_none_is_refused_and_not_quoted(tmp_path, content):
    path = tmp_path / "review-token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=str(path)) as error:
        review_token(path)
    assert TOKEN.upper() not in str(error.value)


def test_the_command_gives_it_to_what_arms(place, tmp_path, monkeypatch):
    path = tmp_path / "review-token"
    path.write_text(f"{TOKEN}\n")
    given = []

    class Service:
        @staticmethod
        async def serve(configuration):
            given.append(configuration)

    monkeypatch.setattr("trailgate_operator.main._service", lambda: Service)
    monkeypatch.setenv("KUBECONFIG", "")
    command(place.options(review_token_file=path), standalone_mode=False)
    command(place.options(), standalone_mode=False)
    assert [one.webhook.token for one in given] == [TOKEN, None]
    assert TOKEN not in repr(given[0])
    keys = given[0].keys()
    digests = {one.context("uid", keys).gate.configuration for one in given}
    assert len(digests) == 1


def test_what_the_api_server_says_is_logged_without_it():
    text = (
        'failed calling webhook "enforce.trailgate.dev": failed to call webhook: Post '
        f'"https://trailgate-webhook.trailgate-system.svc:443/validate/{TOKEN}?timeout=10s": refused'
    )
    answer = judge(ControlTest.REFUSAL, text)
    assert answer.text == text.replace(TOKEN, "…")
    assert judge(ControlTest.REFUSAL, DENIED).text == DENIED


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    plane = start_plane(tmp_path_factory.mktemp("token") / "control-plane")
    yield plane
    plane.stop()


@pytest.fixture
async def site(plane, tmp_path):
    site = Site(plane, tmp_path)
    path = tmp_path / "review-token"
    path.write_text(f"{TOKEN}\n")
    site.gate._arguments += ["--review-token-file", str(path)]
    site.apply(site.policy())
    yield site
    await site.stop()
    site.clear()


def with_token(site, token):
    return {"address": Address(SYSTEM, url=site.gate.url, token=token)}


async def forged(site, path):
    """What a stranger who reaches the port is answered."""
    context = ssl.create_default_context(cafile=site.gate.world.certs / "ca.crt")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"https://localhost:{site.gate.port}{path}", json=review("u", "shop"), ssl=context) as got,
    ):  # fmt: skip
        return got.status, await got.json(content_type=None)


@pytest.mark.cluster
@pytest.mark.timeout(120)
async def test_the_api_server_is_told_it_and_nobody_else_learns_it(site, capfd, caplog):
    site.gate.start()
    await site.start(**with_token(site, TOKEN))
    armed = await site.armed()
    for entry in armed["webhooks"]:
        assert entry["clientConfig"]["url"] == f"{site.gate.url}/{TOKEN}"
    refused = site.deploy(site.shop)
    assert refused.returncode != 0
    assert "DigestRequired" in refused.stderr or "NoPolicyForImage" in refused.stderr
    nowhere = await forged(site, "/nowhere")
    for path in ("/validate", f"/validate/{OTHER}"):
        assert await forged(site, path) == nowhere
    assert nowhere[0] == 404
    status, answer = await forged(site, f"/validate/{TOKEN}")
    assert (status, answer["kind"]) == (200, "AdmissionReview")
    await site.stop()
    said = "".join(capfd.readouterr()) + caplog.text + site.gate.text()
    assert "armed" in said
    assert TOKEN not in said
    assert not [record for record in site.store.records() if TOKEN.encode() in record]


@pytest.mark.cluster
@pytest.mark.timeout(120)
@pytest.mark.parametrize("token", [None, OTHER])
async def test_with_another_or_none_it_does_not_arm_and_says_why(site, token):
    site.gate.start()
    await site.start(**with_token(site, token))
    await until(lambda: "HTTP 404" in (site.arming.problem() or ""))
    assert OTHER not in site.arming.problem()
    assert await site.configuration() is None


@pytest.mark.cluster
@pytest.mark.timeout(120)
async def test_the_known_limit_an_api_server_that_reaches_no_gate_quotes_it(site):
    """As docs/reference/webhook.md says. Should this fail, the page may say less."""
    site.gate.start()
    await site.start(**with_token(site, TOKEN))
    await site.armed()
    site.gate.kill()
    refused = site.deploy(site.shop)
    assert refused.returncode != 0
    assert f"/validate/{TOKEN}?timeout=10s" in refused.stderr


@pytest.mark.cluster
@pytest.mark.timeout(120)
async def test_a_path_without_it_is_put_in_order_as_an_upgrade_does(site):
    path, arguments = site.directory / "review-token", site.gate._arguments
    site.gate._arguments = arguments[:-2]
    site.gate.start()
    await site.start(**with_token(site, None))
    await site.armed()
    await site.stop()
    site.gate.kill()
    site.gate._arguments = [*arguments[:-1], str(path)]
    site.gate.start()
    await site.start(**with_token(site, TOKEN))

    async def moved():
        there = await site.configuration()
        return there["webhooks"][0]["clientConfig"]["url"].endswith(f"/{TOKEN}")

    await until(moved)
    await until(lambda: site.arming.problem() is None)
    assert site.states()[-1] == "adjusted"
    await until(lambda: "denied the request: trailgate: " in site.deploy(site.shop).stderr)


@pytest.mark.cluster
def test_a_services_path_with_it_is_one_that_the_api_server_takes(plane):
    body = configuration(Address(SYSTEM, token=TOKEN), b"", FailClosed.of(["shop"]), "uid")
    stored = plane.api("POST", f"{VALIDATING_WEBHOOKS.path(None)}?dryRun=All", body)
    for entry in stored["webhooks"]:
        assert entry["clientConfig"]["service"]["path"] == f"/validate/{TOKEN}"
