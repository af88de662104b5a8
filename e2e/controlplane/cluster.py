"""etcd and kube-apiserver (and kube-controller-manager where asked for) on loopback."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e2e.controlplane import kubeconfig
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.kubeconfig import User
from e2e.controlplane.pki import Authority

_KUBECTL_SECONDS = 60
_HTTP_SECONDS = 15
_CONFLICT = 409
_ESTABLISHED_SECONDS = 3.0
"""The server waits 2 s, by a clock that shows whole seconds."""


class ApiError(ControlPlaneError):
    """The API server said no: ``status`` is the HTTP status, ``body`` its Status object."""

    def __init__(self, method: str, path: str, status: int, body: Any) -> None:
        self.status = status
        self.body = body
        detail = body.get("message") if isinstance(body, dict) else body
        super().__init__(f"{method} {path}: {status} {detail}")


@dataclass
class Cluster:
    """A running API server, as its users see it."""

    directory: Path
    url: str
    authority: Authority = field(repr=False)
    admin: User
    kubectl_program: Path
    audit_log: Path | None = None

    def person(self, name: str, groups: Sequence[str] = ()) -> User:
        """Return a user with a client certificate (no rights until some are bound)."""
        pair = self.authority.client(name, groups)
        path = self._kubeconfig_path(name)
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        kubeconfig.write(path, self.url, self.authority.file, user)
        return User(name, path, pair.certificate, pair.key)

    def service_account(self, namespace: str, name: str, *, audience: str | None = None) -> User:
        """Return a service account with a fresh token, made with its namespace if need be."""
        self.namespace(namespace)
        self.create(
            f"/api/v1/namespaces/{namespace}/serviceaccounts",
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        )
        audiences = {"audiences": [audience]} if audience else {}
        answer = self.api(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": 7200, **audiences},
            },
        )
        token = str(answer["status"]["token"])
        full = f"system:serviceaccount:{namespace}:{name}"
        path = self._kubeconfig_path(full)
        kubeconfig.write(path, self.url, self.authority.file, {"token": token})
        return User(full, path, token=token)

    def namespace(self, name: str) -> None:
        """Make a namespace unless it is there."""
        self.create(
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        )

    def bind(self, user: User, role: str, namespace: str | None = None) -> None:
        """Bind a ClusterRole to a user, in one namespace or in the whole cluster."""
        subject: dict[str, str] = {"kind": "User", "name": user.name}
        subject["apiGroup"] = "rbac.authorization.k8s.io"
        kind = "RoleBinding" if namespace else "ClusterRoleBinding"
        where = f"/namespaces/{namespace}/rolebindings" if namespace else "/clusterrolebindings"
        name = f"{role}-{user.name}".replace(":", ".").lower()
        self.create(
            f"/apis/rbac.authorization.k8s.io/v1{where}",
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": name},
                "subjects": [subject],
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": role,
                },
            },
        )

    def kubectl(
        self,
        user: User,
        *arguments: str | Path,
        stdin: str | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl as ``user``; with ``check`` a failure raises."""
        command = [str(self.kubectl_program), "--kubeconfig", str(user.kubeconfig)]
        command += [f"--cache-dir={self._kubectl_cache}", *map(str, arguments)]
        clean = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
        done = subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=_KUBECTL_SECONDS,
            env={**clean, **(env or {})},
            check=False,
        )
        if check and done.returncode != 0:
            raise ControlPlaneError(
                f"kubectl {' '.join(map(str, arguments))} as {user.name}: "
                f"status {done.returncode}\n{done.stderr.strip()}"
            )
        return done

    def apply(self, *documents: Mapping[str, Any], user: User | None = None) -> str:
        """``kubectl apply`` plain objects as ``user`` (the administrator by default)."""
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        return self.kubectl(user or self.admin, "apply", "-f", "-", stdin=manifest).stdout

    def install_crds(self, *definitions: Mapping[str, Any]) -> None:
        """Apply CustomResourceDefinitions and wait until their objects can be created."""
        self.apply(*definitions)
        for definition in definitions:
            name = f"crd/{definition['metadata']['name']}"
            self.kubectl(self.admin, "wait", "--for=condition=Established", name, "--timeout=30s")
        youngest = max(self._established(definition) for definition in definitions)
        age = time.time() - youngest
        if age < _ESTABLISHED_SECONDS:  # until then the API server holds every create back
            time.sleep(_ESTABLISHED_SECONDS - age)
        shutil.rmtree(self._kubectl_cache, ignore_errors=True)  # it doesn't know the new kinds

    def _established(self, definition: Mapping[str, Any]) -> float:
        name = definition["metadata"]["name"]
        crd = self.api("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        for condition in crd["status"]["conditions"]:
            if condition["type"] == "Established":
                return datetime.fromisoformat(condition["lastTransitionTime"]).timestamp()
        return time.time()

    def create(self, path: str, body: Mapping[str, Any], *, user: User | None = None) -> None:
        """POST an object; one that is there already is left as it is."""
        try:
            self.api("POST", path, body, user=user)
        except ApiError as error:
            if error.status != _CONFLICT:
                raise

    def api(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        user: User | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """One request to the API server, decoded; raises ``ApiError`` on 4xx and 5xx."""
        who = user or self.admin
        context = ssl.create_default_context(cafile=str(self.authority.file))
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if who.certificate is not None:
            context.load_cert_chain(who.certificate, who.key)
        if who.token is not None:
            headers["Authorization"] = f"Bearer {who.token}"
        address = urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            str(address.hostname), address.port, context=context, timeout=_HTTP_SECONDS
        )
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text.decode(errors="replace")
        if response.status >= 400:
            raise ApiError(method, path, response.status, answer)
        return answer

    def ready(self) -> bool:
        """Whether the API server answers that it is ready."""
        try:
            return bool(self.api("GET", "/readyz") == "ok")
        except (OSError, ControlPlaneError):
            return False

    @property
    def _kubectl_cache(self) -> Path:
        return self.directory / "kubectl-cache"

    def _kubeconfig_path(self, user: str) -> Path:
        name = "".join(c if c.isalnum() or c in "-._" else "_" for c in user)
        return self.directory / "users" / f"{name}.kubeconfig"
