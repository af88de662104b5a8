"""What the ledger says of Disarms: those whose end it has nothing of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.core.ledger import example_records as ex
from tests.operator.test_arming_options import given
from trailgate.ledger.memory import MemoryStore
from trailgate.ledger.people import Vault
from trailgate.ledger.record import DisarmState, commit, disarm, encode
from trailgate.ledger.store import Entry
from trailgate.tlog.note import SigningKey
from trailgate_kube.memory import MemoryKube
from trailgate_operator.arming_trail import Words
from trailgate_operator.assemble import Trail, loops
from trailgate_operator.disarming import Disarms
from trailgate_operator.disarming_past import KnownDisarms
from trailgate_operator.observer_past import Past

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=1)


class Ledger:
    """What the operator has told before."""

    def __init__(self):
        self.store = MemoryStore(SigningKey.generate("log.example/disarms"))

    def add(self, state, uid="u", ticket="INC-7", until=UNTIL):
        claim = disarm(
            ex.CONTEXT, NOW, state, name=f"name-{uid}", uid=uid, until=until, reason="broken",
            ticket=ticket,
        )  # fmt: skip
        record, rows = commit(claim, Vault(), recorded_at=NOW, position=None)
        entry = Entry(encode(record), f"disarm/{uid}/{state.value}", rows)
        self.store.submit([entry]).result()

    @property
    def known(self):
        known = KnownDisarms(self.store.disclosures_of)
        records = list(self.store.records())
        assert list(known.noting(records)) == records
        return known


@pytest.fixture
def ledger():
    return Ledger()


def test_one_that_was_accepted_is_in_effect_until_its_end_is_told(ledger):
    ledger.add(DisarmState.ACCEPTED)
    ledger.add(DisarmState.ACCEPTED, "other", ticket=None)
    ledger.add(DisarmState.REFUSED, "refused", until=None)
    first, second = ledger.known.in_effect()
    assert (first.name, first.uid, first.until) == ("name-u", "u", UNTIL)
    assert (first.reason, first.ticket) == ("broken", "INC-7")
    assert (second.uid, second.ticket) == ("other", None)
    ledger.add(DisarmState.DELETED)
    ledger.add(DisarmState.EXPIRED, "other")
    assert ledger.known.in_effect() == ()


def test_what_was_erased_says_so_and_keeps_nothing_untold(ledger):
    ledger.add(DisarmState.ACCEPTED)
    known = ledger.known
    known.rows = lambda _index: {}
    (one,) = known.in_effect()
    assert (one.reason, one.ticket) == ("(erased)", "(erased)")


def test_other_records_are_passed_by(ledger):
    content = b'{"kind":"gap","detail":{"kind":"disarm"}}'
    known = KnownDisarms()
    assert list(known.noting([content])) == [content]
    assert known.in_effect() == ()


@pytest.mark.parametrize(
    ("later", "state"), [(timedelta(minutes=1), "deleted"), (timedelta(hours=1), "expired")]
)
async def test_one_that_is_gone_after_a_restart_is_told_once(ledger, later, state):
    ledger.add(DisarmState.ACCEPTED)
    now = NOW + later
    disarms = Disarms(
        MemoryKube(), Words(ex.CONTEXT, lambda: now), lambda: now, ledger.known.in_effect()
    )
    standing = await disarms.read()
    (told,) = disarms.news(standing)
    assert (told.key, told.claim["state"]) == (f"disarm/u/{state}", state)
    disarms.told(standing)
    assert disarms.news(standing) == []


async def test_the_operator_hands_them_to_arming(ledger, place):
    ledger.add(DisarmState.ACCEPTED)
    trail = Trail(Past("uid"), lambda: None, lambda _: None, disarms=ledger.known)
    armed = place.configuration(arm=True, webhook_ca=place.directory / "ca.crt")
    arming = next(one for one in loops(armed, replace(given(), trail=trail)) if one.name == "arming")  # fmt: skip
    (told,) = arming._disarms.news(await arming._disarms.read())
    assert told.claim["name"] == "name-u"
