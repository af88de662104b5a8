from datetime import UTC, datetime

import pytest

from tests.core.evidence.samples import COMMIT
from trailgate.evidence import junit, testresult
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import TestResult, TestVerdict

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1"
 tests="4" time="2.5" timestamp="2026-11-23T12:00:00.5+02:00" hostname="ci">
<testcase classname="t" name="a" time="0.1"/>
<testcase classname="t" name="b"><failure message="no">assert 0</failure></testcase>
<testcase classname="t" name="c"><error message="no"/></testcase>
<testcase classname="t" name="d"><skipped message="later"/></testcase>
</testsuite></testsuites>"""


def counts(*documents: bytes) -> tuple:
    found = junit.read(documents, commit=COMMIT)
    return found.verdict.value, found.run, found.failed, found.skipped


def test_a_pytest_report_is_read():
    found = junit.read([PYTEST], commit=COMMIT, repository="https://a.b/c", url="https://ci/1")
    assert found == TestResult(
        verdict=TestVerdict.FAILED,
        commit=COMMIT,
        repository="https://a.b/c",
        run=3,
        failed=2,
        skipped=1,
        suites=("pytest",),
        started_at=datetime(2026, 11, 23, 10, 0, 0, 500_000, tzinfo=UTC),
        finished_at=datetime(2026, 11, 23, 10, 0, 3, tzinfo=UTC),
        junit=Digest.of(PYTEST),
        url="https://ci/1",
    )


def test_what_is_written_is_read_back():
    found = junit.read([PYTEST], commit=COMMIT, repository="https://a.b/c", url="https://ci/1")
    assert testresult.read(testresult.write(found), frozenset()) == found


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ('<testcase name="a"/>', ("PASSED", 1, 0, 0)),
        ('<testcase name="a"><system-out>x</system-out></testcase>', ("PASSED", 1, 0, 0)),
        ('<testcase name="a"><skipped/></testcase>', ("WARNED", 0, 0, 1)),
        ('<testcase name="a" status="notrun"/>', ("WARNED", 0, 0, 1)),
        ('<testcase name="a" status="disabled"/>', ("WARNED", 0, 0, 1)),
        ('<testcase name="a"><skipped/><failure/></testcase>', ("FAILED", 1, 1, 0)),
        ('<testcase name="a"><failure/><error/></testcase>', ("FAILED", 1, 1, 0)),
        ('<testsuite><testcase name="a"><error/></testcase></testsuite>', ("FAILED", 1, 1, 0)),
        ("", ("WARNED", 0, 0, 0)),
    ],
)
def test_cases_are_counted(inside, expected):
    assert counts(f"<testsuite>{inside}</testsuite>".encode()) == expected
    assert counts(f"<testsuites><testsuite>{inside}</testsuite></testsuites>".encode()) == expected


@pytest.mark.parametrize(
    "document",
    [
        b'<testsuite failures="2"><testcase name="a"><failure/></testcase></testsuite>',
        b'<testsuite failures="1" errors="1"><testcase name="a"><failure/></testcase></testsuite>',
        b'<testsuites errors="2"><testsuite><testcase><error/></testcase></testsuite></testsuites>',
    ],
)
def test_failures_that_only_the_totals_tell_of_are_believed(document):
    assert counts(document) == ("FAILED", 2, 2, 0)


def test_totals_that_are_no_numbers_are_not_counted():
    assert counts(b'<testsuite failures="many"><testcase name="a"/></testsuite>')[0] == "PASSED"


def test_several_files_are_one_result():
    passed = b'<testsuite name="unit" timestamp="2026-11-23T09:00:00Z"><testcase/></testsuite>'
    found = junit.read([PYTEST, passed], commit=COMMIT)
    assert (found.verdict, found.run, found.failed) == (TestVerdict.FAILED, 4, 2)
    assert found.suites == ("pytest", "unit")
    assert found.started_at == datetime(2026, 11, 23, 9, tzinfo=UTC)
    lines = sorted(f"{Digest.of(content)}\n" for content in (PYTEST, passed))
    assert found.junit == Digest.of("".join(lines).encode())
    assert junit.read([passed, PYTEST], commit=COMMIT).junit == found.junit


@pytest.mark.parametrize("stamp", ["2026-11-23T12:00:00", "yesterday", "", "9999-12-31T23:59:59Z"])
def test_times_are_not_guessed(stamp):
    document = f'<testsuite timestamp="{stamp}" time="1e9"><testcase/></testsuite>'.encode()
    found = junit.read([document], commit=COMMIT)
    assert (found.started_at, found.finished_at) == (None, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JUnit XML"),
        (b"12 passed in 0.1s", "not JUnit XML"),
        (b"{}", "not JUnit XML"),
        (b"<testsuite>", "not JUnit XML"),
        (b"\xff\xfe\x00", "not JUnit XML"),
        (b'<?xml version="1.0" encoding="no-such"?><testsuite/>', "not JUnit XML"),
        (b"<html/>", "<html>"),
        (b"<!DOCTYPE x><testsuite/>", "not JUnit XML"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><testsuite>&a;</testsuite>', "not JUnit XML"),
        (b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuite/>', "not JUnit"),
    ],
)
def test_what_is_no_junit_xml_is_refused(content, said):
    with pytest.raises(MalformedError, match=said):
        junit.read([content], commit=COMMIT)


def test_no_file_is_no_result():
    with pytest.raises(MalformedError):
        junit.read([], commit=COMMIT)


def test_names_of_suites_are_shown_to_people():
    found = junit.read(
        [b'<testsuite name="a&#x9;b&#x202e;c"><testcase/></testsuite>'], commit=COMMIT
    )
    assert found.suites == ("abc",)
