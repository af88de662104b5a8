"""A gate with a token answers the API server, whose path has it, and nobody else."""

import io
import json

import pytest

from tests.webhook.conftest import ready, review
from trailgate_webhook.app import App
from trailgate_webhook.health import Health
from trailgate_webhook.metrics import Metrics

TOKEN = "0123456789abcdef" * 4
WRONG = "path"
COUNTED = f'trailgate_admission_turned_away_total{{cause="{WRONG}"}}'


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "review-token"
    path.write_text(f"{TOKEN}\n")
    return path


async def post(server, path):
    body = json.dumps(review("create-deployment")).encode()
    async with server.client() as client, client.post(path, data=io.BytesIO(body)) as got:
        return got.status, await got.json(content_type="application/json")


async def test_only_the_path_with_the_token_is_answered(begin, world, token_file):
    server = begin(review_token_file=token_file)
    await ready(server)
    status, answer = await post(server, f"/validate/{TOKEN}?timeout=10s")
    assert (status, answer["kind"]) == (200, "AdmissionReview")
    nowhere = await post(server, "/nowhere")
    assert nowhere[0] == 404
    wrong = [
        "/validate", "/validate/", f"/validate/{TOKEN[:-1]}0", f"/validate/{TOKEN[:-1]}",
        f"/validate/{TOKEN}/", f"/validate/{TOKEN}x", f"/validate//{TOKEN}", f"/{TOKEN}",
        f"/validate/{TOKEN.upper()}", f"/validate?{TOKEN}", f"/validate/%C3%A9{TOKEN}",
    ]  # fmt: skip
    for path in wrong:
        assert await post(server, path) == nowhere, path
    assert await server.metric(COUNTED) == len(wrong) + 1
    assert (await server.get("/readyz"))[0] == 200
    await server.stop()
    assert TOKEN not in server.log_text()
    assert len(world.claims("admitted")) + len(world.claims("refused")) <= 1


async def test_without_one_it_is_as_it_was(begin):
    server = begin()
    await ready(server)
    assert (await server.post(review("create-deployment")))[0] == 200
    assert (await post(server, f"/validate/{TOKEN}"))[0] == 404
    assert await server.metric(COUNTED) is None


@pytest.mark.parametrize("content", [None, "", "short", TOKEN.upper()])
async def test_a_file_without_a_token_is_no_start(begin, tmp_path, content):
    path = tmp_path / "review-token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AssertionError, match="--review-token-file") as error:
        begin(review_token_file=path)
    assert TOKEN.upper() not in str(error.value)


async def test_the_health_listener_answers_no_review_with_it_either():
    app = App(object(), Health({}, {}), Metrics(), TOKEN).without_reviews()
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": f"/validate/{TOKEN}", "headers": []}
    await app(scope, None, send)
    assert sent[0]["status"] == 404
