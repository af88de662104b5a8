"""Docker's config.json, as people and pull secrets have it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference
from trailgate.oci.credentials import (
    Anonymous,
    DockerConfig,
    load_docker_config,
)


def _config(auths: dict[str, object], **more: object) -> DockerConfig:
    return DockerConfig.parse(json.dumps({"auths": auths, **more}).encode(), "origin")


def _login(name: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:pw:{name}".encode()).decode()}


@pytest.mark.parametrize(
    ("key", "image", "found"),
    [
        ("ghcr.io", "ghcr.io/acme/web", True),
        ("https://ghcr.io", "ghcr.io/acme/web", True),
        ("https://ghcr.io/", "ghcr.io/acme/web", True),
        ("http://ghcr.io/v2/", "ghcr.io/acme/web", True),
        ("GHCR.io", "ghcr.io/acme/web", True),
        ("ghcr.io", "ghcr.io:443/acme/web", False),
        ("ghcr.io:443", "ghcr.io:443/acme/web", True),
        ("127.0.0.1:5000", "127.0.0.1:5000/web", True),
        ("ghcr.io/acme", "ghcr.io/acme/web", True),
        ("ghcr.io/acme/web", "ghcr.io/acme/web", True),
        ("ghcr.io/acme", "ghcr.io/acmex/web", False),
        ("ghcr.io/acme/web", "ghcr.io/acme/webx", False),
        ("ghcr.io/acme/web", "ghcr.io/acme", False),
        ("*.example.com", "a.example.com/web", True),
        ("*.example.com", "a.b.example.com/web", False),
        ("*.example.com", "example.com/web", False),
        ("https://index.docker.io/v1/", "nginx", True),
        ("docker.io", "nginx", True),
        ("registry-1.docker.io", "nginx", True),
        ("docker.io/library", "nginx", True),
        ("docker.io/acme", "nginx", False),
        ("evil.io", "ghcr.io/evil.io", False),
    ],
)
def test_which_entry_covers_which_image(key: str, image: str, *, found: bool) -> None:
    config = _config({key: _login("robot")})
    assert (config.find(ImageReference.parse(image)) is not None) is found


def test_the_longest_path_wins_whatever_the_order() -> None:
    keys = ["ghcr.io", "ghcr.io/acme/web", "*.io", "ghcr.io/acme"]
    for ordered in (keys, keys[::-1]):
        config = _config({key: _login(key.replace("*", "star")) for key in ordered})
        users = [
            found.username
            for name in ("acme/web", "acme/web/x", "acme/api", "other/x")
            if (found := config.find(ImageReference("ghcr.io", name)))
        ]
        assert users == ["ghcr.io/acme/web", "ghcr.io/acme/web", "ghcr.io/acme", "ghcr.io"]
        quay = config.find(ImageReference("quay.io", "x"))
        assert quay is not None
        assert quay.username == "star.io"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (_login("u"), ("u", "pw:u", "", "")),
        ({"username": "u", "password": "p"}, ("u", "p", "", "")),
        ({**_login("u"), "username": "x", "password": "y"}, ("u", "pw:u", "", "")),
        ({**_login("u"), "identitytoken": "i"}, ("u", "pw:u", "i", "")),
        ({"identitytoken": "i"}, ("", "", "i", "")),
        ({"registrytoken": "r"}, ("", "", "", "r")),
        (
            {"auth": base64.b64encode(b"<token>:i").decode()},
            ("", "", "i", ""),
        ),
        ({"username": "<token>", "password": "i"}, ("", "", "i", "")),
        ({**_login("u"), "email": "a@b"}, ("u", "pw:u", "", "")),
    ],
)
def test_forms_of_an_entry(entry: dict[str, str], expected: tuple[str, ...]) -> None:
    found = _config({"ghcr.io": entry}).find(ImageReference("ghcr.io", "x"))
    assert found is not None
    assert (
        found.username,
        found.password,
        found.identity_token,
        found.registry_token,
    ) == expected
    assert found.source == "origin entry ghcr.io"


def test_an_empty_entry_counts_as_none() -> None:
    """As credential helpers leave them behind."""
    config = _config({"ghcr.io": {}}, credsStore="desktop")
    assert config.find(ImageReference("ghcr.io", "x")) is None
    assert config.describe() == "origin (its credential helpers are not run)"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json: hunter2",
        b"[]",
        b'{"auths":[]}',
        b'{"auths":{"ghcr.io":"hunter2"}}',
        b'{"auths":{"ghcr.io":{"auth":"hunter2"}}}',
        b'{"auths":{"ghcr.io":{"auth":"aHVudGVyMg=="}}}',
        b'{"auths":{"ghcr.io":{"auth":"/////w=="}}}',
        b'{"auths":{"ghcr.io":{"password":["hunter2"]}}}',
        b'{"auths":' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_broken_file_is_named_not_quoted(content: bytes) -> None:
    with pytest.raises(MalformedError, match="origin") as caught:
        DockerConfig.parse(content, "origin")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        DockerConfig.parse(content, "origin")
    except MalformedError:
        return


def test_without_auths_there_is_nothing() -> None:
    config = DockerConfig.parse(b'{"HttpHeaders":{}}', "origin")
    assert config.find(ImageReference("ghcr.io", "x")) is None


def test_the_command_line_reads_docker_s_file(tmp_path: Path) -> None:
    content = json.dumps({"auths": {"ghcr.io": _login("home")}})
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(content)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(content.replace("ghcr.io", "quay.io"))
    home = load_docker_config({}, tmp_path)
    assert home.find(ImageReference("ghcr.io", "x")) is not None
    named = load_docker_config({"DOCKER_CONFIG": str(other)}, tmp_path)
    assert named.find(ImageReference("ghcr.io", "x")) is None
    assert named.find(ImageReference("quay.io", "x")) is not None
    assert named.describe() == str(other / "config.json")


def test_no_file_is_no_error_but_an_unreadable_one_is(tmp_path: Path) -> None:
    assert load_docker_config({}, tmp_path) == Anonymous()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(MalformedError, match=r"config\.json"):
        load_docker_config({"DOCKER_CONFIG": str(tmp_path)}, tmp_path)
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "config.json").write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(MalformedError, match="at most"):
        load_docker_config({"DOCKER_CONFIG": str(tmp_path / "large")}, tmp_path)
