"""Ask the gate the way the API server will: an AdmissionReview, over TLS, by the same address.

A dry run in our own namespace about an image that no registry has: decided at once,
recorded nowhere. Which way it is decided doesn't matter here, only that it is.
"""

from __future__ import annotations

import ipaddress
import ssl
import uuid
from typing import Any

import aiohttp
import orjson
from yarl import URL

from trailgate_kube import reviewtoken
from trailgate_kube.api import Reader
from trailgate_kube.resources import SERVICES
from trailgate_kube.webhooks import Address

_SECONDS = 5.0
_MOST_BYTES = 64 * 1024
_OK, _DENIED = 200, 403
_API = "admission.k8s.io/v1"


class SelfReview:
    """Asks; ``problem`` is None where a gate answered as one should."""

    def __init__(self, reader: Reader, address: Address, namespace: str) -> None:
        self._reader, self._address, self._namespace = reader, address, namespace

    async def problem(self, bundle: bytes) -> str | None:
        """Say why no gate answers whose certificate ``bundle`` (PEM) vouches for; None: one does.

        Raises ``KubeError`` where the Service can't be read.
        """
        wrong = await self._problem(bundle)
        # An error may quote the URL, and a stranger what it was asked.
        return None if wrong is None else reviewtoken.hidden(wrong)

    async def _problem(self, bundle: bytes) -> str | None:
        try:
            url, server_name = await self._where()
            context = _context(bundle)
        except ValueError as error:
            return str(error)
        uid = str(uuid.uuid4())
        connector = aiohttp.TCPConnector(force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.post(
                    url,
                    data=orjson.dumps(review(uid, self._namespace)),
                    headers={"Content-Type": "application/json"},
                    timeout=aiohttp.ClientTimeout(total=_SECONDS),
                    ssl=context,
                    server_hostname=server_name,
                    allow_redirects=False,
                ) as response,
            ):
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        return f"got an answer of more than {_MOST_BYTES} bytes"
                return judge(response.status, body, uid)
        except TimeoutError:
            return f"got no answer within {_SECONDS:.0f} s"
        except (aiohttp.ClientError, OSError) as error:
            return str(error) or type(error).__name__

    async def _where(self) -> tuple[URL, str | None]:
        """(URL to ask, name that its certificate must have: None is the URL's own)."""
        if self._address.url is not None:
            return URL(str(self._address.whole_url)).update_query(timeout=f"{_SECONDS:.0f}s"), None
        where = self._address
        service = await self._reader.get(SERVICES, where.name, where.namespace)
        address = ipaddress.ip_address(str(service.get("spec", {}).get("clusterIP")))
        host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004
        url = f"https://{host}:{where.port}{where.path}?timeout={_SECONDS:.0f}s"
        return URL(url), where.server_name


def _context(bundle: bytes) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=bundle.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError(f"got a bundle that is no PEM certificate: {error}") from error
    # As the API server (Go) verifies it: up to any certificate of the bundle, and the name.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def judge(status: int, body: bytes, uid: str) -> str | None:
    """Say what is wrong with an answer; None where it is one, and a decision."""
    if status != _OK:
        return f"got HTTP {status} ({body[:200].decode(errors='replace')}), expected 200"
    try:
        answer = orjson.loads(body)
        response = answer["response"]
        form = (answer["kind"], answer["apiVersion"], response["uid"])
        allowed, code = response["allowed"], (response.get("status") or {}).get("code")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "got an answer that is no AdmissionReview"
    if form != ("AdmissionReview", _API, uid):
        return "got an answer to something else, expected one with the review's uid"
    if allowed is True or (allowed is False and code == _DENIED):
        return None
    return f"got allowed {allowed!r} with code {code!r}, expected a decision"


def review(uid: str, namespace: str) -> dict[str, Any]:
    """Build the question whether a Deployment would be let in."""
    labels = {"app": "trailgate-self-review"}
    container = {"name": "nothing", "image": f"trailgate.invalid/nothing@sha256:{'0' * 64}"}
    metadata = {
        "name": labels["app"], "namespace": namespace, "uid": uid, "generation": 1,
    }  # fmt: skip
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    resource = {"group": "apps", "version": "v1", "resource": "deployments"}
    return {
        "apiVersion": _API,
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": labels["app"],
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": f"system:serviceaccount:{namespace}:trailgate-operator"},
            "object": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": metadata,
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [container]},
                    },
                },
            },
            "oldObject": None,
            "dryRun": True,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    }
