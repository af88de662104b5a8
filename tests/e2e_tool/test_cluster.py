"""The e2e cluster's parts that can be tried without bringing one up."""

import contextlib
import fcntl
import hashlib
import http.client
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from e2e.cluster import image, kind, provider
from e2e.cluster.errors import ClusterError, KubectlError, UnsupportedError
from e2e.cluster.existing import ExistingCluster
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.local import guard, mounts, needs, network, runtime, settings, slots
from e2e.cluster.local.cluster import LocalCluster, down
from e2e.cluster.local.state import State

ROOT = Path(__file__).parents[2]
NEVER = "exit 1"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No choice made by the environment, and a PATH of our own."""
    for name in list(os.environ):
        if name.startswith("TRAILGATE_E2E") or name in ("KIND", "KUBECONFIG"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    return tmp_path / "path"


@pytest.mark.parametrize(
    ("docker", "with_kind", "expected"),
    [
        ("echo 29.0", True, "kind"),
        ("echo 29.0", False, "local"),
        (NEVER, True, "local"),
        (None, True, "local"),
    ],
)
def test_kind_is_chosen_only_where_it_is_there_and_docker_answers(
    clean, docker, with_kind, expected
):
    if docker:
        script(clean / "docker", docker)
    if with_kind:
        script(clean / "kind", "exit 0")
    if docker is None:
        os.environ["PATH"] = str(clean)
    assert provider.chosen() == expected


def test_a_docker_client_that_hangs_is_no_daemon(clean, monkeypatch):
    script(clean / "docker", "exec sleep 30")
    script(clean / "kind", "exit 0")
    monkeypatch.setattr(kind, "_DAEMON_SECONDS", 0.3)
    assert provider.chosen() == "local"


def test_kind_may_lie_elsewhere_and_the_choice_may_be_made(clean, monkeypatch, tmp_path):
    script(clean / "docker", "echo 29.0")
    monkeypatch.setenv("KIND", str(script(tmp_path / "elsewhere" / "kind", "exit 0")))
    assert provider.chosen() == "kind"
    monkeypatch.setenv("TRAILGATE_E2E_PROVIDER", "local")
    assert provider.chosen() == "local"
    monkeypatch.setenv("TRAILGATE_E2E_PROVIDER", "minikube")
    with pytest.raises(ClusterError, match="got minikube, expected kind or local"):
        provider.chosen()


@pytest.fixture
def fake_kind(clean, monkeypatch, tmp_path):
    """A kind and a docker that write down what they are asked; the gateway is loopback."""
    log = tmp_path / "asked.log"
    networks = '[{"Gateway": "fc00::1"}, {"Gateway": "127.0.0.1"}]'
    script(clean / "kind", f'echo kind "$@" >> {log}; [ "$1" = create ] && cat >> {log}; exit 0')
    script(
        clean / "docker",
        f'echo docker "$@" >> {log}\n'
        f"case \"$*\" in *inspect*) echo '{networks}' ;; *stdin*) cat >> {log} ;;\n"
        "  *'crictl ps'*) echo one two ;; esac",
    )
    return log


@pytest.mark.registry
def test_a_kind_cluster_knows_the_registry_and_is_deleted_afterwards(fake_kind, tmp_path):
    with kind.running() as cluster:
        name = f"trailgate-e2e-{os.getpid()}"
        address = cluster.registry_address
        assert address.startswith("127.0.0.1:")  # the IPv4 gateway
        answer = http.client.HTTPConnection(address, timeout=5)
        answer.request("GET", "/v2/")
        assert answer.getresponse().status == 401
        answer.close()
        cluster.load(tarred(tmp_path / "image.tar", **{"manifest.json": [{"RepoTags": ["x:1"]}]}))
        cluster.stop_node()
        with pytest.raises(ClusterError, match="got 2 running API servers, expected one"):
            cluster.restart_api_server()
        asked = fake_kind.read_text()
        assert "delete" not in asked
    asked = fake_kind.read_text().splitlines()
    assert asked[0].startswith(f"kind create cluster --name {name} --kubeconfig /")
    assert '    config_path = "/etc/containerd/certs.d"' in asked
    assert f'server = "http://{address}"' in asked
    node = f"docker exec -i {name}-control-plane"
    assert f"{node} cp /dev/stdin /etc/containerd/certs.d/{address}/hosts.toml" in asked
    assert f"kind load image-archive {tmp_path / 'image.tar'} --name {name}" in asked
    assert f"{node} systemctl stop kubelet containerd" in asked
    assert asked[-1].startswith(f"kind delete cluster --name {name}")


def test_a_kind_cluster_that_does_not_come_up_is_deleted_too(fake_kind, clean):
    script(clean / "kind", f'echo kind "$@" >> {fake_kind}; [ "$1" != create ] || {{ {NEVER}; }}')
    with pytest.raises(ClusterError, match="kind create cluster"), kind.running():
        pass
    assert fake_kind.read_text().splitlines()[-1].startswith("kind delete cluster")


@pytest.mark.slow
def test_a_kind_cluster_is_deleted_when_its_starter_is_killed(fake_kind):
    """The registry isn't reached before that, so nothing needs to be built."""
    code = (
        "import time\nfrom e2e.cluster import kind\n"
        "kind._gateway = lambda: (print('up', flush=True), time.sleep(600))\n"
        "with kind.running(): pass\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with starter.stdout as said:
        assert said.readline() == "up\n"
    assert "delete" not in fake_kind.read_text()
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 20
    kubeconfig = fake_kind.read_text().split("--kubeconfig ")[1].split()[0]
    while "kind delete" not in fake_kind.read_text() or Path(kubeconfig).parent.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def existing(monkeypatch, tmp_path, login="me:secret"):
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{}")
    (tmp_path / "login").write_text(f"{login}\n")
    monkeypatch.setenv("TRAILGATE_E2E_KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("TRAILGATE_E2E_REGISTRY", "registry.example:5000")
    monkeypatch.setenv("TRAILGATE_E2E_REGISTRY_LOGIN", str(tmp_path / "login"))
    return kubeconfig


def test_an_existing_cluster_is_taken_by_its_own_variable_only(clean, monkeypatch, tmp_path):
    kubeconfig = existing(monkeypatch, tmp_path)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with provider.cluster() as cluster:
        assert cluster.provider == "existing"
        assert cluster.kubeconfig == kubeconfig
        assert cluster.registry_address == "registry.example:5000"
        assert cluster.registry_credentials.password == "secret"
        for change in ("restart_api_server", "stop_node", "start_node", "stop_registry"):
            with pytest.raises(UnsupportedError, match="an existing cluster"):
                getattr(cluster, change)()
        with pytest.raises(UnsupportedError, match="push it to the registry"):
            cluster.load(tmp_path / "image.tar")
    monkeypatch.delenv("TRAILGATE_E2E_KUBECONFIG")
    monkeypatch.setattr(kind, "available", lambda: False)
    assert provider.chosen() == "local"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("delenv", "TRAILGATE_E2E_REGISTRY"), "needs TRAILGATE_E2E_REGISTRY"),
        (("delenv", "TRAILGATE_E2E_REGISTRY_LOGIN"), "needs TRAILGATE_E2E_REGISTRY"),
        (("setenv", "TRAILGATE_E2E_KUBECONFIG", "/nowhere"), "got /nowhere, expected a file"),
    ],
)
def test_an_existing_cluster_must_be_told_whole(clean, monkeypatch, tmp_path, change, complaint):
    existing(monkeypatch, tmp_path)
    getattr(monkeypatch, change[0])(*change[1:])
    with pytest.raises(ClusterError, match=complaint), provider.cluster():
        pass


def test_a_login_without_a_password_is_refused(clean, monkeypatch, tmp_path):
    kubeconfig = existing(monkeypatch, tmp_path, login="me")
    with pytest.raises(ClusterError, match="one line USER:PASSWORD"):
        ExistingCluster.named(kubeconfig)


def test_kubectl_is_run_with_its_kubeconfig_and_without_the_shells(clean, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", "/the/users/own")
    program = script(clean / "kubectl", 'echo "$@" "[$KUBECONFIG]"; cat')
    done = Kubectl(program, tmp_path / "config")("get", "pods", input="given")
    assert done.stdout == f"--kubeconfig {tmp_path / 'config'} get pods []\ngiven"
    script(clean / "kubectl", "echo denied: no >&2; exit 3")
    with pytest.raises(KubectlError, match="status 3, expected 0") as failed:
        Kubectl(program, tmp_path / "config")("apply")
    assert failed.value.stderr == "denied: no\n"
    assert Kubectl(program, tmp_path / "config")("apply", check=False).returncode == 3
    script(clean / "kubectl", "exec sleep 30")
    with pytest.raises(ClusterError, match=r"no end after 0\.2 s"):
        Kubectl(program, tmp_path / "config")("wait", seconds=0.2)


def test_an_image_is_the_same_bytes_each_time_and_all_digests_hold(tmp_path):
    program = script(tmp_path / "thing", "exit 0")
    one = image.archive(tmp_path / "1.tar", "example.org/thing:1", program, ["serve"])
    two = image.archive(tmp_path / "2.tar", "example.org/thing:1", program, ["serve"])
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}
    for name, content in files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "example.org/thing:1"
    manifest = json.loads(files["blobs/sha256/" + entry["digest"][7:]])
    config = json.loads(files["blobs/sha256/" + manifest["config"]["digest"][7:]])
    assert config["config"]["Entrypoint"] == ["/thing", "serve"]
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]


