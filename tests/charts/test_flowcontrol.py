"""The load that waits for a gate can't starve the gate: its writes have seats of their own."""

import base64
import http.server
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from e2e.controlplane.cluster import ApiError
from e2e.controlplane.start import ControlPlane, Options
from tests.charts.installing import Installation, eventually
from tests.charts.rendering import NAMESPACE, at
from tests.kube.batches import Chain
from trailgate_kube.resources import ADMISSIONS

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.slow, pytest.mark.timeout(120)]

SEATS = ["--max-requests-inflight=20", "--max-mutating-requests-inflight=10"]
CROWD = 80


class Slow(http.server.BaseHTTPRequestHandler):
    """Keeps every review, and so a seat of the API server's, until it is let go."""

    let_go: threading.Event

    def do_POST(self):
        self.let_go.wait(30)
        with suppress(OSError):
            self.send_error(503)

    def log_message(self, *_):
        pass


@contextmanager
def slow_webhook(plane):
    handler = type("Handler", (Slow,), {"let_go": threading.Event()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    pair = plane.authority.server("slow", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/", handler.let_go.set
    finally:
        handler.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()


def hook(plane, url):
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "slow"},
        "webhooks": [
            {
                "name": "slow.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "timeoutSeconds": 30,
                "failurePolicy": "Ignore",
                "clientConfig": {"url": url, "caBundle": base64.b64encode(plane.authority.pem).decode()},
                "rules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ],
            }
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """An API server with few seats."""
    options = Options(unsafe_no_fsync=True, apiserver_flags=SEATS)
    with ControlPlane.start(tmp_path_factory.mktemp("narrow"), options) as plane:
        yield Installation(plane, tmp_path_factory.mktemp("helm"))


class Rush:
    """A crowd whose requests all wait, and whoever else wants something meanwhile."""

    def __init__(self, plane):
        self.plane = plane
        self.crowd = plane.service_account("crowd", "crowd")
        self.other = plane.service_account("crowd", "other")
        self.gate = plane.service_account(NAMESPACE, "trailgate-webhook")
        for user in (self.crowd, self.other):
            plane.bind(user, "cluster-admin")
        self.over = threading.Event()

    def press(self):
        """Ask for what is never answered, again whenever one gives up."""
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "c-"}}
        while not self.over.is_set():
            with suppress(ApiError, OSError):
                self.plane.api("POST", "/api/v1/namespaces/crowd/configmaps", body, user=self.crowd)

    def ask(self, user, method, path, body=None, seconds=2.0):
        """Seconds until an answer; None when there was none in time."""
        started = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.plane.api, method, path, body, user=user)
            with suppress(TimeoutError):
                answer.result(seconds)
                return time.monotonic() - started
            with suppress(ApiError, OSError):  # 429 or cut off when it is over
                answer.result()
        return None

    def admit(self):
        batch = Chain().next()
        body = {
            "apiVersion": ADMISSIONS.api_version,
            "kind": ADMISSIONS.kind,
            "metadata": {"name": batch.name},
            "spec": batch.to_spec(),
        }
        return self.ask(self.gate, "POST", f"{ADMISSIONS.path(NAMESPACE)}?dryRun=All", body)


@pytest.mark.parametrize("enabled", [True, False], ids=["seats of its own", "as everybody"])
def test_the_gate_writes_while_nobody_else_gets_through(narrow, enabled):
    plane = narrow.plane
    arguments = ["--install", "--create-namespace"]
    narrow.upgrade("helm4", at("flowControl.enabled", enabled), arguments=arguments)
    try:
        with slow_webhook(plane) as (url, release):
            rush = Rush(plane)
            eventually(rush.admit)
            plane.apply(hook(plane, url))
            with ThreadPoolExecutor(CROWD) as pool:
                for _ in range(CROWD):
                    pool.submit(rush.press)
                try:
                    listing = "/api/v1/namespaces/crowd/secrets"
                    eventually(lambda: rush.ask(rush.other, "GET", listing, seconds=1.5) is None)
                    took = []
                    while len(took) < 5 and None not in took:
                        took.append(rush.admit())
                finally:
                    rush.over.set()
                    release()
            plane.api("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/slow")  # fmt: skip
        # As everybody it waits for a seat that comes free, and then gives up.
        assert (None in took) == (not enabled), took
    finally:
        narrow.sweep()
