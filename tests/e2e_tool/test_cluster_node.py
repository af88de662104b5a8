"""A cluster whose pods really run: it does what the stories need, and leaves nothing behind.

The first half holds for every provider; what looks into a cluster's inside is for the
local one, and is skipped where another was chosen.
"""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from pathlib import Path

import pytest

from e2e.cluster import image, provider
from e2e.cluster.errors import ClusterError, KubectlError
from e2e.cluster.local import cgroups, guard, slots
from e2e.cluster.local.cluster import LocalCluster, down, up
from e2e.cluster.local.state import State
from e2e.controlplane.binaries import ensure

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
IMAGE = "trailgate.dev/e2e/podling:1"


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    program = ensure(["podling"])["podling"]
    target = tmp_path_factory.mktemp("image") / "podling.tar"
    return image.archive(target, IMAGE, program, ["serve", ":8080"])


@pytest.fixture(scope="session")
def loaded(node_cluster, archive):
    node_cluster.load(archive)
    return node_cluster


@pytest.fixture
def local(loaded):
    if not isinstance(loaded, LocalCluster):
        pytest.skip(f"looks into the local node; this is {loaded.provider}")
    return loaded


@pytest.fixture
def namespace(loaded):
    """A namespace of our own, as in the other tests, but of the cluster with pods."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    loaded.kubectl("create", "namespace", name)
    yield name
    loaded.kubectl("delete", "namespace", name, "--wait=false")


def until(done, seconds=60, every=0.2):
    """Wait for what another process does; returns what ``done`` returned."""
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)
    return found


def apply(cluster, namespace, *objects):
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("-n", namespace, "apply", "-f", "-", input=manifest)


def deployment(name, image=IMAGE, **spec):
    container = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
        "resources": {"limits": {"memory": "64Mi"}},
    } | spec.pop("container", {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1} | spec,
            },
        },
    }


def service(name):
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def run(cluster, namespace, name, **more):
    """Roll a web server out behind a Service that answers; returns its cluster IP."""
    apply(cluster, namespace, deployment(name, **more), service(name))
    rolled_out(cluster, namespace, name)
    address = one(cluster, namespace, f"service/{name}", "{.spec.clusterIP}")
    ask = ("exec", f"deployment/{name}", "--", "/podling", "get", f"http://{address}/")
    # Pods are ready a moment before kube-proxy knows of them.
    until(lambda: cluster.kubectl("-n", namespace, *ask, check=False).returncode == 0)
    return address


def rolled_out(cluster, namespace, name):
    wait = ("rollout", "status", f"deployment/{name}", "--timeout=60s")
    if cluster.kubectl("-n", namespace, *wait, check=False).returncode != 0:
        told = cluster.kubectl("-n", namespace, "get", "deployments,pods,events", "-o", "wide")
        pytest.fail(f"{name} was not rolled out:\n{told.stdout}")


def one(cluster, namespace, what, path):
    return cluster.kubectl("-n", namespace, "get", what, "-o", f"jsonpath={path}").stdout


def fetch(address, path="/", headers=None, method="GET", body=None):
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


class TestPods:
    def test_a_pod_runs_and_a_service_answers_from_a_pod_and_from_the_host(self, loaded, namespace):
        address = run(loaded, namespace, "web")
        found = loaded.kubectl(
            "-n", namespace, "exec", "deployment/web", "--", "/podling", "get", f"http://{address}/"
        )  # its own Service: out to the node and back in
        name = found.stdout.strip()
        assert name.startswith("web-")
        pods = loaded.kubectl("-n", namespace, "get", "pods", "-o", "name").stdout.split()
        assert pods == [f"pod/{name}"]
        if loaded.provider == "local":
            assert fetch(address)[:2] == (200, f"{name}\n")

    def test_without_its_pods_a_service_answers_nobody(self, local, namespace):
        address = run(local, namespace, "web")
        local.kubectl("-n", namespace, "scale", "deployment/web", "--replicas=0")
        gone = ("wait", "--for=delete", "pod", "-lapp=web", "--timeout=60s")
        local.kubectl("-n", namespace, *gone)

        def refused():
            with contextlib.suppress(TimeoutError):
                try:
                    fetch(address)
                except ConnectionRefusedError:
                    return True
            return False

        until(refused)

    def test_a_pod_reaches_the_api_server_by_its_service(self, loaded, namespace):
        run(loaded, namespace, "web")
        with pytest.raises(KubectlError) as refused:  # plain HTTP to a TLS port: it answers
            loaded.kubectl(
                "-n", namespace, "exec", "deployment/web", "--",
                "/podling", "get", f"http://{kubernetes(loaded)}:443/",
            )  # fmt: skip
        assert "400 Bad Request" in refused.value.stderr

    def test_a_claim_is_bound_to_a_volume_that_an_ordinary_user_may_use(self, loaded, namespace):
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        apply(loaded, namespace, claim)
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        mounts = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        security = {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
        run(loaded, namespace, "web", container=mounts, volumes=volumes, securityContext=security)
        assert one(loaded, namespace, "pvc/data", "{.status.phase}") == "Bound"

    def test_an_image_that_nobody_loaded_does_not_run(self, loaded, namespace):
        absent = deployment("absent", image="trailgate.dev/e2e/absent:1",
                            container={"imagePullPolicy": "Never"})  # fmt: skip
        apply(loaded, namespace, absent)
        waiting = "{.items[*].status.containerStatuses[*].state.waiting.reason}"
        until(lambda: "ErrImageNeverPull" in one(loaded, namespace, "pods", waiting))


def kubernetes(cluster):
    return one(cluster, "default", "service/kubernetes", "{.spec.clusterIP}")


class TestRegistry:
    @pytest.fixture
    def pushed(self, loaded, tmp_path):
        """An image and repository of our own; returns the reference by digest."""
        program, name = ensure(["podling"])["podling"], uuid.uuid4().hex[:10]
        made = image.archive(tmp_path / "i.tar", IMAGE, program, ["serve", ":8080"], test=name)
        repository, archive = f"test/{name}", made
        digest = push(loaded, repository, archive)
        return f"{loaded.registry_address}/{repository}@{digest}"

    def test_nobody_gets_in_without_the_login(self, loaded):
        login = loaded.registry_credentials
        status, _, headers = fetch(loaded.registry_address, "/v2/")
        assert status == 401
        assert headers["Www-Authenticate"].startswith("Basic ")
        wrong = type(login)(login.user, login.password + "x").header
        assert fetch(loaded.registry_address, "/v2/", {"Authorization": wrong})[0] == 401
        right = {"Authorization": login.header}
        assert fetch(loaded.registry_address, "/v2/", right)[0] == 200

    def test_it_has_the_referrers_api(self, loaded, pushed):
        repository, _, digest = pushed.partition("/")[2].partition("@")
        headers = {"Authorization": loaded.registry_credentials.header}
        path = f"/v2/{repository}/referrers/{digest}"
        status, text, _ = fetch(loaded.registry_address, path, headers)
        assert status == 200
        assert json.loads(text)["manifests"] == []

    def test_a_pod_pulls_with_the_login_and_not_without(self, loaded, namespace, pushed):
        apply(loaded, namespace, deployment("stranger", image=pushed,
                                            container={"imagePullPolicy": "Always"}))  # fmt: skip
        messages = "{.items[*].status.containerStatuses[*].state.waiting.message}"
        until(lambda: "401" in one(loaded, namespace, "pods", messages))
        login = loaded.registry_credentials
        loaded.kubectl(
            "-n", namespace, "create", "secret", "docker-registry", "login",
            f"--docker-server={loaded.registry_address}",
            f"--docker-username={login.user}", f"--docker-password={login.password}",
        )  # fmt: skip
        run(loaded, namespace, "guest", image=pushed, imagePullSecrets=[{"name": "login"}],
            container={"imagePullPolicy": "Always"})  # fmt: skip

    def test_it_leaves_and_comes_back_with_what_it_held(self, loaded, pushed):
        repository, _, digest = pushed.partition("/")[2].partition("@")
        headers = {"Authorization": loaded.registry_credentials.header}
        path = f"/v2/{repository}/manifests/{digest}"
        before = fetch(loaded.registry_address, path, headers)
        loaded.stop_registry()
        try:
            with pytest.raises(ConnectionRefusedError):
                fetch(loaded.registry_address, path, headers)
        finally:
            loaded.start_registry()
        assert fetch(loaded.registry_address, path, headers)[:2] == before[:2]
        assert before[0] == 200


def push(cluster, repository, archive):
    """Push an OCI archive by hand: each blob in one request, then the manifest."""
    with tarfile.open(archive) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}
    (entry,) = json.loads(files["index.json"])["manifests"]
    login = {"Authorization": cluster.registry_credentials.header}
    for name, blob in files.items():
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        if name.startswith("blobs/") and digest != entry["digest"]:
            path = f"/v2/{repository}/blobs/uploads/?digest={digest}"
            assert fetch(cluster.registry_address, path, login, "POST", blob)[0] == 201
    manifest = files["blobs/sha256/" + entry["digest"][7:]]
    headers = login | {"Content-Type": entry["mediaType"]}
    path = f"/v2/{repository}/manifests/1"
    assert fetch(cluster.registry_address, path, headers, "PUT", manifest)[0] == 201
    return entry["digest"]


class TestOutages:
    def test_the_api_server_is_another_one_and_knows_all_it_knew(self, loaded, namespace):
        loaded.kubectl("-n", namespace, "create", "configmap", "kept")
        before = started(loaded)
        loaded.restart_api_server()
        assert started(loaded) > before
        assert one(loaded, namespace, "configmap/kept", "{.metadata.name}") == "kept"

    def test_without_the_kubelet_what_runs_goes_on_and_nothing_new_starts(self, local, namespace):
        address = run(local, namespace, "web")
        local.stop_node()
        try:
            assert fetch(address)[0] == 200
            apply(local, namespace, deployment("late"))
            scheduled = "{.items[?(@.metadata.labels.app=='late')].spec.nodeName}"
            until(lambda: one(local, namespace, "pods", scheduled))
            time.sleep(3)  # a running node would have started it by now
            state = "{.items[?(@.metadata.labels.app=='late')].status.phase}"
            assert one(local, namespace, "pods", state) == "Pending"
        finally:
            local.start_node()
        rolled_out(local, namespace, "late")
        assert fetch(address)[0] == 200
        assert restarts(local, namespace, "web") == 0

    def test_without_power_nothing_answers_and_all_comes_back(self, local, namespace):
        address = run(local, namespace, "web")
        local.stop_node(cut_power=True)
        try:
            with pytest.raises(OSError):
                fetch(address)
        finally:
            local.start_node()
        until(lambda: restarts(local, namespace, "web") == 1)
        rolled_out(local, namespace, "web")
        until(lambda: answers(address))


def started(cluster):
    metrics = cluster.kubectl("get", "--raw=/metrics").stdout
    (line,) = (x for x in metrics.splitlines() if x.startswith("process_start_time_seconds "))
    return float(line.split()[1])


def restarts(cluster, namespace, name):
    path = (
        f"{{.items[?(@.metadata.labels.app=='{name}')].status.containerStatuses[0].restartCount}}"
    )
    return int(one(cluster, namespace, "pods", path) or 0)


def answers(address):
    try:
        return fetch(address)[0] == 200
    except OSError:
        return False


def traces(directory):
    """What a cluster in ``directory`` has in the machine while it is up: processes, mounts."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(directory).encode() in path.read_bytes() and path.parts[2] != str(os.getpid()):
                found.add(f"process {path.parts[2]}")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(directory) in line:
            found.add(f"mount {line}")
    return found


