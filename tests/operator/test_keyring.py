"""Which step follows from what is there: every state, and every state that must be refused."""

import pytest

from trailgate.ledger import spoolkeys
from trailgate.tlog.note import SigningKey
from trailgate_operator import keyring
from trailgate_operator.keyring import (
    Create,
    KeyringError,
    LogState,
    MakeLedger,
    PutAside,
    Replace,
    log_key,
    log_step,
    spool_step,
)
from trailgate_operator.keyring_secret import Secret

ORIGIN = "trail.example/eu"


def pair():
    """A finished pair: (gate, recorder)."""
    recorder = spool_step(None, None).secret
    gate = spool_step(None, recorder).secret
    return gate, spool_step(gate, recorder).secret


def log(**annotations):
    key = SigningKey.generate(ORIGIN)
    data = {"log.key": key.encode().encode(), "log.vkey": str(key.verifier).encode()}
    return Secret(keyring.LOG, data).annotated(**annotations)


def vkey(secret):
    return str(log_key(secret).verifier)


def id_of(secret):
    return log_key(secret).verifier.id.hex()


def without(secret, *names):
    return Secret(secret.name, {k: v for k, v in secret.data.items() if k not in names})


def test_the_pair_is_made_in_three_steps_and_each_end_has_only_what_it_needs():
    first = spool_step(None, None)
    assert isinstance(first, Create)
    second = spool_step(None, first.secret)
    assert isinstance(second, Create)
    third = spool_step(second.secret, first.secret)
    assert isinstance(third, Replace)
    gate, recorder = second.secret, third.secret
    assert spool_step(gate, recorder) is None
    assert (gate.name, set(gate.data)) == (
        "trailgate-gate",
        {"gate.key", "recorder.pub", "review-token"},
    )
    assert (recorder.name, set(recorder.data)) == (
        "trailgate-recorder",
        {"recorder.key", "gate.pub"},
    )
    signs = spoolkeys.load_signing_key(gate.data["gate.key"]).public_key()
    assert spoolkeys.key_id(signs) == spoolkeys.key_id(
        spoolkeys.load_verifying_key(recorder.data["gate.pub"])
    )


def test_no_value_is_in_the_text_of_a_secret():
    gate, recorder = pair()
    for secret in (gate, recorder, log()):
        assert "PRIVATE" not in repr(secret)
        assert "data" not in repr(secret)
    assert "PRIVATE" not in repr(Create(log()))


def test_one_half_alone_is_refused():
    gate, recorder = pair()
    with pytest.raises(KeyringError, match="trailgate-gate is there, its other half trailgate-rec"):
        spool_step(gate, None)
    with pytest.raises(KeyringError, match="trailgate-recorder is there, its other half"):
        spool_step(None, recorder)


@pytest.mark.parametrize("missing", ["gate.key", "recorder.pub"])
def test_an_incomplete_gate_is_refused(missing):
    gate, recorder = pair()
    for broken in (without(gate, missing), Secret(gate.name, {**gate.data, missing: b""})):
        with pytest.raises(KeyringError, match=f"trailgate-gate: got no {missing}"):
            spool_step(broken, recorder)


@pytest.mark.parametrize("missing", ["recorder.key", "gate.pub"])
def test_an_incomplete_recorder_is_refused(missing):
    gate, recorder = pair()
    for other in (gate, None):
        with pytest.raises(KeyringError, match=f"trailgate-recorder: got no {missing}"):
            spool_step(other, without(recorder, missing))


@pytest.mark.parametrize("which", ["gate.key", "recorder.pub", "recorder.key", "gate.pub"])
def test_halves_of_different_pairs_are_refused(which):
    gate, recorder = pair()
    others = pair()
    data = {**others[0].data, **others[1].data}
    if which in gate.data:
        gate = Secret(gate.name, {**gate.data, which: data[which]})
    else:
        recorder = Secret(recorder.name, {**recorder.data, which: data[which]})
    with pytest.raises(KeyringError, match="not of one pair"):
        spool_step(gate, recorder)


@pytest.mark.parametrize("which", ["gate.key", "recorder.pub", "recorder.key", "gate.pub"])
def test_what_is_no_key_is_refused(which):
    gate, recorder = pair()
    name = gate.name if which in gate.data else recorder.name
    broken = [Secret(s.name, {k: b"x" if k == which else v for k, v in s.data.items()}) for s in (gate, recorder)]  # fmt: skip
    with pytest.raises(KeyringError, match=f"Secret {name}: got"):
        spool_step(*broken)


# The log


def state(secret=None, ledger=None, known=None):
    return LogState(secret, ledger, known)


