from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.assess.support import (
    IMAGE,
    LAPTOP,
    OTHER,
    FactsTwin,
    assessor,
    good,
    request,
    workload,
)
from tests.core.policy import builders
from trailgate.assess import explain
from trailgate.assess.images import DEPLOYMENT
from trailgate.model.decision import Check, CheckResult, Decision, Finding, ImageVerdict, Mode
from trailgate.model.digest import Digest
from trailgate.model.reason import Reason

ASKED = request(workload(DEPLOYMENT))
POLICY = builders.policy().reference


def finding(reason: Reason = Reason.SIGNATURE_MISSING, **changes) -> Finding:
    value = Finding(reason, "no signature", "one by release", policy="production", image=IMAGE)
    return replace(value, **changes)


def decision(*findings: Finding, images: int = 2) -> Decision:
    verdicts = (ImageVerdict((), None),) * images
    allowed = not any(f.mode is Mode.ENFORCE for f in findings)
    checks = dict.fromkeys(Check, CheckResult.NOT_REQUIRED)
    return Decision(allowed, findings, verdicts, checks, (POLICY,))


def test_the_form_of_a_denial_is_stable():
    denied = decision(
        finding(Reason.SIGNER_MISMATCH, got="key sha256:91db", expected='"release" (key sha256:5f)')
    )
    assert explain.message(ASKED, denied) == (
        'trailgate: Deployment shop/web denied by DeployPolicy "production" (1 of 2 images) '
        "[7c0e1a2b]\n"
        f"- {IMAGE}: SignerMismatch\n"
        "    got      key sha256:91db\n"
        '    expected "release" (key sha256:5f)\n'
        f"  try: trailgate verify {IMAGE} --policy production.yaml\n"
        "  see: https://trailgate.dev/reasons/SignerMismatch"
    )


def test_what_is_allowed_needs_no_explanation():
    assert explain.message(ASKED, decision()) == ""
    assert explain.message(ASKED, decision(finding(mode=Mode.AUDIT))) == ""


def test_findings_that_did_not_deny_are_not_in_the_denial():
    text = explain.message(
        ASKED, decision(finding(), finding(Reason.TESTS_FAILED, image=OTHER, mode=Mode.WARN))
    )
    assert "TestsFailed" not in text
    assert OTHER not in text


def test_every_failing_image_has_one_first_code_and_the_others_named():
    text = explain.message(
        ASKED,
        decision(
            finding(),
            finding(Reason.TESTS_MISSING),
            finding(Reason.TESTS_MISSING),
            finding(Reason.DIGEST_REQUIRED, image="ghcr.io/acme/web:v1"),
        ),
    )
    assert f"- {IMAGE}: SignatureMissing (and TestsMissing)\n" in text
    assert "- ghcr.io/acme/web:v1: DigestRequired\n" in text
    assert "(2 of 2 images)" in text


def test_a_finding_about_the_request_names_no_image():
    text = explain.message(ASKED, decision(finding(Reason.CALLER_NOT_ALLOWED, image=None)))
    assert "- request: CallerNotAllowed\n" in text
    assert "images)" not in text
    assert "try:" not in text


def test_retryable_is_said_in_the_first_line():
    denied = decision(finding(Reason.EVIDENCE_UNAVAILABLE))
    assert explain.first_line(ASKED, denied).endswith(", retryable [7c0e1a2b]")
    assert "retryable" not in explain.first_line(ASKED, decision(finding()))
    flagged = decision(finding(Reason.OWNER_UNVERIFIED, retryable=True))
    assert "retryable" in explain.first_line(ASKED, flagged)


def test_a_moved_tag_is_told():
    moved = Digest("c" * 64)
    text = explain.message(ASKED, decision(finding(moved_to=moved)))
    assert f"    the tag now names {moved}\n" in text


def test_several_policies_are_named_and_counted():
    found = [finding(policy=name) for name in ("a", "b", "c", "d", "e")]
    line = explain.first_line(ASKED, decision(*found))
    assert 'DeployPolicy "a", "b", "c" and 2 more' in line


def test_without_a_policy_none_is_named():
    text = explain.message(ASKED, decision(finding(Reason.INTERNAL, policy=None, image=None)))
    assert text.startswith("trailgate: Deployment shop/web denied, retryable [7c0e1a2b]\n")


