"""The documents say what the code does: every field, every reason, and an example that holds."""

import re
from pathlib import Path

import pytest

from tests.core.policy import builders as b
from tests.core.policy import field_table
from trailgate.evidence import change
from trailgate.evidence.wire import decode_signed
from trailgate.model.reason import Reason
from trailgate.policy.hints import hints
from trailgate.policy.parse import parse_policies

DOCS = Path(__file__).parents[3] / "docs"
REASONS = DOCS / "reference/reasons"
SECTIONS = ["What it means", "When it happens", "What to do", "How it looks"]


def test_the_table_of_fields_is_the_schemas():
    _, inside, _ = field_table.split(field_table.PAGE.read_text())
    assert inside == field_table.table(), "run: python -m tests.core.policy.field_table"


def test_the_example_is_a_policy_without_hints():
    (example,) = re.findall(r"```yaml\n(.*?)```", field_table.PAGE.read_text(), re.DOTALL)
    (policy,) = parse_policies(example.encode())
    assert policy.name == "production"
    assert list(hints(policy, b.NOW)) == []


def test_every_reason_has_a_page_and_every_page_a_reason():
    pages = {path.stem for path in REASONS.glob("*.md")} - {"index"}
    assert pages == {reason.value for reason in Reason}


@pytest.mark.parametrize("reason", list(Reason))
def test_a_page_says_all_that_is_needed(reason):
    text = (REASONS / f"{reason.value}.md").read_text()
    assert text.startswith(f"# {reason.value}\n\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert f"```\n{reason.value}\n    got      " in text
    first = text.split("\n")[2]
    index = (REASONS / "index.md").read_text()
    assert index.count(f"| [{reason.value}]({reason.value}.md) | {first} |") == 1


@pytest.mark.parametrize(
    "page",
    [
        *REASONS.glob("*.md"),
        DOCS / "reference/policy.md",
        DOCS / "explanation/independent-review.md",
        DOCS / "adr/0003-policy.md",
    ],
    ids=lambda path: path.name,
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_documented_change_record_satisfies_a_policy():
    """What evidence reads and what the policy asks for are one thing."""
    page = (DOCS / "reference/statements.md").read_text()
    (block,) = [
        text
        for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL)
        if "verification_summary/v1" in text and "change-record/v1" in text
    ]
    record = change.read(decode_signed(block.encode(), "the example")["predicate"])
    review = {"signers": b.signers("review"), "basis": "Asserted"}
    approval = review | {"environment": "production"}
    policy = b.policy(rules=[b.rule(review=review, deploymentApproval=approval, tests=None)])
    given = b.evidence(
        provenance=b.statement(b.provenance(commit=record.source.to)),
        change=b.statement(record),
    )
    asked = b.question(cluster="prod")
    assert b.reasons(b.verdict(given, policies=[policy], ask=asked)) == []