def test_a_new_log_gets_its_key_then_its_ledger_then_the_mark_that_both_are_there():
    first = log_step(state(), ORIGIN)
    assert isinstance(first, Create)
    secret = first.secret
    assert log_key(secret).name == ORIGIN
    second = log_step(state(secret), ORIGIN)
    assert isinstance(second, MakeLedger)
    assert str(second.key.verifier) == vkey(secret)
    third = log_step(state(secret, vkey(secret)), ORIGIN)
    assert isinstance(third, Replace)
    assert keyring.LEDGER not in third.secret.annotations
    assert third.secret.data == secret.data
    assert log_step(state(third.secret, vkey(secret)), ORIGIN) is None
    assert log_step(state(third.secret, vkey(secret), id_of(secret)), "other.example") is None


AWAITED = {"ledger": "awaited"}
OTHER = log()

REFUSED = {
    "the ledger alone": state(None, vkey(OTHER)),
    "the checkpoint alone": state(None, None, id_of(OTHER)),
    "ledger and checkpoint": state(None, vkey(OTHER), id_of(OTHER)),
    "the key alone": state(log()),
    "key and checkpoint": state(log(), None, id_of(OTHER)),
    "another log's ledger": state(log(), vkey(OTHER)),
    "a new key and another log's ledger": state(log(**AWAITED), vkey(OTHER)),
    "a new key and another log's checkpoint": state(log(**AWAITED), None, id_of(OTHER)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_tells_of_an_earlier_log_is_refused_and_the_text_ends_it(name):
    """Following the text, one id at a time, leads to a new log; nothing of the old is lost."""
    at, given, aside, taken = REFUSED[name], None, [], []
    for _ in range(12):
        try:
            step = log_step(at, ORIGIN, given)
        except KeyringError as error:
            told, before_it = str(error), given
            given = told.rpartition("--new-ledger ")[2]
        else:
            told = before_it = None
        if told is not None:
            assert "Restore what is missing from a backup" in told
            assert given != before_it
            continue
        if step is None:
            break
        taken.append(type(step))
        if isinstance(step, Create | Replace):
            at = LogState(step.secret, at.ledger, at.known)
        elif isinstance(step, MakeLedger):
            assert at.ledger is None
            at = LogState(at.secret, str(step.key.verifier), at.known)
        else:
            assert step.id == given
            aside.append(step.what)
            at = LogState(at.secret, *((None, at.known) if step.what == "ledger" else (at.ledger, None)))  # fmt: skip
    assert given is not None
    assert vkey(at.secret) == at.ledger
    before = REFUSED[name]
    if before.secret is not None and id_of(before.secret) != id_of(at.secret):
        kept = at.secret.data[f"given-up-{id_of(before.secret)}.key"]
        assert kept == before.secret.data["log.key"]
    if before.ledger is not None:
        assert "ledger" in aside
    assert taken[-1] is Replace


@pytest.mark.parametrize("name", REFUSED)
def test_another_id_gives_nothing_up(name):
    with pytest.raises(KeyringError):
        log_step(REFUSED[name], ORIGIN, "00000000")


def test_a_whole_log_is_never_given_up():
    secret = log()
    assert log_step(state(secret, vkey(secret)), ORIGIN, id_of(secret)) is None
    new = log(**AWAITED)
    assert isinstance(log_step(state(new, vkey(new)), ORIGIN, id_of(new)), Replace)
    assert isinstance(log_step(state(new), ORIGIN, id_of(new)), MakeLedger)


def test_a_log_is_put_aside_before_its_key_is():
    secret = log()
    at = state(secret, None, id_of(secret))
    assert log_step(at, ORIGIN, id_of(secret)) == PutAside("known", id_of(secret))


@pytest.mark.parametrize("missing", ["log.key", "log.vkey"])
def test_an_incomplete_log_key_is_refused(missing):
    with pytest.raises(KeyringError, match=f"trailgate-log: got no {missing}"):
        log_step(state(without(log(), missing)), ORIGIN)


def test_a_log_key_of_another_vkey_and_what_is_no_key_are_refused():
    secret, other = log(), log()
    for data, text in (
        ({**secret.data, "log.vkey": other.data["log.vkey"]}, "log.vkey says"),
        ({**secret.data, "log.key": b"x"}, "got no signing key"),
        ({**secret.data, "log.vkey": b"\xff"}, "decode"),
    ):
        with pytest.raises(KeyringError, match=text) as refused:
            log_step(state(Secret(secret.name, data)), ORIGIN)
        assert secret.data["log.key"].decode() not in str(refused.value)
