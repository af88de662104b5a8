"""Our own registry credentials: a real registry with a login, and a file that changes."""

import json

import pytest

from tests.bench.webhook import push_signed
from tests.core.oci.logins import PASSWORD, basic_registry, config, credentials
from tests.core.oci.support import client_for
from tests.webhook.conftest import ready, until
from tests.webhook.test_process import deployment
from tests.webhook.world import RELEASE, policy
from trailgate.evidence.keys import load_private_key
from trailgate.ledger.spoolkeys import private_pem
from trailgate.model.image import ImageReference
from trailgate_webhook.credentials import DockerConfigFile
from trailgate_webhook.settings import ConfigurationError

KEY = load_private_key(private_pem(RELEASE), None)
IMAGE = ImageReference.parse("registry.example/acme/web:1")


@pytest.fixture
def login(tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    with basic_registry(folder) as address:
        yield address


async def publish(address, number=0):
    async with client_for(address, credentials(address)) as client:
        return await push_signed(client, f"{address}/acme/web", number, KEY)


@pytest.mark.registry
async def test_new_credentials_are_used_without_a_restart(begin, world, login):
    image = await publish(login)
    world.set_policy(policy(image=f"{login}/acme/*"))
    path = world.root / "config.json"
    path.write_bytes(config(login, "forgotten"))
    server = begin(docker_config=path, allow_insecure_registry=login)
    await ready(server)
    body = deployment(namespace="guarded", image=image)
    _, answer = await server.post(body)
    status = answer["response"]["status"]
    assert (status["code"], status["reason"]) == (503, "EvidenceUnavailable")
    assert f"tried {path} entry {login}" in status["message"]
    assert "forgotten" not in status["message"]

    path.write_bytes(b"{")  # a broken file changes nothing
    await until(lambda: "registry credentials: not loaded" in server.log_text())
    draft = world.root / "draft.json"
    draft.write_bytes(config(login))
    draft.rename(path)

    async def admitted():
        _, answer = await server.post(deployment(namespace="guarded", image=image))
        return answer["response"]["allowed"]

    await until(admitted)
    text = server.log_text()
    assert "registry credentials loaded" in text
    assert PASSWORD not in text
    assert "forgotten" not in text


def test_the_file_is_followed_by_content_and_the_last_good_one_stays(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(config("registry.example", "one"))
    source = DockerConfigFile(path)
    assert source.refresh() is False
    assert source.find(IMAGE).password == "one"
    path.write_bytes(config("registry.example", "two"))
    assert source.refresh() is True
    assert source.find(IMAGE).password == "two"
    for damage in (
        b"{",
        b'{"auths":{"registry.example":{"auth":"###"}}}',
        b" " * (1 << 20) + b"{}",
    ):
        path.write_bytes(damage)
        for _ in range(2):
            with pytest.raises(ConfigurationError):
                source.refresh()
        assert source.find(IMAGE).password == "two"
    path.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        source.refresh()
    path.write_bytes(config("elsewhere.example"))
    assert source.refresh() is True
    assert source.find(IMAGE) is None
    assert str(path) in source.describe()


def test_no_error_quotes_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"registry.example": {"auth": "c2VjcmV0"}}}))
    with pytest.raises(ConfigurationError) as failed:
        DockerConfigFile(path)
    assert "c2VjcmV0" not in str(failed.value)
    assert "secret" not in str(failed.value).replace("config.json", "")