def named_after(slot):
    """What is called after a slot, or has its addresses: link, routes, cgroups, nftables rules."""

    def told(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    ours = slot.range.removesuffix("0.0/16")
    return {
        "links": [x for x in told("ip", "-brief", "link") if slot.link in x],
        "routes": [x for x in told("ip", "-4", "route", "show", "table", "all") if ours in x],
        "nft": [x for x in told("nft", "list", "ruleset") if ours in x or "kube" in x],
        "cgroups": cgroups.left(slot.cgroup),
    }


NOTHING = {"links": [], "routes": [], "nft": [], "cgroups": []}


def free(slot):
    """Whether nothing is left of a slot's cluster (or another run has it by now)."""
    for idle, lock in slots.idle():
        with lock:
            if idle == slot:
                return named_after(slot) == NOTHING
    return True


def machine():
    """What of this machine no cluster may change, ever."""
    names = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/hostname",
             "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max")  # fmt: skip
    settings = [Path("/proc/sys") / name for name in names]
    places = ("/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/run/containerd")
    return (
        {path: path.read_text() for path in settings if path.exists()},
        {place: Path(place).exists() for place in places},
    )


class TestEnds:
    """All of these run beside the cluster of the other tests, which must not notice."""

    @pytest.fixture
    def directory(self, local, tmp_path_factory):
        directory = tmp_path_factory.mktemp("own")
        before = machine()
        yield directory
        down(directory)
        assert machine() == before
        assert local.kubectl("get", "--raw=/readyz").stdout == "ok"

    def test_down_leaves_nothing_behind_and_two_at_once_share_nothing(
        self, local, directory, archive
    ):
        mine = up(directory, watched=os.getpid())
        slot = slots.Slot(mine.state.slot)
        assert mine.state.slot != local.state.slot
        mine.load(archive)
        address = run(mine, "default", "web")
        assert fetch(address)[0] == 200
        kinds = {trace.partition(" ")[0] for trace in traces(directory)}
        assert kinds == {"process"}  # its mounts are in a namespace of its own
        there = named_after(slot)
        assert all(there[kind] for kind in ("links", "routes", "cgroups"))
        assert there["nft"] == []
        with pytest.raises(ClusterError, match=f"already up in {directory}"):
            up(directory)
        assert down(directory) is True
        assert traces(directory) == set()
        assert free(slot)
        assert sorted(p.name for p in directory.iterdir()) == [".lock", "logs"]
        with pytest.raises(ClusterError, match="no cluster is up"):
            provider.attach(directory)
        assert down(directory) is False

    def test_it_ends_with_its_starter_even_if_that_is_killed(self, local, tmp_path):
        own = tmp_path / "own"
        starter = subprocess.Popen(
            [sys.executable, "-c", (
             "import os, pathlib, sys, time\n"
             "from e2e.cluster.local.cluster import up\n"
             "up(pathlib.Path(sys.argv[1]), watched=os.getpid(), temporary=True)\n"
             "print('up', flush=True)\n"
             "time.sleep(600)"), str(own)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with starter.stdout as said:
            assert said.readline() == "up\n"
        slot = slots.Slot(State.read(own).slot)
        assert named_after(slot) != NOTHING
        starter.kill()
        starter.wait()
        with contextlib.suppress(AssertionError):
            until(lambda: not own.exists())
        assert not own.exists(), (own / "logs" / "guard.log").read_text()
        until(lambda: not traces(own))
        assert free(slot)

    def test_what_is_left_of_a_killed_guard_is_empty_and_the_next_one_clears_it(self, directory):
        slot = slots.Slot(up(directory, watched=os.getpid()).state.slot)
        os.kill(guard.holder(directory), signal.SIGKILL)
        until(lambda: not traces(directory))
        until(lambda: named_after(slot) == NOTHING | {"cgroups": cgroups.left(slot.cgroup)})
        with pytest.raises(ClusterError, match="no cluster is up"):
            provider.attach(directory)
        assert State.read(directory) is not None  # stale, and not believed
        assert down(directory) is False
        assert free(slot)
        assert State.read(directory) is None

    def test_one_that_cannot_come_up_says_why_and_leaves_nothing(self, directory, monkeypatch):
        broken = directory / "path"
        broken.mkdir()
        (broken / "containerd").write_text("#!/bin/sh\necho no containerd today >&2\nexit 7\n")
        (broken / "containerd").chmod(0o755)
        monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
        with pytest.raises(ClusterError, match=r"(?s)containerd ended.*no containerd today"):
            up(directory / "own", watched=os.getpid())
        assert traces(directory / "own") == set()
        assert guard.holder(directory / "own") is None


def test_the_node_is_not_reachable_from_other_machines(local):
    """It listens on its own network only: no port of it is open on this machine's addresses."""
    for port in (int(local.registry_address.rpartition(":")[2]), 10250):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
