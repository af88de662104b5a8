"""Start a control plane, own its processes, stop them."""

from __future__ import annotations

import contextlib
import http.client
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.controlplane import kubeconfig, ports
from e2e.controlplane.binaries import CONTROL_PLANE, ensure
from e2e.controlplane.cluster import ApiError, Cluster
from e2e.controlplane.errors import PortTakenError, StartError
from e2e.controlplane.kubeconfig import User
from e2e.controlplane.pki import Authority, Pair, service_account_keys
from e2e.controlplane.process import Process

_READY_SECONDS = 90.0
_PORT_TRIES = 5
_SERVICE_RANGE = "10.96.0.0/16"
_FIRST_SERVICE_IP = "10.96.0.1"


@dataclass(frozen=True, slots=True)
class Options:
    """How to run it."""

    controllers: bool = False
    """Start kube-controller-manager too (roles aggregate, owners get children, quotas count)."""
    unsafe_no_fsync: bool = False
    """etcd without fsync: for tests, never for a benchmark."""
    audit: bool = False
    """Write the API server's audit log (metadata of every request)."""
    apiserver_flags: Sequence[str] = ()
    hosts: Sequence[str] = ()
    """More names and addresses that the API server's certificate is good for."""


@dataclass
class ControlPlane(Cluster):
    """A cluster whose processes are ours."""

    options: Options = field(default_factory=Options)
    processes: dict[str, Process] = field(default_factory=dict)
    programs: Mapping[str, Path] = field(default_factory=dict)
    _apiserver_command: Sequence[str] = ()

    @classmethod
    def start(cls, directory: Path, options: Options | None = None) -> ControlPlane:
        """Bring it up in an empty directory; raises ``ControlPlaneError``."""
        options = options or Options()
        names = [*CONTROL_PLANE, *(["kube-controller-manager"] if options.controllers else [])]
        programs = ensure(names)
        directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _PORT_TRIES + 1):
            try:
                return cls._start_once(directory.absolute(), options, programs)
            except PortTakenError:
                if attempt == _PORT_TRIES:
                    raise
        raise AssertionError("unreachable")

    @classmethod
    def _start_once(
        cls, directory: Path, options: Options, programs: Mapping[str, Path]
    ) -> ControlPlane:
        etcd_port, peer_port, api_port = ports.free(3)
        for left in ("etcd", "pki"):
            shutil.rmtree(directory / left, ignore_errors=True)
        authority = Authority(directory / "pki")
        accounts = service_account_keys(directory / "pki")
        url = f"https://127.0.0.1:{api_port}"
        admin = _admin(directory, authority, url)
        audit_log = directory / "audit.log" if options.audit else None
        plane = cls(
            directory, url, authority, admin, programs["kubectl"], audit_log, options,
            programs=programs,
        )  # fmt: skip
        plane._apiserver_command = _apiserver(plane, api_port, etcd_port, accounts)
        try:
            plane._start_etcd(etcd_port, peer_port)
            plane.start_apiserver()
            if options.controllers:
                plane._start_controllers(accounts)
        except BaseException:
            plane.stop()
            raise
        return plane

    def _start_etcd(self, port: int, peer: int) -> None:
        client_url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
        command = [
            str(self.programs["etcd"]),
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--log-level=warn",
        ]
        if self.options.unsafe_no_fsync:
            command.append("--unsafe-no-fsync")
        self._run("etcd", command, lambda: _http_ok(port, "/health"))

    def start_apiserver(self) -> None:
        """Start the API server (again, after ``stop_apiserver``) and wait until it is ready."""
        self._run("kube-apiserver", self._apiserver_command, self.ready)

    def stop_apiserver(self, *, kill: bool = False) -> None:
        """Stop the API server, or kill it with -9; its data stays in etcd."""
        process = self.processes.pop("kube-apiserver")
        if kill:
            process.kill()
        else:
            process.stop(30)

    def _start_controllers(self, accounts: Pair) -> None:
        user = self.person("system:kube-controller-manager")
        (port,) = ports.free(1)
        self._run(
            "kube-controller-manager",
            [
                str(self.programs["kube-controller-manager"]),
                f"--kubeconfig={user.kubeconfig}",
                f"--authentication-kubeconfig={user.kubeconfig}",
                f"--authorization-kubeconfig={user.kubeconfig}",
                f"--service-account-private-key-file={accounts.key}",
                f"--root-ca-file={self.authority.file}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={self.directory / 'pki' / 'kcm'}",
                "--leader-elect=false",
                # Or all built-in controllers share one identity.
                "--use-service-account-credentials=true",
            ],
            self._controllers_ready,
        )

    def _controllers_ready(self) -> bool:
        """Whether roles are aggregated and the default service account is there."""
        try:
            edit = self.api("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/edit")
            self.api("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        except OSError:
            return False
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        return bool(edit.get("rules"))

    def _run(self, name: str, command: Sequence[str], probe: Callable[[], bool]) -> None:
        process = Process.start(name, command, self.directory / "logs" / f"{name}.log")
        self.processes[name] = process
        process.wait_ready(probe, _READY_SECONDS)

    def stop(self) -> None:
        """Stop everything, in the order that loses nothing."""
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            process = self.processes.pop(name, None)
            if process is not None:
                with contextlib.suppress(StartError):
                    process.stop(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _admin(directory: Path, authority: Authority, url: str) -> User:
    pair = authority.client("admin", ["system:masters"])
    path = directory / "admin.kubeconfig"
    user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    kubeconfig.write(path, url, authority.file, user)
    return User("admin", path, pair.certificate, pair.key)


def _apiserver(plane: ControlPlane, port: int, etcd_port: int, accounts: Pair) -> list[str]:
    hosts = ["127.0.0.1", "localhost", "kubernetes.default.svc", _FIRST_SERVICE_IP]
    hosts += plane.options.hosts
    serving = plane.authority.server("kube-apiserver", hosts)
    command = [
        str(plane.programs["kube-apiserver"]),
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={plane.authority.file}",
        f"--service-account-key-file={accounts.certificate}",
        f"--service-account-signing-key-file={accounts.key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={_SERVICE_RANGE}",
        # No node will ever reach it, and a loopback address is refused as an endpoint.
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        "--shutdown-delay-duration=0s",
    ]
    if not plane.options.controllers:
        # Nobody makes the default service accounts that this plugin asks for.
        command.append("--disable-admission-plugins=ServiceAccount")
    if plane.audit_log is not None:
        policy = plane.directory / "audit-policy.yaml"
        policy.write_text(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n"
            "rules: [{level: Metadata}]\n"
        )
        command += [f"--audit-policy-file={policy}", f"--audit-log-path={plane.audit_log}"]
    return [*command, *plane.options.apiserver_flags]


def _http_ok(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
