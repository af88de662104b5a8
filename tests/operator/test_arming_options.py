"""What ``--arm`` is told, and which loops that makes."""

from dataclasses import replace

import pytest

from tests.core.ledger import example_records as ex
from trailgate_kube.memory import MemoryKube
from trailgate_kube.webhooks import Address
from trailgate_operator.arming_overlap import FileAuthorities
from trailgate_operator.assemble import Given, loops
from trailgate_operator.configuration import OPERATOR, ConfigurationError, gate_address
from trailgate_operator.metrics import Metrics
from trailgate_operator.probes import Health


@pytest.mark.parametrize(
    ("service", "url", "address"),
    [
        (None, None, Address("ours", "trailgate-webhook", 443)),
        ("there/gate:8443", None, Address("there", "gate", 8443)),
        (None, "https://gate:1/validate", Address("ours", url="https://gate:1/validate")),
    ],
)
def test_where_the_gate_is(service, url, address):
    assert gate_address(service, url, "ours") == address


@pytest.mark.parametrize(
    ("service", "url"),
    [
        ("gate:443", None),
        ("ours/gate", None),
        ("ours/gate:0", None),
        ("ours/gate:65536", None),
        ("ours/Gate:443", None),
        ("a/b/c:443", None),
        (None, "http://gate/validate"),
        ("ours/gate:443", "https://gate/validate"),
    ],
)
def test_anything_else_is_no_gate(service, url):
    with pytest.raises(ConfigurationError):
        gate_address(service, url, "ours")


def test_arming_needs_to_know_whose_certificate_the_gate_has(place):
    with pytest.raises(ConfigurationError, match="--webhook-ca"):
        place.configuration(arm=True).check()
    place.configuration(arm=True, webhook_ca=place.directory / "ca.crt").check()
    place.configuration(arm=True, certificates=OPERATOR).check()


@pytest.mark.parametrize("name", ["", "A", "a.b", "-a", "a" * 64, "a,b"])
def test_an_exempt_namespace_is_one(place, name):
    with pytest.raises(ConfigurationError, match="--exempt-namespace"):
        place.configuration(exempt=("registry", name)).check()


def given():
    async def tell(_statements):
        return frozenset()

    return Given(MemoryKube(), tell, ex.CONTEXT, Metrics(), Health())


def test_without_arm_there_are_none(place):
    assert loops(place.configuration(), given()) == ()


async def test_which_loops_there_are(place):
    armed = place.configuration(arm=True, webhook_ca=place.directory / "ca.crt")
    with_files = [loop.name for loop in loops(armed, given())]
    issuing = [loop.name for loop in loops(replace(armed, certificates=OPERATOR), given())]
    assert with_files[:2] == ["policies", "arming"]
    assert issuing[:3] == ["certificates", "policies", "arming"]


def test_what_it_is_told_is_part_of_the_recorded_configuration(place):
    plain = place.configuration()
    keys = plain.keys()

    def digest(configuration):
        return configuration.context("uid", keys).gate.configuration

    seen = {digest(plain)}
    armed = replace(plain, arm=True, webhook_ca=place.known)
    for other in (
        armed,
        replace(armed, certificates=OPERATOR),
        replace(armed, exempt=("a",)),
        replace(armed, webhook=Address("else")),
        replace(armed, webhook=Address(url="https://a/b")),
    ):
        assert digest(other) not in seen
        seen.add(digest(other))


def test_a_file_without_a_certificate_is_no_authority(tmp_path):
    """An empty ``caBundle`` means the system's roots, not nobody."""
    path = tmp_path / "ca.crt"
    assert FileAuthorities(path).bundle() is None
    path.write_bytes(b"")
    assert FileAuthorities(path).bundle() is None
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    assert FileAuthorities(path).bundle() == b"-----BEGIN CERTIFICATE-----\n"
