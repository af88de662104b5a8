"""The keys of an installation: what each Secret must have, and which step makes what is missing.

Pure but for the randomness of new keys. Nothing that is there is ever thrown away: halves
that don't fit are an error that says what to do, and a log that is given up on purpose
keeps its key under another name.

Two Secrets can't be made in one step. So the first one made (the recorder's) holds both
private keys until the second one is there; whoever is killed in between leaves nothing
that can't be finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trailgate.ledger import spoolkeys
from trailgate.model.errors import MalformedError
from trailgate.tlog.errors import NoteError
from trailgate.tlog.note import SigningKey, VerifierKey
from trailgate_kube import reviewtoken
from trailgate_operator.keyring_secret import Secret, SecretError

GATE, RECORDER, LOG = "trailgate-gate", "trailgate-recorder", "trailgate-log"

GATE_KEY, GATE_PUB = "gate.key", "gate.pub"
REVIEW_TOKEN = "review-token"  # noqa: S105  a name
"""Of ``GATE``: the secret end of the gate's path. One made by an earlier release has none."""
RECORDER_KEY, RECORDER_PUB = "recorder.key", "recorder.pub"
LOG_KEY, LOG_VKEY = "log.key", "log.vkey"

LEDGER = "trailgate.dev/ledger"
"""Annotation of ``LOG``: ``AWAITED`` from when its key is new until its ledger is made."""
AWAITED = "awaited"


class KeyringError(SecretError):
    """The keys and the ledger that are there don't belong together; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make this Secret, which was not there."""

    secret: Secret


@dataclass(frozen=True, slots=True)
class Replace:
    """Replace this Secret as it was read."""

    secret: Secret


@dataclass(frozen=True, slots=True)
class MakeLedger:
    """Make an empty ledger for this key."""

    key: SigningKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class PutAside:
    """Rename what is left of a log that was given up, with its id: ``ledger`` or ``known``."""

    what: str
    id: str


Step = Create | Replace | MakeLedger | PutAside


def spool_step(gate: Secret | None, recorder: Secret | None) -> Create | Replace | None:
    """Return the next step towards a whole pair of spool Secrets; None when it is whole."""
    if recorder is None:
        if gate is not None:
            raise _half(GATE, RECORDER, "what is sealed in the spool can't be read without it")
        return Create(_new_recorder())
    _require(recorder, RECORDER_KEY, GATE_PUB)
    if gate is None:
        if GATE_KEY not in recorder.data:
            raise _half(RECORDER, GATE, "the gate can't sign without it")
        return Create(_gate_of(recorder))
    _require(gate, GATE_KEY, RECORDER_PUB)
    _require_fit(gate, recorder)
    if GATE_KEY in recorder.data:
        return Replace(recorder.with_(gate_key=None))
    if not gate.data.get(REVIEW_TOKEN):
        return Replace(replace(gate, data={**gate.data, REVIEW_TOKEN: _new_token()}))
    review_token(gate)
    return None


def review_token(gate: Secret) -> bytes:
    """Read the token, as a file has it (``SecretError``: none, or what is none)."""
    _require(gate, REVIEW_TOKEN)
    with _reading(gate):
        return f"{reviewtoken.parse(gate.data[REVIEW_TOKEN])}\n".encode()


def _new_token() -> bytes:
    return f"{reviewtoken.new()}\n".encode()


def _new_recorder() -> Secret:
    gate, recorder = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    return Secret(
        RECORDER,
        {
            RECORDER_KEY: spoolkeys.private_pem(recorder),
            GATE_PUB: spoolkeys.public_pem(gate.public_key()),
            GATE_KEY: spoolkeys.private_pem(gate),
        },
    )


def _gate_of(recorder: Secret) -> Secret:
    with _reading(recorder):
        gate = spoolkeys.load_signing_key(recorder.data[GATE_KEY])
        public = spoolkeys.load_unsealing_key(recorder.data[RECORDER_KEY]).public_key()
    return Secret(
        GATE,
        {
            GATE_KEY: spoolkeys.private_pem(gate),
            RECORDER_PUB: spoolkeys.public_pem(public),
            REVIEW_TOKEN: _new_token(),
        },
    )


def _require_fit(gate: Secret, recorder: Secret) -> None:
    with _reading(gate):
        signs = spoolkeys.load_signing_key(gate.data[GATE_KEY]).public_key()
        seals_to = spoolkeys.load_sealing_key(gate.data[RECORDER_PUB])
    with _reading(recorder):
        known = spoolkeys.load_verifying_key(recorder.data[GATE_PUB])
        unseals = spoolkeys.load_unsealing_key(recorder.data[RECORDER_KEY]).public_key()
    for what, got, expected in (
        (GATE_PUB, spoolkeys.key_id(known), spoolkeys.key_id(signs)),
        (RECORDER_PUB, spoolkeys.key_id(seals_to), spoolkeys.key_id(unseals)),
    ):
        if got != expected:
            raise KeyringError(
                f"Secrets {GATE} and {RECORDER} are not of one pair: {what} is {got}, its private "
                f"half belongs to {expected}; restore both from the same backup"
            )


