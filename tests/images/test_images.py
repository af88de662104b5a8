"""What a cluster admin relies on: the images run as a strict pod, and hold only what they should."""

import json
import signal
import ssl
import stat
import subprocess
import tarfile
import time
import tomllib
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

import pytest

import trailgate
from e2e.controlplane import kubeconfig, ports
from e2e.controlplane.pki import Authority
from e2e.images import build
from e2e.images.archive import Archive
from e2e.images.context import Source
from e2e.images.inside import MOUNT
from tests.webhook.conftest import review
from tests.webhook.world import policy

ROOT = Path(__file__).parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
EXPECTED = {
    "webhook": {"trailgate", "trailgate-webhook"},
    "operator": {name for name in SCRIPTS if not name.startswith("trailgate-webhook")},
}
IMPORT_ALL = """
import importlib, pkgutil, pathlib, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
for name, module in sorted(sys.modules.items()):
    spec = getattr(module, "__spec__", None)
    if spec and spec.origin and spec.origin.endswith(".py"):
        if not pathlib.Path(spec.cached).exists():
            print("uncompiled", name)
        if not spec.origin.startswith(("/opt/trailgate/", "/usr/")):
            print("from elsewhere", name)
print("imported", len(sys.modules))
"""


def layers(image):
    """Yield the entries of each layer, lowest first."""
    with Archive(image.built.archive) as archive:
        for entry in archive.manifest()[1]["layers"]:
            with tarfile.open(fileobj=BytesIO(archive.blob(entry["digest"]))) as layer:
                yield layer.getmembers()


def test_the_same_inputs_give_the_same_digest(images, tmp_path):
    again = build(tmp_path, lambda _: None, fresh=True)
    for name, image in images.items():
        assert again[name].digest == image.built.digest
        assert again[name].archive.read_bytes() == image.built.archive.read_bytes()


def test_the_entry_point_is_the_component(image):
    (entry,) = image.unpacked.config["Entrypoint"]
    done = image.run(entry, "--version")
    expected = f"trailgate-{image.name}, version {trailgate.__version__}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_nothing_but_what_is_mounted_can_be_written(image, owned):
    owned(image.mounted)
    code = "import os, sys; open(sys.argv[1], 'w').close(); print(os.getuid(), os.getgid())"
    for place in ("/tmp", "/var/tmp", "/opt/trailgate", "/"):
        done = image.run("python3", "-c", code, f"{place}/x")
        assert done.returncode != 0
        assert "Read-only file system" in done.stderr, done.stderr
    done = image.run("python3", "-c", code, f"{MOUNT}/x")
    assert (done.returncode, done.stdout) == (0, "65532 65532\n")


def test_every_module_can_be_imported_and_none_has_to_be_compiled(image):
    """Also those that are imported late: what is missing must not show on a Sunday."""
    packages = ["trailgate", "trailgate_kube", f"trailgate_{image.name}"]
    done = image.run("python3", "-c", IMPORT_ALL, *packages)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("imported ")] == []
    assert int(lines[-1].split()[1]) > 300


def test_each_of_its_commands_runs_and_no_other_is_there(image):
    commands = {path.name for path in image.unpacked.rootfs.glob("opt/trailgate/bin/*")}
    commands = {name for name in commands if not name.startswith("python")}
    assert commands == EXPECTED[image.name]
    for name in commands:
        done = image.run(name, "--help")
        assert (done.returncode, done.stderr) == (0, ""), name
        assert done.stdout.startswith("Usage: ")


def test_nothing_that_builds_or_installs_is_left(image):
    for name in ("pip", "setuptools", "hatchling", "editables", "wheel", "pytest", "mypy"):
        assert not (image.site / name).exists()
        done = image.run("python3", "-c", f"import {name}")
        assert "ModuleNotFoundError" in done.stderr
    for name in ("pip", "gcc", "cc", "make", "curl", "wget"):
        assert not list(image.unpacked.rootfs.glob(f"usr/*bin/{name}"))


def test_it_holds_what_is_pinned_and_nothing_else(image):
    pinned = (ROOT / "requirements" / f"{image.name}.txt").read_text()
    wanted = {line.split(" ")[0] for line in pinned.splitlines() if line[:1].isalnum()}
    installed = {path.name for path in image.site.glob("*.dist-info")}
    names = {name.removesuffix(".dist-info").replace("_", "-").lower() for name in installed}
    expected = {pin.replace("==", "-").lower() for pin in wanted}
    assert names - expected == {f"trailgate-{trailgate.__version__}"}
    assert expected - names == set()


def test_every_record_tells_what_is_there(image):
    """A scanner that holds packages against their records finds no difference."""
    for record in image.site.glob("*.dist-info/RECORD"):
        for line in record.read_text().splitlines():
            path = line.rsplit(",", 2)[0].strip('"')
            assert (image.site / path).exists(), f"{record.parent.name}: {path}"


def test_the_checkout_is_a_layer_of_its_own_above_the_requirements(image):
    _, lower, upper = layers(image)
    below, above = ({member.name for member in layer} for layer in (lower, upper))
    ours = {name for name in above if "site-packages/" in name}
    assert ours
    assert all("site-packages/trailgate" in name for name in ours)
    assert not [name for name in below if "site-packages/trailgate" in name]
    assert any("site-packages/aiohttp/" in name for name in below)


def test_no_entry_is_writable_privileged_or_dated_by_the_build(image):
    epoch = Source.read().epoch
    for layer in list(layers(image))[1:]:
        for member in layer:
            assert (member.uid, member.gid) == (0, 0), member.name
            assert not member.mode & (stat.S_ISUID | stat.S_ISGID), member.name
            assert member.issym() or not member.mode & 0o022, member.name
            assert member.mtime in (epoch, 315_532_800), member.name
            assert member.name.split("/")[0] in ("", "opt"), member.name


def test_the_builders_settings_stay_with_the_builder(image):
    text = repr(image.unpacked.config)
    assert "PIP_" not in text
    assert "/run/secrets" not in text
    assert not (image.unpacked.rootfs / "etc" / "pip.conf").exists()
    for path in image.site.glob("*.dist-info/direct_url.json"):
        raise AssertionError(f"{path} names where a package came from")
    for pyc in image.site.glob("trailgate/**/*.pyc"):
        content = pyc.read_bytes()
        assert b"/layers/" not in content
        assert b"/opt/trailgate/lib/" in content
        assert int.from_bytes(content[4:8], "little") == 1, "bytecode that a time would void"


def test_it_says_what_it_is(image):
    config = image.unpacked.config
    labels = {k.rpartition(".")[2]: v for k, v in config["Labels"].items() if "opencontainers" in k}
    assert labels.pop("description").startswith("Trailgate's ")
    assert labels == {
        "title": f"trailgate-{image.name}",
        "licenses": "Apache-2.0",
        "version": trailgate.__version__,
        "revision": Source.read().revision,
    }
    assert config["User"] == "65532:65532"
    assert not config.get("Cmd")
    assert image.built.reference == f"localhost/trailgate-{image.name}:e2e"


def test_what_it_adds_stays_small(image):
    assert image.built.added < 32 << 20
    assert image.built.unpacked < 160 << 20