def tarred(path, **files):
    with tarfile.open(path, "w") as tar:
        for name, document in files.items():
            content = json.dumps(document).encode()
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


REF = "org.opencontainers.image.ref.name"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"manifest.json": [{"RepoTags": ["example.org/a:1"]}]}, None),
        ({"manifest.json": [{"RepoTags": ["example.org/a:1"]}, {"RepoTags": None}]}, "full name"),
        ({"index.json": {"manifests": [{"annotations": {REF: "example.org/a:1"}}]}}, None),
        ({"index.json": {"manifests": [{"annotations": {REF: "latest"}}]}}, "full name"),
        ({"index.json": {"manifests": [{}]}}, "full name"),
        ({"index.json": {"manifests": []}}, "full name"),
        ({"other.json": {}}, "neither index.json nor manifest.json"),
    ],
)
def test_an_image_without_a_full_name_is_not_loaded(tmp_path, files, complaint):
    path = tarred(tmp_path / "image.tar", **files)
    if complaint is None:
        image.check_named(path)
        return
    with pytest.raises(ClusterError, match=complaint):
        image.check_named(path)


def test_what_is_no_archive_is_not_loaded(tmp_path):
    (tmp_path / "image.tar").write_text("no tar")
    for path in (tmp_path / "image.tar", tmp_path / "absent.tar"):
        with pytest.raises(ClusterError, match="no readable archive"):
            image.check_named(path)


def test_slots_share_nothing():
    every = [slots.Slot(number) for number in range(8)]
    for name in ("range", "pods", "services", "host_ip", "node_ip", "link", "cgroup", "node"):
        assert len({getattr(slot, name) for slot in every}) == len(every), name
    assert all(len(slot.link) < 16 for slot in every)  # the kernel's limit


def test_a_slot_is_taken_once_and_free_again_when_its_holder_is_gone(monkeypatch, tmp_path):
    monkeypatch.setattr(slots, "_LOCKS", tmp_path)
    monkeypatch.setattr(slots, "_overlap", lambda slot: "10.0.0.0/8" if slot.number == 1 else None)
    with contextlib.ExitStack() as stack:
        taken = []
        for _ in range(7):
            slot, file = slots.take()
            stack.enter_context(file)
            taken.append(slot.number)
        assert taken == [0, 2, 3, 4, 5, 6, 7]
        with pytest.raises(ClusterError, match=r"10\.231\.0\.0/16 \(route 10\.0\.0\.0/8\)"):
            slots.take()
    slot, file = slots.take()
    file.close()
    assert slot.number == 0