@dataclass(frozen=True, slots=True)
class LogState:
    """What is there of a log: its Secret, its ledger, its checkpoint kept elsewhere."""

    secret: Secret | None
    ledger: str | None
    """The vkey that the ledger's file says it has; None where there is no file."""
    known: str | None
    """Id of the key that signed the known checkpoint; None where there is none."""


def log_key(secret: Secret) -> SigningKey:
    """Read the log's key (``SecretError``: missing, none, or not of its public half)."""
    _require(secret, LOG_KEY, LOG_VKEY)
    with _reading(secret):
        key = SigningKey.parse(secret.data[LOG_KEY].decode().strip())
        vkey = VerifierKey.parse(secret.data[LOG_VKEY].decode().strip())
    if key.verifier != vkey:
        raise KeyringError(
            f"Secret {LOG}: {LOG_KEY} is of {key.verifier}, {LOG_VKEY} says {vkey}; "
            "restore it from a backup"
        )
    return key


def log_step(state: LogState, origin: str, give_up: str | None = None) -> Step | None:
    """Return the next step towards a log whose key and ledger are there; None when they are.

    A new log begins only where nothing tells of an earlier one. ``give_up`` is the id (8 hex
    digits) of a log that is lost for good: what is left of it is put aside, step by
    step, and a new one begins. A log that is whole is never given up. ``KeyringError``.
    """
    key = None if state.secret is None else log_key(state.secret)
    if state.secret is None or key is None:
        if state.ledger is None and state.known is None:
            return Create(_new_log(origin))
        return _give_up(state, None, give_up)
    awaited = state.secret.annotations.get(LEDGER) == AWAITED
    if state.ledger == str(key.verifier):
        return Replace(state.secret.annotated(ledger=None)) if awaited else None
    if awaited and state.ledger is None and state.known is None:
        return MakeLedger(key)
    step = _give_up(state, key, give_up)
    if step is not None:
        return step
    return Replace(_anew(state.secret, key, origin))


def _give_up(state: LogState, key: SigningKey | None, give_up: str | None) -> PutAside | None:
    """Put aside what is left of the log that is given up; None: its key is next."""
    if give_up is not None:
        if state.ledger is not None and _id(state.ledger) == give_up:
            return PutAside("ledger", give_up)
        if state.known is not None and state.known == give_up:
            return PutAside("known", give_up)
        if key is not None and key.verifier.id.hex() == give_up and state.ledger is None:
            return None
    raise _apart(state, key)


def _apart(state: LogState, key: SigningKey | None) -> KeyringError:
    """Say what is there of which log, what isn't, and what to do."""
    parts = []
    if key is None:
        parts.append(f"Secret {LOG} is not there")
    else:
        parts.append(f"Secret {LOG} is of the log {key.verifier}")
    if state.ledger is None:
        parts.append("the ledger is not there")
    else:
        parts.append(f"the ledger is the log {state.ledger}")
    if state.known is not None and (key is None or state.ledger is None):
        parts.append(f"the known checkpoint is signed by the key {state.known}")
    if state.ledger is not None:
        lost = _id(state.ledger)
    else:
        lost = state.known or (key.verifier.id.hex() if key else "")
    return KeyringError(
        f"{', '.join(parts)}. Restore what is missing from a backup. Only if that is lost for "
        f"good, begin a new log, under a new key that auditors must be given: --new-ledger {lost}"
    )


def _new_log(origin: str) -> Secret:
    key = SigningKey.generate(origin)
    return Secret(LOG, _log_data(key), {LEDGER: AWAITED})


def _log_data(key: SigningKey) -> dict[str, bytes]:
    return {LOG_KEY: f"{key.encode()}\n".encode(), LOG_VKEY: f"{key.verifier}\n".encode()}


def _anew(secret: Secret, old: SigningKey, origin: str) -> Secret:
    """Give the Secret a new key; the old one stays beside it, under its id."""
    mark = old.verifier.id.hex()
    aside = {f"given-up-{mark}.{part}": secret.data[f"log.{part}"] for part in ("key", "vkey")}
    made = _new_log(origin)
    return Secret(
        LOG,
        {**secret.data, **aside, **made.data},
        {**secret.annotations, **made.annotations},
        secret.type,
        secret.read,
    )


def _id(vkey: str) -> str:
    return VerifierKey.parse(vkey).id.hex()


def _require(secret: Secret, *keys: str) -> None:
    missing = [key for key in keys if not secret.data.get(key)]
    if missing:
        raise KeyringError(
            f"Secret {secret.name}: got no {' and no '.join(missing)}; "
            "restore it from a backup (nothing was changed)"
        )


def _half(there: str, missing: str, why: str) -> KeyringError:
    return KeyringError(
        f"Secret {there} is there, its other half {missing} is not: {why}. Restore {missing} "
        f"from a backup; or, if it is lost for good and no Admission is left, delete {there}, "
        "so that both are made anew"
    )


@contextmanager
def _reading(secret: Secret) -> Iterator[None]:
    """Turn what the key parsers raise into an error that names the Secret."""
    try:
        yield
    except (MalformedError, NoteError, UnicodeDecodeError) as error:
        raise KeyringError(
            f"Secret {secret.name}: {error}; restore it from a backup (nothing was changed)"
        ) from error
