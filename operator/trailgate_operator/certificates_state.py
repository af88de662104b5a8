"""The webhook's certificates as they lie in two Secrets, read and written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography.x509 import Certificate

from trailgate_operator.authority import (
    Pair,
    PairError,
    bundle_pem,
    read_bundle,
    read_key,
)
from trailgate_operator.certificates_plan import Request
from trailgate_operator.keyring_secret import Secret

AUTHORITY, SERVING = "trailgate-authority", "trailgate-webhook-tls"
BUNDLE, ACTIVE_KEY, JOINING_KEY = "ca.crt", "ca.key", "next.key"
LEAF, LEAF_KEY = "tls.crt", "tls.key"
TLS = "kubernetes.io/tls"

ROTATE = "trailgate.dev/rotate"
"""Annotation of ``AUTHORITY``, set by hand: ``leaf`` or ``authority``."""
ROTATING = "trailgate.dev/rotating"
"""Annotation of ``AUTHORITY``: the request is under way."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Both Secrets as they were read."""

    authority: Secret | None
    serving: Secret | None

    def foreign(self) -> tuple[str, ...]:
        """Name those that somebody else made."""
        both = (self.authority, self.serving)
        return tuple(one.name for one in both if one is not None and not one.ours)

    def trusted(self) -> tuple[tuple[Certificate, ...], str | None]:
        """Return (the bundle, what is wrong with it)."""
        if self.authority is None:
            return (), None
        try:
            found = read_bundle(self.authority.data.get(BUNDLE, b""))
        except PairError as error:
            return (), f"Secret {AUTHORITY}: {BUNDLE}: {error}"
        return found, None if found else f"Secret {AUTHORITY}: got no {BUNDLE}"

    def signer(self, key: str, trusted: Iterable[Certificate]) -> tuple[Pair | None, str | None]:
        """Return (the trusted authority of this key, what is wrong with it)."""
        content = None if self.authority is None else self.authority.data.get(key)
        if content is None:
            missing = self.authority is not None and key == ACTIVE_KEY
            return None, f"Secret {AUTHORITY}: got no {key}" if missing else None
        try:
            private = read_key(content)
        except PairError as error:
            return None, f"Secret {AUTHORITY}: {key}: {error}"
        for one in trusted:
            try:
                return Pair(one, private).checked(), None
            except PairError:
                continue
        return None, f"Secret {AUTHORITY}: {key} is of no certificate in {BUNDLE}"

    def leaf(self) -> tuple[Pair | None, str | None]:
        """Return (what is served, what is wrong with it)."""
        if self.serving is None:
            return None, None
        data = self.serving.data
        try:
            return Pair.read(data.get(LEAF, b""), data.get(LEAF_KEY, b"")), None
        except PairError as error:
            return None, f"Secret {SERVING}: {error}"

    def asked(self) -> tuple[Request | None, str | None]:
        """Return (what is asked for, what is wrong with that)."""
        text = None if self.authority is None else self.authority.annotations.get(ROTATE)
        if text is None:
            return None, None
        try:
            return Request(text), None
        except ValueError:
            return None, (
                f"Secret {AUTHORITY}: annotation {ROTATE}: got {text!r}, expected leaf or authority"
            )

    def begun(self) -> bool:
        """Whether the request is under way."""
        return self.authority is not None and ROTATING in self.authority.annotations

    def written(self) -> datetime | None:
        """Say when one of them was last written, by the API server's clock."""
        made = [
            _moment((secret.read or {}).get("metadata", {}).get("creationTimestamp"))
            for secret in (self.authority, self.serving)
            if secret is not None
        ]
        changed = [touched(one) for one in (self.authority, self.serving) if one is not None]
        return max((moment for moment in (*made, *changed) if moment), default=None)

    def with_authority(
        self, trusted: Iterable[Certificate], active: Pair, joining: Pair | None
    ) -> Secret:
        """Return the authority's Secret with this content."""
        secret = self.authority or Secret(AUTHORITY, {})
        return secret.with_(
            ca_crt=bundle_pem(trusted),
            ca_key=active.key_pem,
            next_key=None if joining is None else joining.key_pem,
        )

    def with_leaf(self, leaf: Pair) -> Secret:
        """Return the webhook's Secret with this content."""
        secret = self.serving or Secret(SERVING, {}, type=TLS)
        return secret.with_(tls_crt=leaf.certificate_pem, tls_key=leaf.key_pem)


def touched(secret: Secret) -> datetime | None:
    """Say when a field of it was last written, by the API server's clock; None: it doesn't say."""
    entries = (secret.read or {}).get("metadata", {}).get("managedFields") or []
    moments = [_moment(entry.get("time")) for entry in entries]
    return max((moment for moment in moments if moment is not None), default=None)


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment
