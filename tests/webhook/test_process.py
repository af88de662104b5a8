"""The real command, its own process: policies and spool in directories, every part in place."""

import asyncio
import functools
import json
import signal
import socket
import subprocess
import time
import uuid

import aiohttp
import pytest
from aiohttp import web

from tests.kube.test_client import kubeconfig
from tests.kube.test_client import server as server_of
from tests.webhook.conftest import ready, review, until
from tests.webhook.world import policy


def deployment(name=None, namespace="free", image=None, **kwargs):
    body = review("create-deployment", namespace=namespace, uid=str(uuid.uuid4()), **kwargs)
    request = body["request"]
    request["object"]["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": namespace}
    if name is not None:
        request["name"] = request["object"]["metadata"]["name"] = name
    if image is not None:
        pod = request["object"]["spec"]["template"]["spec"]
        for container in pod["containers"] + pod["initContainers"]:
            container["image"] = image
    return body


def uid_of(body):
    return body["request"]["object"]["metadata"]["uid"]


async def test_what_is_admitted_is_in_the_spool_before_the_answer(begin, world):
    server = begin()
    await ready(server)
    body = deployment()
    status, answer = await server.post(body)
    assert (status, answer["response"]["allowed"]) == (200, True)
    (claim,) = world.claims("admitted")
    assert claim["object"]["uid"] == uid_of(body)
    assert claim["cluster"]["uid"] == "6b0f4f0e"
    text = b"".join(path.read_bytes() for path in world.spool.iterdir())
    assert b"deployer" not in text
    assert await server.metric("trailgate_spool_claims_total") == 1
    assert await server.stop() == 0
    kinds = [batch.kind.value for batch, _ in world.opened()]
    assert kinds == ["started", "admitted", "ended"]


async def test_a_dry_run_is_decided_and_never_recorded(begin, world):
    server = begin()
    await ready(server)
    body = deployment()
    body["request"]["dryRun"] = True
    _, answer = await server.post(body)
    assert answer["response"]["allowed"] is True
    denied = deployment(namespace="guarded", image="docker.io/library/nginx:1")
    denied["request"]["dryRun"] = True
    _, answer = await server.post(denied)
    assert answer["response"]["allowed"] is False
    await server.stop()
    assert [batch.kind.value for batch, _ in world.opened()] == ["started", "ended"]


async def test_a_denial_explains_itself_and_reaches_the_trail_by_the_end(begin, world):
    server = begin()
    await ready(server)
    body = deployment(namespace="guarded", image="docker.io/library/nginx:1")
    _, answer = await server.post(body)
    response = answer["response"]
    assert response["allowed"] is False
    assert response["status"]["code"] == 403
    assert response["status"]["reason"] in ("NoPolicyForImage", "DigestRequired")
    assert response["status"]["message"].startswith("trailgate: ")
    assert "production" in response["status"]["message"]
    assert len(response["status"]["message"]) <= 1024
    assert response["auditAnnotations"]["class"] == "root"
    await server.stop()
    (claim,) = world.claims("refused")
    assert claim["count"] == 1
    assert claim["namespace"] == "guarded"
    assert "deployer" not in server.log_text()


async def test_a_registry_that_hangs_is_evidence_unavailable_within_the_deadline(begin, world):
    async def accept_and_say_nothing(reader, writer):
        await reader.read()
        writer.close()

    registry = await asyncio.start_server(accept_and_say_nothing, "127.0.0.1", 0)
    host = f"127.0.0.1:{registry.sockets[0].getsockname()[1]}"
    world.set_policy(
        policy(image=f"{host}/web"),
        policy(image=f"{host}/web", namespace="audited", mode="Audit", name="audit"),
    )
    server = begin(allow_insecure_registry=host)
    await ready(server)
    image = f"{host}/web@sha256:{'7' * 64}"
    loop = asyncio.get_running_loop()
    for timeout, most in (("10s", 8.0), ("2s", 1.8)):
        began = loop.time()
        _, answer = await server.post(
            deployment(namespace="guarded", image=image), f"?timeout={timeout}"
        )
        assert loop.time() - began < most
        assert answer["response"]["allowed"] is False
        assert answer["response"]["status"]["code"] == 503
        assert answer["response"]["status"]["reason"] == "EvidenceUnavailable"
        # Not "no decision within the deadline": it is said of which image what is missing.
        assert f"{host}/web@sha256:7" in answer["response"]["status"]["message"]
        assert (await server.get("/readyz"))[0] == 200
    assert await server.metric("trailgate_evidence_fetches_total") >= 1
    assert await server.metric("trailgate_evidence_warm_total") == 0
    status, answer = await server.post(deployment(namespace="audited", image=image))
    assert status == 200
    assert answer["response"]["allowed"] is True
    await server.stop()
    registry.close()
    (claim,) = world.claims("admitted")
    assert [reason["reason"] for reason in claim["reasons"]] == ["EvidenceUnavailable"]


