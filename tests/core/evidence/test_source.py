import pytest

from trailgate.evidence import source
from trailgate.model.errors import MalformedError


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/acme/web",
        "https://github.com/acme/web.git",
        "https://github.com/acme/web/",
        "https://github.com/acme/web.git/",
        "git+https://github.com/acme/web",
        "https://GitHub.COM/acme/web",
        "https://github.com:443/acme/web",
        "https://github.com./acme/web",
        "ssh://git@github.com/acme/web.git",
        "ssh://git@github.com:2222/acme/web",
        "git@github.com:acme/web.git",
    ],
)
def test_one_repository_has_one_name(text):
    assert source.normalise(text) == "https://github.com/acme/web"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://github.com/acme/Web", "https://github.com/acme/Web"),
        ("https://git.example:8443/a/b/c", "https://git.example:8443/a/b/c"),
        ("https://github.com/acme/web.github.io", "https://github.com/acme/web.github.io"),
        ("http://git.example:80/a", "https://git.example/a"),
        ("https://[::1]:8443/a", "https://[::1]:8443/a"),
    ],
)
def test_what_is_different_stays_different(text, expected):
    assert source.normalise(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme/web",
        "github.com/acme/web",
        "https://github.com",
        "https://github.com/",
        "https://github.com/.git",
        "https://github.com/../web",
        "https://github.com/acme/./web",
        "https://github.com/acme//web",
        "https://github.com/acme/web?x=1",
        "https://github.com/acme/web#x",
        "https://github.com/acme/%77eb",
        "https://github.com/acme/we b",
        "https://github.com/acme/web\n",
        "https://token@github.com/acme/web",
        "https://user:pw@github.com/acme/web",
        "ssh://git:pw@github.com/acme/web",
        "file:///srv/git/web",
        "ext::sh -c touch% /tmp/x",
        "https://gith\u0443b.com/acme/web",
        "https://github.com/" + "a" * 2000,
    ],
)
def test_what_is_no_repository_is_refused(text):
    with pytest.raises(MalformedError):
        source.normalise(text)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("git+https://a.b/c@refs/heads/main", ("https://a.b/c", "refs/heads/main")),
        ("git+https://a.b/c/d.git@v1@x", ("https://a.b/c/d", "v1@x")),
        ("git+https://a.b/c", ("https://a.b/c", None)),
        ("git+https://a.b/c@", ("https://a.b/c", None)),
        ("ssh://git@a.b/c@main", ("https://a.b/c", "main")),
        ("git@a.b:c", ("https://a.b/c", None)),
    ],
)
def test_a_source_uri_is_split(uri, expected):
    assert source.split(uri) == expected