@pytest.mark.parametrize(
    ("route", "collides"),
    [("10.0.0.0/8", True), ("10.230.7.1", True), ("10.231.0.0/16", False), ("default", False)],
)
def test_a_slot_keeps_away_from_routes_that_are_there(clean, route, collides):
    script(clean / "ip", f'echo \'[{{"dst": "{route}", "dev": "eth7"}}]\'')
    assert (slots._overlap(slots.Slot(0)) == route) is collides


def test_only_one_cluster_holds_a_directory_and_others_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "_CLAIM_SECONDS", 0.1)
    assert guard.holder(tmp_path) is None
    with guard.claim(tmp_path):
        assert guard.holder(tmp_path) == os.getpid()
        with pytest.raises(ClusterError, match=f"already up in {tmp_path}"):
            guard.claim(tmp_path)
    assert guard.holder(tmp_path) is None
    with (tmp_path / ".lock").open() as look:  # somebody who only looks is waited for
        fcntl.flock(look, fcntl.LOCK_SH)
        monkeypatch.setattr(guard, "_CLAIM_SECONDS", 10)
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(look, fcntl.LOCK_UN))
        guard.claim(tmp_path).close()


def test_what_a_dead_cluster_left_is_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "_LOCKS", tmp_path.parent)
    State(0, "k", "k", "r", "u", "p", {}).write(tmp_path)
    assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0
    assert "'p'" not in repr(State.read(tmp_path))
    with pytest.raises(ClusterError, match="no cluster is up"):
        LocalCluster.attach(tmp_path)
    (tmp_path / "logs").mkdir()
    assert down(tmp_path) is False
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "logs"]


def test_a_directory_that_the_node_could_not_see_is_refused(tmp_path):
    mounts.check(tmp_path)
    for parent in ("/run", "/proc", "/dev/shm"):
        with pytest.raises(ClusterError, match=f"got the work directory {parent}/x"):
            mounts.check(Path(parent) / "x")


def test_who_is_not_root_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match=r"needs root on Linux.*got user 1000") as refused:
        needs.meet()
    assert "TRAILGATE_E2E_KUBECONFIG" in str(refused.value)


def test_what_is_missing_is_named_where_there_is_no_apt(monkeypatch, clean):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "NEEDS", (needs.Need("containerd-is-missing", "containerd"),))
    monkeypatch.setenv("PATH", str(clean))
    with pytest.raises(ClusterError, match=r"missing: containerd-is-missing\. .*no apt-get"):
        needs.meet()


def test_what_is_missing_is_installed_and_a_failure_says_all(monkeypatch, clean, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "ensure", lambda names, say: {})
    monkeypatch.setattr(needs, "NEEDS", (needs.Need("the-program", "the-package"),))
    log = tmp_path / "apt.log"
    brings = f"printf '#!/bin/sh\\n' > {clean}/the-program; chmod +x {clean}/the-program"
    script(clean / "apt-get", f'echo "$@" >> {log}; [ "$1" = install ] && {{ {brings}; }}; exit 0')
    needs.meet(lambda _text: None)
    assert log.read_text().splitlines() == [
        "update -qq",
        "install -y -qq --no-install-recommends the-package",
    ]
    needs.meet(lambda _text: None)
    assert len(log.read_text().splitlines()) == 2  # nothing missing, nothing done
    (clean / "the-program").unlink()
    script(clean / "apt-get", "exit 0")
    with pytest.raises(ClusterError, match="still missing after apt-get: the-program"):
        needs.meet(lambda _text: None)
    script(clean / "apt-get", "echo no network >&2; exit 100")
    with pytest.raises(ClusterError, match=r"(?s)could not install the-package.*no network"):
        needs.meet(lambda _text: None)


SPEC = {
    "process": {"oomScoreAdj": -998, "args": ["/pause"]},
    "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}]},
    "mounts": [{"type": "proc"}, {"type": "mqueue"}],
}