async def test_a_full_spool_denies_where_enforced_and_warns_where_not(begin, world):
    world.set_policy(policy(namespace="audited", mode="Audit"), policy(name="enforcing"))
    for number in range(4_999):  # and the start announcement is the last that fits
        (world.spool / f"filler-{number}.json").touch()
    server = begin()
    await ready(server)
    deletion = review("delete-deployment", namespace="guarded")
    for _ in range(2):
        _, answer = await server.post(deletion)
        assert answer["response"]["allowed"] is False
        assert answer["response"]["status"]["code"] == 503
        assert answer["response"]["status"]["reason"] == "SpoolFull"
    _, answer = await server.post(deployment(namespace="audited"))
    assert answer["response"]["allowed"] is True
    assert "trailgate: no evidence was kept of this change" in answer["response"]["warnings"]
    assert await server.metric("trailgate_admission_evidence_lost_total") == 1
    for path in world.spool.glob("filler-*"):
        path.unlink()
    _, answer = await server.post(deletion)
    assert answer["response"]["allowed"] is True
    await server.stop()
    (gap,) = world.claims("gap")
    assert (gap["cause"], gap["count"]) == ("admissions-unrecorded", 1)


def more_than(things, enough):
    return len(things) > enough


@pytest.mark.timeout(180)
async def test_killed_at_any_moment_everything_that_was_accepted_is_in_the_spool(begin, world):
    accepted, sent = set(), set()

    async def stream(server):
        async with server.client() as client:
            while True:
                body = deployment()
                sent.add(uid_of(body))
                async with client.post("/validate", json=body) as got:
                    answer = await got.json()
                if answer["response"]["allowed"]:
                    accepted.add(uid_of(body))

    for number in range(5):
        server = begin()
        await ready(server)
        streams = [asyncio.create_task(stream(server)) for _ in range(4)]
        enough = len(accepted) + 20 + 7 * number
        await until(functools.partial(more_than, accepted, enough))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        results = await asyncio.gather(*streams, return_exceptions=True)
        assert all(isinstance(result, aiohttp.ClientError | OSError) for result in results)
    recorded = [claim["object"]["uid"] for claim in world.claims("admitted")]
    assert len(recorded) == len(set(recorded))
    assert accepted <= set(recorded) <= sent
    assert len(accepted) > 150


async def test_policies_follow_their_files_and_a_broken_file_keeps_the_last_good_set(begin, world):
    server = begin()
    await ready(server)
    assert await server.metric("trailgate_policies") == 1
    body = deployment(namespace="guarded", image="docker.io/library/nginx:1")
    assert (await server.post(body))[1]["response"]["allowed"] is False

    broken = policy()
    broken["spec"]["requireEverything"] = True
    world.set_policy(broken, policy(name="other"))

    async def stale():
        return await server.metric("trailgate_policies_stale") == 1

    await until(stale)
    status, text = await server.get("/readyz")
    assert status == 200
    assert "stale policies: policies.yaml" in text
    assert "requireEverything" in text
    assert (await server.post(body))[1]["response"]["allowed"] is False
    assert await server.metric('trailgate_policies_reloads_total{result="failed"}') == 1

    world.set_policy(policy(namespace="elsewhere"))

    async def in_force():
        return (await server.post(body))[1]["response"]["allowed"] is True

    await until(in_force)
    assert await server.metric("trailgate_policies_stale") == 0
    for path in world.policies.iterdir():
        path.unlink()
    await until(stale)
    assert await server.metric("trailgate_policies") == 1


async def test_policies_that_are_no_longer_followed_take_the_process_down(begin, world):
    async def garbled(_request):
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [None]})

    async with server_of(garbled) as url:
        path = kubeconfig(world.root / "kubeconfig", url)
        server = begin(policy_dir=None, kubeconfig=path)

        async def broken():
            return await server.get("/livez") == (503, "broken\n")

        await until(broken)
        status, text = await server.get("/readyz")
        assert status == 503
        assert "policies: " in text
        assert "policies: no longer followed" in server.log_text()
        assert await server.stop() == 0


