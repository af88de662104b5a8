"""Pull secrets by name: only listed ones are read, briefly kept, and never told."""

import base64
import json
import uuid

import pytest

from tests.core.oci.logins import PASSWORD, config
from tests.webhook import rights
from tests.webhook.conftest import ready
from tests.webhook.test_credentials import login, publish
from tests.webhook.test_process import deployment
from tests.webhook.world import policy
from trailgate.assess.pull import PullSecrets
from trailgate.model.image import ImageReference
from trailgate.oci.credentials import Anonymous, DockerConfig
from trailgate.oci.errors import CredentialsError
from trailgate.oci.memory import MemoryRegistry
from trailgate_kube.errors import ForbiddenError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import SECRETS
from trailgate_webhook.pullsecrets import FRESH, PullSecretAccounts

__all__ = ["login"]

HOST = "registry.example"
IMAGE = ImageReference.parse(f"{HOST}/acme/web:1")
ELSEWHERE = ImageReference.parse("elsewhere.example/acme/web:1")
LISTED = "shop/regcred"


def secret(content, *, kind="kubernetes.io/dockerconfigjson", key=".dockerconfigjson", **meta):
    data = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "regcred", **meta},
        "type": kind,
        "data": {key: data},
    }


class Counted(MemoryKube):
    """The twin, with what was got."""

    def __init__(self):
        super().__init__()
        self.got = []

    async def get(self, resource, name, namespace=None, *, seconds=None):
        self.got.append(f"{namespace}/{name}")
        return await super().get(resource, name, namespace, seconds=seconds)


class Scene:
    def __init__(self, own=None):
        self.kube, self.now, self.clients = Counted(), 0.0, []
        self.accounts = PullSecretAccounts(
            self.kube, [LISTED], own or Anonymous(), self.connect, lambda: self.now
        )

    async def connect(self, credentials):
        self.clients.append(credentials)
        return MemoryRegistry()

    async def put(self, document):
        await self.kube.create(SECRETS, document, "shop")

    def password(self):
        (source,) = self.clients
        found = source.find(IMAGE)
        return None if found is None else found.password


@pytest.fixture
def scene():
    return Scene()


async def test_a_listed_secret_gives_a_registry_of_its_own(scene):
    await scene.put(secret(config(HOST, "one")))
    assert await scene.accounts.open(LISTED, IMAGE) is not None
    assert scene.password() == "one"
    assert await scene.accounts.open(LISTED, ELSEWHERE) is None


async def test_a_secret_that_is_not_listed_is_never_read(scene):
    await scene.put(secret(config(HOST)))
    named = PullSecrets("shop", ("other", "regcred"))
    assert scene.accounts.listed(named) == (LISTED,)
    assert scene.accounts.listed(PullSecrets("other", ("regcred",))) == ()
    with pytest.raises(CredentialsError, match="not listed"):
        await scene.accounts.open("other/regcred", IMAGE)
    assert scene.kube.got == []


def test_whether_our_own_credentials_cover_an_image():
    own = DockerConfig.parse(config(HOST), "config.json")
    assert Scene(own).accounts.covers(IMAGE)
    assert not Scene(own).accounts.covers(ELSEWHERE)
    assert not Scene().accounts.covers(IMAGE)


async def test_it_is_kept_briefly_and_then_read_again(scene):
    await scene.put(secret(config(HOST, "one")))
    for _ in range(3):
        await scene.accounts.open(LISTED, IMAGE)
    assert scene.kube.got == [LISTED]
    changed = secret(config(HOST, "two"))
    await scene.kube.change(SECRETS, "regcred", {"data": changed["data"]}, "shop")
    scene.now += FRESH - 1
    await scene.accounts.open(LISTED, IMAGE)
    assert scene.password() == "one"
    scene.now += 2
    await scene.accounts.open(LISTED, IMAGE)
    assert scene.password() == "two"
    assert len(scene.clients) == 1


async def test_a_deleted_secret_is_forgotten_and_an_absent_api_server_is_not_a_deletion(scene):
    await scene.put(secret(config(HOST, "one")))
    await scene.accounts.open(LISTED, IMAGE)
    scene.now += FRESH + 1
    scene.kube.fail("get", UnavailableError("no connection", maybe_done=False))
    assert await scene.accounts.open(LISTED, IMAGE) is not None
    scene.now += FRESH + 1
    await scene.kube.delete(SECRETS, "regcred", "shop")
    with pytest.raises(CredentialsError, match="shop/regcred is not there"):
        await scene.accounts.open(LISTED, IMAGE)
    assert scene.password() is None


SECRET_TEXT = base64.b64encode(b"hidden-text").decode()

BROKEN = {
    "another type": (secret(b"{}", kind="Opaque"), "got type 'Opaque'"),
    "without its key": (secret(b"{}", key="config.json"), "got no .dockerconfigjson"),
    "no base64": (secret("hidden-text!"), "is not base64"),
    "no JSON": (secret(b"hidden-text"), "not a Docker config.json"),
    "too large": (secret(b" " * (3 << 20)), "at most"),
    "a bad entry": (
        secret(json.dumps({"auths": {HOST: {"auth": SECRET_TEXT}}}).encode()),
        "not base64 of user:password",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_secret_that_is_none_is_an_error_that_quotes_nothing(scene, name):
    document, expected = BROKEN[name]
    await scene.put(document)
    with pytest.raises(CredentialsError) as failed:
        await scene.accounts.open(LISTED, IMAGE)
    assert expected in str(failed.value)
    assert "shop/regcred" in str(failed.value)
    assert "hidden-text" not in str(failed.value)
    assert SECRET_TEXT not in str(failed.value)


async def test_without_the_right_the_error_says_so_and_heals(scene):
    await scene.put(secret(config(HOST)))
    scene.kube.fail("get", ForbiddenError("403"))
    with pytest.raises(CredentialsError, match="no right"):
        await scene.accounts.open(LISTED, IMAGE)
    assert await scene.accounts.open(LISTED, IMAGE) is not None


async def test_no_answer_at_first_is_an_error(scene):
    scene.kube.fail("get", UnavailableError("no connection", maybe_done=False))
    with pytest.raises(CredentialsError, match=r"doesn.t answer"):
        await scene.accounts.open(LISTED, IMAGE)


async def test_the_older_type_is_read_too(scene):
    content = json.dumps(json.loads(config(HOST, "old"))["auths"]).encode()
    await scene.put(secret(content, kind="kubernetes.io/dockercfg", key=".dockercfg"))
    assert await scene.accounts.open(LISTED, IMAGE) is not None
    assert scene.password() == "old"


class Shop:
    """Two namespaces of a real cluster, and a gate with the right to one secret of the one."""

    def __init__(self, plane):
        mark = uuid.uuid4().hex[:8]
        self.plane, self.shop, self.other = plane, f"shop-{mark}", f"other-{mark}"
        for name in (self.shop, self.other):
            plane.namespace(name)
        self.gate = plane.service_account(f"trailgate-{mark}", "gate")
        rules = [*rights.rules(), *rights.pull_secret_rules("regcred")]
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
        for name, some in ((f"gate-{mark}", rules[:-1]), (f"pull-{mark}", rules[-1:])):
            plane.apply(role | {"metadata": {"name": name}, "rules": some})
        plane.bind(self.gate, f"gate-{mark}")
        plane.bind(self.gate, f"pull-{mark}", self.shop)

    def give(self, namespace, content):
        self.plane.apply(secret(content, namespace=namespace))


def pulling(namespace, image, *names):
    body = deployment(namespace=namespace, image=image)
    spec = body["request"]["object"]["spec"]["template"]["spec"]
    spec["imagePullSecrets"] = [{"name": name} for name in names]
    return body


async def test_a_namespace_s_own_secret_opens_what_its_pods_name(
    begin, world, login, control_plane
):
    scene = Shop(control_plane)
    image = await publish(login)
    world.set_policy(policy(namespace="*", image=f"{login}/acme/*"))
    for namespace in (scene.shop, scene.other):
        scene.give(namespace, config(login))
    server = begin(
        kubeconfig=scene.gate.kubeconfig,
        image_pull_secret=[f"{scene.shop}/regcred", f"{scene.other}/regcred"],
        allow_insecure_registry=login,
    )
    await ready(server)

    async def said(body):
        return (await server.post(body))[1]["response"]

    answer = await said(pulling(scene.shop, image))
    assert answer["status"]["reason"] == "EvidenceUnavailable"
    assert "no credentials" in answer["status"]["message"]
    answer = await said(pulling(scene.shop, image, "unlisted"))
    assert f"not read: {scene.shop}/unlisted" in answer["status"]["message"]
    assert (await said(pulling(scene.shop, image, "regcred")))["allowed"] is True
    # Warm by now, for this namespace alone; the other's secret may not be read by the gate.
    assert (await said(pulling(scene.shop, image)))["allowed"] is False
    answer = await said(pulling(scene.other, image, "regcred"))
    assert f"secret {scene.other}/regcred: the gate has no right" in answer["status"]["message"]
    text = server.log_text()
    assert PASSWORD not in text
    assert base64.b64encode(config(login)).decode() not in text
