from html.parser import HTMLParser

import pytest

from trailgate.report.html import Proof, page

PROOF = Proof("log.example/trail", 7, "log.example/trail\n7\nroot=\n\n— log.example/trail abc=\n")
LINES = [
    ("entry", "3"),
    ("what", "admitted"),
    ("change", "system:serviceaccount:ci:deployer created Deployment shop/web (standard)"),
    ("committed by", "alice (github:1001)"),
    ("approved by", "null, ConfigurationNotAttested"),
    ("image", "ghcr.io/acme/web@sha256:aa"),
    ("", "  checks: signature met"),
]


class Reading(HTMLParser):
    """What a browser would make of it: tags with attributes, and the text."""

    def __init__(self, document):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def read(lines=LINES):
    reading = Reading(page(3, lines, PROOF))
    return [tag for tag, _ in reading.tags], reading.tags, "".join(reading.text)


def test_everything_that_was_told_is_on_the_page():
    _, _, text = read()
    for name, value in LINES:
        assert name in text
        assert value in text
    assert PROOF.checkpoint in text


def test_the_auditors_questions_come_before_the_fingerprints():
    _, _, text = read([*LINES, ("change id", "sha256:cc")])
    assert text.index("committed by") < text.index("ghcr.io") < text.index("Fingerprints")
    assert text.index("Fingerprints") < text.index("sha256:cc")


def test_a_null_looks_like_one():
    _, tags, _ = read()
    assert [a for t, a in tags if t == "span" and a.get("class") == "null"] == [{"class": "null"}]


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</td></table></main><iframe src=https://evil.example>",
        "&lt;b&gt;",
    ],
)
def test_a_hostile_name_stays_text(hostile):
    names, _, text = read([*LINES, ("committed by", hostile), (hostile, "x")])
    assert not {"script", "img", "iframe", "b"} & set(names)
    assert names.count("table") == 2
    assert hostile in text


@pytest.mark.parametrize("code", [0x00, 0x1B, 0x7F, 0x202E, 0x200B, 0x2066])
def test_characters_that_hide_or_turn_are_shown(code):
    _, _, text = read([("committed by", f"ali{chr(code)}ce")])
    assert chr(code) not in text
    assert f"ali\\u{code:04x}ce" in text


def test_nothing_is_loaded_and_nothing_runs():
    names, tags, _ = read()
    policy = [a["content"] for t, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert not [a for _, a in tags if {"src", "href", "onclick"} & set(a)]
    assert "script" not in names


def test_it_can_be_read_by_everybody():
    names, tags, _ = read()
    assert ("html", {"lang": "en"}) in tags
    assert names.count("caption") == names.count("table")
    assert all(a.get("scope") == "row" for t, a in tags if t == "th")
    assert names.count("h1") == 1