async def test_the_checkpoint_rides_in_the_annotations(begin, world):
    path = world.root / "checkpoint"
    server = begin(known_checkpoint=path)
    await ready(server)
    _, answer = await server.post(deployment())
    assert "checkpoint" not in answer["response"]["auditAnnotations"]
    path.write_text(
        "log.example/trail\n42\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— a b\n"
    )

    async def carried():
        _, answer = await server.post(deployment())
        return answer["response"]["auditAnnotations"].get("checkpoint") == (
            "log.example/trail 42 CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
        )

    await until(carried)
    path.write_text("nonsense")
    await until(lambda: "is no checkpoint" in server.log_text())
    assert await carried()


def garbage(world, name):
    path = world.root / name
    path.write_bytes(b"hello")
    return path


def taken_port(world):
    world.holding = socket.create_server(("127.0.0.1", 0))
    return f"127.0.0.1:{world.holding.getsockname()[1]}"


def with_policy(document):
    def change(world):
        world.set_policy(document)
        return world.policies

    return change


def emptied(world):
    (world.policies / "policies.yaml").unlink()
    return world.policies


def in_two_files(world):
    (world.policies / "again.yaml").write_text(json.dumps(policy()))
    return world.policies


UNKNOWN = policy()
UNKNOWN["spec"]["requireEverything"] = True
NO_KEY = policy(pem="-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")

UNUSABLE = {
    "no certificate": ("tls_cert", lambda world: world.root / "absent", "No such file"),
    "a certificate that isn't one": ("tls_cert", lambda w: garbage(w, "c"), "PEM chain"),
    "a recorder key that isn't one": (
        "recorder_public_key",
        lambda w: garbage(w, "k"),
        "--recorder-public-key",
    ),
    "a gate key that isn't one": ("gate_key", lambda w: garbage(w, "k"), "--gate-key"),
    "the gate's key as the recorder's": (
        "recorder_public_key",
        lambda world: world.root / "gate.key",
        "--recorder-public-key",
    ),
    "an unknown policy field": ("policy_dir", with_policy(UNKNOWN), "requireEverything"),
    "a policy key that isn't one": ("policy_dir", with_policy(NO_KEY), "key"),
    "a policy that isn't one": ("policy_dir", with_policy({"kind": "Pod"}), "DeployPolicy"),
    "no policy": ("policy_dir", emptied, "got no policy"),
    "a policy in two files": ("policy_dir", in_two_files, "in another file too"),
    "no policy directory": ("policy_dir", lambda world: world.root / "absent", "absent"),
    "no spool directory": ("spool_dir", lambda world: world.root / "absent", "--spool-dir"),
    "a spool file": ("spool_dir", lambda w: garbage(w, "file"), "file"),
    "no cluster's uid": ("cluster_uid", lambda _world: None, "--cluster-uid"),
    "an address that isn't one": ("listen", lambda _world: "8443", "HOST:PORT"),
    "a port that is taken": ("listen", taken_port, "in use"),
    "a client authority without health": (
        "client_ca",
        lambda world: world.certs / "ca.crt",
        "--health-listen",
    ),
    "a client authority that isn't one": ("client_ca", lambda w: garbage(w, "ca"), "authority"),
    "credentials that aren't": ("docker_config", lambda w: garbage(w, "d"), "--docker-config"),
    "a registry authority that isn't one": (
        "registry_ca",
        lambda w: garbage(w, "r"),
        "--registry-ca",
    ),
    "a kubeconfig that isn't one": ("kubeconfig", lambda w: garbage(w, "k"), "kubeconfig"),
    "an unknown option": ("nonsense", lambda _world: "1", "--nonsense"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_configuration_is_one_line_and_exit_2(world, name):
    option, change, expected = UNUSABLE[name]
    changes = {option: change(world)}
    if option == "client_ca" and name.endswith("isn't one"):
        changes["health_listen"] = "127.0.0.1:0"
    began = time.monotonic()
    done = run(world.options(**changes))
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("{")]
    assert expected in lines[-1]
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 20


def run(arguments):
    import os

    from tests.webhook.conftest import ROOT

    path = os.pathsep.join(str(ROOT / part) for part in ("core", "kube", "webhook", "."))
    return subprocess.run(
        arguments,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": path},
    )