def test_an_image_that_is_not_safe_to_paste_is_not_in_the_command():
    text = explain.message(ASKED, decision(finding(image="x; rm -rf /")))
    assert "try:" not in text
    assert "- x; rm -rf /: SignatureMissing" in text


def test_what_does_not_fit_is_counted():
    found = [
        finding(image=f"ghcr.io/acme/service-{n}@{builders.DIGEST}", got="x" * 400)
        for n in range(32)
    ]
    text = explain.message(ASKED, decision(*found, images=32))
    lines = text.splitlines()
    assert len(text) <= explain.MAX_MESSAGE
    shown = [line for line in lines if line.startswith("- ghcr.io")]
    assert shown
    assert f"- and {32 - len(shown)} more" in lines
    assert "(32 of 32 images)" in lines[0]


def test_detail_goes_before_images_do():
    found = [finding(image=f"ghcr.io/acme/s{n}@{builders.DIGEST}", got="x" * 200) for n in range(6)]
    text = explain.message(ASKED, decision(*found, images=6))
    assert len([line for line in text.splitlines() if line.startswith("- ghcr.io")]) == 6
    assert "more" not in text


hostile = st.text(max_size=400) | st.sampled_from(
    [
        "\x1b[2J\x1b[31m",
        "a\r\nHTTP/1.1 200 OK",
        "\u202egnp.exe",
        "\\n",
        "\x00",
        "…" * 300,
        "\U0001f600" * 90,
    ]
)


@given(
    st.lists(st.tuples(hostile, hostile, hostile, hostile), min_size=1, max_size=40),
    hostile,
)
def test_whatever_a_spec_contains_the_denial_is_short_plain_ascii(rows, name):
    found = [
        finding(image=image, got=got, expected=expected, policy=policy)
        for image, got, expected, policy in rows
    ]
    asked = replace(ASKED, name=name, namespace=name, uid=name)
    text = explain.message(asked, decision(*found, images=len(found)))
    assert 0 < len(text) <= explain.MAX_MESSAGE
    assert all(" " <= char <= "~" or char == "\n" for char in text)
    assert text.startswith("trailgate: Deployment ")
    first = text.splitlines()[0]
    assert " denied by DeployPolicy " in first


@given(st.lists(st.tuples(hostile, hostile), min_size=1, max_size=40))
def test_whatever_a_spec_contains_warnings_are_few_short_plain_lines(rows):
    found = [finding(image=image, policy=policy, mode=Mode.WARN) for image, policy in rows]
    lines = explain.warnings(decision(*found))
    assert 0 < len(lines) <= explain.MAX_WARNINGS
    assert all(len(line) <= explain.MAX_WARNING for line in lines)
    assert all(" " <= char <= "~" for line in lines for char in line)


def test_warn_warns_and_audit_does_not():
    assert explain.warnings(decision(finding(mode=Mode.AUDIT))) == ()
    assert explain.warnings(decision(finding())) == ()
    (line,) = explain.warnings(decision(finding(mode=Mode.WARN), finding(mode=Mode.WARN)))
    assert line == (
        "trailgate: SignatureMissing (production): ghcr.io/acme/web@sha256:aaaaaaaaaaaa..."
    )


def test_more_warnings_than_are_shown_are_counted():
    found = [finding(image=f"ghcr.io/a/b{n}", mode=Mode.WARN) for n in range(20)]
    lines = explain.warnings(decision(*found))
    assert len(lines) == 8
    assert lines[-1] == "trailgate: and 13 more warnings"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb", r"a\nb"),
        ("\x1b[0m", r"\x1b[0m"),
        ("\u202e", r"\u202e"),
        ("sha256:…", "sha256:..."),
        ("back\\slash", "back\\\\slash"),
        ("x" * 20, "xxxxxxx..."),
    ],
)
def test_one_line_of_ascii(text, shown):
    assert explain.ascii_line(text, 10 if text.startswith("xx") else 40) == shown


async def test_no_personal_data_but_the_callers_own_name_is_in_a_denial():
    found = await assessor(facts=FactsTwin({IMAGE: good()})).assess(
        request(workload(DEPLOYMENT), caller=LAPTOP)
    )
    assert "alice" not in found.message
    assert "bob" not in found.message
