"""The statements on the page are statements."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.core.evidence.samples import IMAGE, KEY, check, judge, only
from trailgate.evidence import changefile, simplesigning
from trailgate.model.artifact import Artifact
from trailgate.model.digest import Digest
from trailgate.model.evidence import EvidenceFormat, Statement, StatementKind

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "statements.md").read_text()
SHOWN = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
STATEMENTS = [value for value in SHOWN if "_type" in value]


@pytest.mark.parametrize("value", STATEMENTS, ids=lambda value: value["predicateType"])
def test_every_statement_of_the_page_verifies(value):
    assert isinstance(judge(value), Statement), judge(value)


def test_every_kind_is_on_the_page():
    assert {judge(value).kind for value in STATEMENTS} == set(StatementKind)


def test_the_payload_of_the_page_verifies():
    (value,) = (value for value in SHOWN if "critical" in value)
    content = json.dumps(value).encode()
    annotations = simplesigning.sign(content, KEY)
    made = Artifact(
        EvidenceFormat.LEGACY,
        simplesigning.MEDIA_TYPE,
        content,
        Digest.of(content),
        annotations,
    )
    assert isinstance(only(check(made)), Statement)


def test_the_file_of_the_page_is_read():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    made = changefile.predicate(
        changefile.read(text.encode()), image=IMAGE, verifier="v", at=datetime.now(UTC)
    )
    assert made["verificationResult"] == "PASSED"
    assert made["verifiedLevels"]