@pytest.mark.parametrize(
    ("lacks", "namespaces", "kinds"),
    [
        (runtime.Lacks(ipc=True, mqueue=True), ["pid"], ["proc"]),
        (runtime.Lacks(ipc=False, mqueue=True), ["pid", "ipc"], ["proc"]),
    ],
)
def test_runc_is_spared_only_what_the_kernel_lacks(  # noqa: PLR0917
    clean, monkeypatch, tmp_path, lacks, namespaces, kinds
):
    log = tmp_path / "runc.log"
    runc = script(clean / "runc", f'echo "$@" >> {log}')
    monkeypatch.setattr(runtime, "probe", lambda: lacks)
    wrapper = runtime.install(tmp_path)
    assert wrapper != runc
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(SPEC))
    subprocess.run([wrapper, "--root", "/x", "state", "c1"], check=True)
    assert json.loads((bundle / "config.json").read_text()) == SPEC
    subprocess.run([wrapper, "--root", "/x", "create", "--bundle", bundle, "c1"], check=True)
    edited = json.loads((bundle / "config.json").read_text())
    assert [n["type"] for n in edited["linux"]["namespaces"]] == namespaces
    assert [m["type"] for m in edited["mounts"]] == kinds
    assert edited["process"] == SPEC["process"]
    assert log.read_text().splitlines() == [
        "--root /x state c1",
        f"--root /x create --bundle {bundle} c1",
    ]
    (bundle / "config.json").unlink()  # nothing runs that could not be edited
    failed = subprocess.run([wrapper, "create", "--bundle", bundle, "c2"], check=False)
    assert failed.returncode == 1
    assert len(log.read_text().splitlines()) == 2


def test_runc_is_left_alone_on_a_whole_kernel(clean, monkeypatch, tmp_path):
    runc = script(clean / "runc", "exit 0")
    monkeypatch.setattr(runtime, "probe", lambda: runtime.Lacks(ipc=False, mqueue=False))
    assert runtime.install(tmp_path) == runc


def test_the_registry_is_named_to_containerd_as_plain_http(tmp_path):
    settings.registry_host(tmp_path, "10.230.255.2:5000")
    text = (tmp_path / "certs.d" / "10.230.255.2:5000" / "hosts.toml").read_text()
    assert 'server = "http://10.230.255.2:5000"' in text


def test_afterwards_waits_for_the_process_and_then_runs_the_command(tmp_path):
    done = tmp_path / "done"
    watched = subprocess.Popen(["sleep", "60"])
    waiting = subprocess.Popen(
        [sys.executable, "-I", "-S", ROOT / "e2e/cluster/afterwards.py", str(watched.pid), "--",
         "touch", done]
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    assert not done.exists()
    watched.kill()
    watched.wait()
    assert waiting.wait(20) == 0
    assert done.exists()


def test_only_the_choice_of_a_provider_imports_the_local_node():
    allowed = {"e2e/cluster/provider.py", "e2e/cluster/__main__.py"}
    importing = {
        str(path.relative_to(ROOT))
        for directory in ("core", "kube", "operator", "webhook", "e2e")
        for path in (ROOT / directory).rglob("*.py")
        if "e2e.cluster.local" in path.read_text() and "e2e/cluster/local/" not in str(path)
    }
    assert importing == allowed


def test_a_link_that_the_kernel_removed_first_is_no_error(clean, tmp_path):
    once = tmp_path / "once"
    script(
        clean / "ip",
        f'case "$*" in *show*) [ -e {once} ] || echo tg-e2e-0@if2; touch {once} ;;\n'
        "*) echo Cannot find device >&2; exit 1 ;; esac",
    )
    network.remove(slots.Slot(0))
    script(clean / "ip", 'case "$*" in *show*) echo tg-e2e-0@if2 ;; *) exit 1 ;; esac')
    with pytest.raises(ClusterError, match="ip link delete tg-e2e-0"):
        network.remove(slots.Slot(0))
