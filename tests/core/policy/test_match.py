"""Patterns: anchored, host and path apart, wildcards within their bounds."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.policy import builders as b
from trailgate.model.image import ImageReference
from trailgate.policy import syntax
from trailgate.policy.match import Hosted, Names, Paths


def matches(pattern: str, image: str) -> bool:
    assert syntax.image_pattern(pattern) is None
    return Hosted.images([pattern]).match_image(ImageReference.parse(image))


@pytest.mark.parametrize(
    ("pattern", "image"),
    [
        ("ghcr.io/acme/web", "ghcr.io/acme/web"),
        ("ghcr.io/acme/web", f"ghcr.io/acme/web:v1@{b.DIGEST}"),
        ("ghcr.io/acme/*", "ghcr.io/acme/web"),
        ("ghcr.io/acme/w*b", "ghcr.io/acme/wb"),
        ("ghcr.io/*/web", "ghcr.io/acme/web"),
        ("ghcr.io/**", "ghcr.io/web"),
        ("ghcr.io/**", "ghcr.io/acme/a/b/web"),
        ("ghcr.io/acme/**/web", "ghcr.io/acme/a/b/web"),
        ("docker.io/library/*", "nginx"),
        ("docker.io/library/nginx", "index.docker.io/nginx:1"),
        ("docker.io/**", "acme/web"),
        ("127.0.0.1:5000/**", "127.0.0.1:5000/web"),
        ("localhost/web", "localhost/web"),
    ],
)
def test_these_match(pattern, image):
    assert matches(pattern, image)


@pytest.mark.parametrize(
    ("pattern", "image"),
    [
        ("ghcr.io/acme/web", "ghcr.io/acme/web2"),
        ("ghcr.io/acme/web", "ghcr.io/acme/web/evil"),
        ("ghcr.io/acme/web", "ghcr.io/evil/acme/web"),
        ("ghcr.io/acme/*", "ghcr.io/acme/a/b"),
        ("ghcr.io/acme/*", "ghcr.io/acme-evil/web"),
        ("ghcr.io/acme/**", "ghcr.io/acme"),
        ("ghcr.io/acme/**/web", "ghcr.io/acme/web"),
        ("ghcr.io/**", "evil.example/ghcr.io/acme/web"),
        ("ghcr.io/acme/web", "evil.example/ghcr.io/acme/web"),
        ("ghcr.io/acme/web", "ghcr.io.evil.example/acme/web"),
        ("ghcr.io/acme/web", "ghcrxio.example/acme/web"),
        ("ghcr.io/acme/web", "ghcr.io:443/acme/web"),
        ("docker.io/library/*", "acme/nginx"),
        ("127.0.0.1:5000/**", "127.0.0.1:5001/web"),
        ("ghcr.io/a.b/web", "ghcr.io/a-b/web"),
    ],
)
def test_these_do_not(pattern, image):
    assert not matches(pattern, image)


@pytest.mark.parametrize(
    ("pattern", "uri", "match"),
    [
        ("https://github.com/acme/web", "https://github.com/acme/web", True),
        ("https://github.com/acme/*", "https://github.com/acme/web", True),
        ("https://gitlab.example/acme/**", "https://gitlab.example/acme/a/b", True),
        ("https://github.com/acme/*", "https://github.com/acme/web/x", False),
        ("https://github.com/acme/*", "http://github.com/acme/web", False),
        ("https://github.com/acme/*", "https://evil.example/github.com/acme/web", False),
        ("https://github.com/acme/*", "https://github.com@evil.example/acme/web", False),
        ("https://github.com/acme/*", "https://GitHub.com/acme/web", False),
        ("https://github.com/acme/web", "https://github.com/Acme/web", False),
        ("https://github.com/acme/*", "github.com/acme/web", False),
        ("https://github.com/acme/*", "https://github.com", False),
    ],
)
def test_source_repositories(pattern, uri, match):
    assert syntax.repository_pattern(pattern) is None
    assert Hosted.repositories([pattern]).match_repository(uri) is match


@pytest.mark.parametrize(
    ("pattern", "name", "match"),
    [
        ("shop", "shop", True),
        ("shop", "shop2", False),
        ("shop", "my-shop", False),
        ("shop-*", "shop-eu", True),
        ("shop-*", "shop", False),
        ("*", "anything", True),
        ("team-?", "team-a", True),
        ("team-?", "team-ab", False),
        ("*-prod", "shop-prod", True),
        ("*-prod", "shop-prod-2", False),
        ("shop", "shop\n", False),
        ("shop*", "shop\n", True),
    ],
)
def test_namespaces(pattern, name, match):
    assert syntax.namespace_pattern(pattern) is None
    assert Names.compile([pattern]).match(name) is match


def test_several_patterns_match_as_any_of_them():
    names = Names.compile(["a-*", "b", "*-c"])
    assert [names.match(name) for name in ("a-x", "b", "x-c", "bx", "xa-x")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_namespace_that_is_no_text_is_covered():
    """Somebody's mistake must not switch a policy off."""
    assert b.policy(namespaces=["shop", "team-*"]).covers(None)


_part = st.text("ab*.-", min_size=1, max_size=6)
_path = st.lists(_part, min_size=1, max_size=4).map("/".join)


def reference(pattern: list[str], path: list[str]) -> bool:
    """Match segment by segment, in the slow and obvious way."""
    if not pattern or not path:
        return not pattern and not path
    head, *rest = pattern
    if head == "**":
        return any(reference(rest, path[taken:]) for taken in range(1, len(path) + 1))
    expression = "".join(".*" if char == "*" else re.escape(char) for char in head)
    return bool(re.fullmatch(expression, path[0])) and reference(rest, path[1:])


@given(_path, _path)
def test_patterns_match_as_their_segments_do(pattern, path):
    path = path.replace("*", "x")
    if any("**" in part and part != "**" for part in pattern.split("/")):
        return
    assert Paths.compile([pattern]).match(path) is reference(pattern.split("/"), path.split("/"))


def test_no_pattern_takes_long():
    pattern = "ghcr.io/" + "/".join(["*a*"] * 60)[:480].rsplit("/", 1)[0]
    assert syntax.image_pattern(pattern) is None
    image = ImageReference("ghcr.io", "/".join(["a" * 200] * 60)[:2000] + "!")
    start = time.perf_counter()
    assert not Hosted.images([pattern]).match_image(image)
    assert time.perf_counter() - start < 0.5
