"""The token: long, made of what a path of the configuration takes, and quoted nowhere."""

import pytest

from trailgate.model.errors import MalformedError
from trailgate_kube import reviewtoken
from trailgate_kube.webhooks import Address, FailClosed, configuration

TOKEN = "0123456789abcdef" * 4


def test_each_one_is_new_and_has_256_bits_that_a_path_takes():
    made = {reviewtoken.new() for _ in range(100)}
    assert len(made) == 100
    for one in made:
        assert (len(one), int(one, 16).bit_length() <= 256) == (64, True)
        assert reviewtoken.parse(f"{one}\n".encode()) == one


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", TOKEN[:-1].encode(), TOKEN.encode() + b"0", TOKEN.upper().encode(), b"\xff" * 64,
     TOKEN[:-1].encode() + b"/", TOKEN[:-1].encode() + b"g", f"{TOKEN}\n{TOKEN}".encode()],
)  # fmt: skip
def test_anything_else_is_none_and_not_quoted(content):
    with pytest.raises(MalformedError, match="expected 64 lowercase hexadecimal") as error:
        reviewtoken.parse(content)
    assert TOKEN[:16] not in str(error.value).lower()


def test_it_is_taken_out_of_a_text_and_a_digest_is_not():
    text = f'Post "https://gate.svc:443/validate/{TOKEN}?timeout=10s": refused; a@sha256:{TOKEN}'
    assert reviewtoken.hidden(text) == (
        f'Post "https://gate.svc:443/validate/…?timeout=10s": refused; a@sha256:{TOKEN}'
    )


@pytest.mark.parametrize(
    ("address", "client"),
    [
        (Address(token=TOKEN), ("path", f"/validate/{TOKEN}")),
        (Address(), ("path", "/validate")),
        (Address(url="https://g/validate", token=TOKEN), ("url", f"https://g/validate/{TOKEN}")),
        (Address(url="https://g/validate/", token=TOKEN), ("url", f"https://g/validate/{TOKEN}")),
        (Address(url="https://g/validate"), ("url", "https://g/validate")),
    ],
)
def test_every_entry_of_the_configuration_has_it_in_its_path(address, client):
    built = configuration(address, b"PEM", FailClosed.of(["shop"]), "uid")
    name, value = client
    for entry in built["webhooks"]:
        where = entry["clientConfig"]
        assert where.get("service", where)[name] == value


def test_no_address_shows_it():
    assert TOKEN not in repr(Address(token=TOKEN))
