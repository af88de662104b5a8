"""Images in a registry in memory, really signed, and a policy that trusts the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.core.evidence.samples import CHANGE, COMMIT, PROVENANCE, TESTS
from tests.core.oci.support import Place, push_image
from trailgate.evidence import change, keys, provenance, sign, testresult
from trailgate.evidence.keys import PrivateKey
from trailgate.model.digest import Digest
from trailgate.model.evidence import EvidenceFormat
from trailgate.model.image import ImageReference
from trailgate.oci.memory import MemoryRegistry
from trailgate.oci.registry import Descriptor, Manifest
from trailgate.policy.parse import parse_policy

HOST = "registry.example"
KINDS = ("signature", "provenance", "tests", "change")


@cache
def key(name: str) -> PrivateKey:
    return keys.generate()


def pem(name: str) -> str:
    public = load_der_public_key(key(name).public.der)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()


def signers(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "key": pem(name)} for name in names]


@dataclass
class World:
    """A registry whose answers can be held back or refused."""

    memory: MemoryRegistry = field(default_factory=MemoryRegistry)
    hold: asyncio.Event | None = None
    calls: int = 0
    failures: list[Exception] = field(default_factory=list)
    """Raised one after the other, before anything else."""
    commit: str = COMMIT

    async def image(self, name: str = "web", *said: str, by: str = "build") -> ImageReference:
        """Push an image and attach what is ``said`` of it."""
        place = Place(self.memory, HOST, f"acme/{name}", referrers=True)
        image = await push_image(place, "v1")
        for what in said:
            await self.say(image, what, by=by)
        return image

    async def say(self, image: ImageReference, what: str, *, by: str = "build") -> None:
        predicates: dict[str, Any] = {
            "provenance": (provenance.TYPE, PROVENANCE),
            "tests": (testresult.TYPE, TESTS),
            "change": (change.TYPE, CHANGE | {"resourceUri": str(image)}),
        }
        if what == "signature":
            signed = sign.signature(image, key(by), EvidenceFormat.BUNDLE)
        else:
            kind, predicate = predicates[what]
            signed = sign.attestation(image, kind, predicate, key(by), EvidenceFormat.BUNDLE)
        await self.memory.attach(image, signed.content, signed.predicate_type)

    async def _pass(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        if self.hold is not None:
            await self.hold.wait()

    async def resolve(self, image: ImageReference) -> Digest:
        await self._pass()
        return await self.memory.resolve(image)

    async def manifest(self, image: ImageReference) -> Manifest:
        await self._pass()
        return await self.memory.manifest(image)

    async def blob(self, image: ImageReference, digest: Digest, limit: int) -> bytes:
        await self._pass()
        return await self.memory.blob(image, digest, limit)

    async def referrers(self, image: ImageReference) -> tuple[Descriptor, ...]:
        await self._pass()
        return await self.memory.referrers(image)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def policy(
    name: str = "production",
    *,
    ask: Sequence[str] = ("signature",),
    by: str = "build",
    mode: str = "Enforce",
    **changes: Any,
) -> Any:
    statements: dict[str, Any] = {
        "signature": {"signers": signers(by)},
        "provenance": {"signers": signers(by)},
        "tests": {"signers": signers(by)},
    }
    rule: dict[str, Any] = {"name": "all", "images": [f"{HOST}/acme/*"]}
    rule |= {what: statements[what] for what in ask}
    if "provenance" in ask:
        rule["source"] = {"repositories": ["https://github.com/acme/web"]}
    spec = {"mode": mode, "namespaces": ["shop"], "rules": [rule], **changes}
    document = {
        "apiVersion": "trailgate.dev/v1alpha1",
        "kind": "DeployPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }
    return parse_policy(document)