class Running:
    """A process of an image; ended with SIGTERM, as a kubelet does."""

    def __init__(self, image, *arguments):
        self.log = image.mounted.with_suffix(".log")
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                image.words(*arguments),
                env=image.unpacked.environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def answers(self, url, status):
        """Wait until this is the answer."""
        end = time.monotonic() + 40
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    found = answer.status
            except urllib.error.HTTPError as error:
                with error:
                    found = error.code
            except OSError:
                found = None
            if found == status:
                return
            time.sleep(0.1)
        raise AssertionError(f"{url}: got {found}, expected {status}\n{self.log.read_text()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def start():
    running = []

    def begin(*arguments):
        running.append(Running(*arguments))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def succeed(image, *arguments):
    done = image.run(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def keys(image):
    for name in ("gate", "recorder"):
        succeed(image, "trailgate", "key", "generate", "--for", name, "--out", MOUNT / name)


def ask(port, authority, document):
    """Send a review as the API server does."""
    request = urllib.request.Request(
        f"https://127.0.0.1:{port}/validate?timeout=10s",
        json.dumps(document).encode(),
        {"Content-Type": "application/json"},
    )
    trusted = ssl.create_default_context(cafile=authority.file)
    with urllib.request.urlopen(request, timeout=15, context=trusted) as answer:
        return json.load(answer)["response"]


def test_the_webhook_decides(images, owned, start):
    image = images["webhook"]
    here, (port, reviews) = image.mounted, ports.free(2)
    authority = Authority(here.with_name("authority"))
    pair = authority.server("webhook", ["127.0.0.1"])
    (here / "tls.crt").write_bytes(pair.certificate.read_bytes())
    (here / "tls.key").write_bytes(pair.key.read_bytes())
    for name in ("policies", "spool"):
        (here / name).mkdir()
    (here / "policies" / "policies.yaml").write_text(json.dumps(policy()))
    owned(here)
    keys(image)
    server = start(
        image, *image.unpacked.config["Entrypoint"], "--listen", f"127.0.0.1:{reviews}",
        "--health-listen", f"127.0.0.1:{port}", "--tls-cert", MOUNT / "tls.crt",
        "--tls-key", MOUNT / "tls.key", "--gate-key", MOUNT / "gate.key",
        "--recorder-public-key", MOUNT / "recorder.pub", "--policy-dir", MOUNT / "policies",
        "--spool-dir", MOUNT / "spool", "--cluster-uid", "6b0f4f0e", "--drain-delay", "0",
    )  # fmt: skip
    server.answers(f"http://127.0.0.1:{port}/livez", 200)
    server.answers(f"http://127.0.0.1:{port}/readyz", 200)
    server.answers(f"http://127.0.0.1:{port}/metrics", 200)
    response = ask(reviews, authority, review("create-deployment-laptop", namespace="guarded"))
    assert not response["allowed"]
    assert "denied by DeployPolicy" in response["status"]["message"]
    assert server.stop() == 0, server.log.read_text()


def test_the_operator_records(images, owned, start):
    """Without a cluster it waits for one; the ledger is made and opened all the same."""
    image = images["operator"]
    here, (port, nobody) = image.mounted, ports.free(2)
    authority = Authority(here.with_name("authority")).file
    (here / "ca.crt").write_bytes(authority.read_bytes())
    server = f"https://127.0.0.1:{nobody}"
    kubeconfig.write(here / "kubeconfig", server, MOUNT / "ca.crt", {"token": "none"})
    owned(here)
    keys(image)
    ledger = ("--ledger", f"sqlite:{MOUNT}/ledger.db")
    succeed(image, "trailgate", "ledger", "init", *ledger, "--origin", "images.example/test",
            "--key", MOUNT / "log.key")  # fmt: skip
    operator = start(
        image, *image.unpacked.config["Entrypoint"], *ledger, "--log-key", MOUNT / "log.key",
        "--recorder-key", MOUNT / "recorder.key", "--gate-public-key", MOUNT / "gate.pub",
        "--kubeconfig", MOUNT / "kubeconfig", "--health-listen", f"127.0.0.1:{port}",
    )  # fmt: skip
    operator.answers(f"http://127.0.0.1:{port}/livez", 200)
    operator.answers(f"http://127.0.0.1:{port}/readyz", 503)
    assert operator.stop() == 0, operator.log.read_text()
    assert (here / "ledger.db").stat().st_uid == 65532
