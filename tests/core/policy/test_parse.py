"""Reading policies: every error at once, each with path, got and expected."""

import re
from datetime import timedelta

import msgspec
import pytest
import yaml
from msgspec import inspect

from tests.core.policy import builders as b
from trailgate.evidence.keys import load_public_key
from trailgate.model.decision import Mode
from trailgate.model.errors import MalformedError
from trailgate.model.key import public_key
from trailgate.policy import schema
from trailgate.policy.parse import parse_policies, parse_policy
from trailgate.policy.problems import PolicyError

PRIVATE = "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n"


def problems(value) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(value)
    return [str(problem) for problem in caught.value.problems]


def one(path: str, **changes) -> str:
    """The single problem of an altered policy, which must be at this path."""
    found = problems(b.document(**changes))
    assert [text.partition(": got ")[0] for text in found] == [path], found
    assert ", expected " in found[0]
    return found[0]


def in_rule(path: str, **changes) -> str:
    return one(f"spec.rules[0].{path}" if path else "spec.rules[0]", rules=[b.rule(**changes)])


def test_what_the_policy_is_called():
    policy = parse_policy(b.document())
    assert (policy.name, policy.mode, policy.reference.generation) == (
        "production",
        Mode.ENFORCE,
        None,
    )


def test_the_generation_is_the_objects_or_the_callers():
    value = b.document()
    value["metadata"] |= {"generation": 3, "uid": "x", "managedFields": [{}]}
    value["status"] = {"anything": True}
    assert parse_policy(value).reference.generation == 3
    assert parse_policy(value, generation=4).reference.generation == 4


def test_yaml_json_and_values_are_one_policy():
    value = b.document()
    as_yaml = yaml.safe_dump(value).encode()
    as_json = msgspec.json.encode(value)
    assert parse_policy(as_yaml) == parse_policy(as_json) == parse_policy(value)


def test_the_digest_is_of_what_the_policy_says_not_of_how():
    """The API server writes defaults into the object; that makes it no other policy."""
    short = parse_policy(b.document(mode=None))
    long = parse_policy(b.document(mode="Audit", thirdParty=[]))
    assert short.reference.digest == long.reference.digest
    other = parse_policy(b.document(mode="Warn"))
    assert other.reference.digest != short.reference.digest


def test_mode_is_audit_unless_said():
    assert parse_policy(b.document(mode=None)).mode is Mode.AUDIT


def test_every_problem_is_reported_at_once():
    value = b.document(mode="enforce", namespaces=[], extra=1)
    value["spec"]["rules"][0] |= {"images": ["web"], "signatures": {}}
    value["spec"]["rules"][0]["signature"]["signers"][0]["key"] = "no key"
    value["spec"]["rules"][0]["review"]["approvals"] = "two"
    assert problems(value) == [
        (
            "spec.extra: got an unknown field, expected one of "
            "mode, namespaces, callers, rules, thirdParty"
        ),
        "spec.mode: got 'enforce', expected one of Audit, Warn, Enforce",
        "spec.namespaces: got an empty list, expected at least 1",
        "spec.rules[0].signatures: got an unknown field, expected signature",
        (
            "spec.rules[0].images[0]: got 'web', expected host/path, with a literal registry host "
            "such as ghcr.io or docker.io"
        ),
        (
            "spec.rules[0].signature.signers[0].key: got 6 characters, expected a public key in "
            "PEM: got 0 PEM blocks, expected one public key"
        ),
        "spec.rules[0].review.approvals: got 'two', expected a whole number from 1 to 16",
    ]


def structs(kind, path="spec"):
    """Every struct of the schema with one path to it, and every field with its type."""
    match kind:
        case inspect.Metadata():
            yield from structs(kind.type, path)
        case inspect.ListType():
            yield from structs(kind.item_type, f"{path}[0]")
        case inspect.StructType():
            yield path, kind
            for field in kind.fields:
                yield from structs(field.type, f"{path}.{field.encode_name}")


def at(value, path):
    for name in re.findall(r"[A-Za-z]+|\d+", path):
        value = value[int(name) if name.isdigit() else name]
    return value


def complete():
    """A policy in which every struct of the schema occurs."""
    return b.document(thirdParty=[third_party()])


def third_party(**changes):
    return {
        "image": "docker.io/library/redis",
        "digests": [str(b.DIGEST)],
        "owner": "platform",
        "reason": "cache",
        "expiry": "2027-01-01T00:00:00Z",
    } | changes


STRUCTS = list(structs(inspect.type_info(schema.Spec)))


@pytest.mark.parametrize("path", [path for path, _ in STRUCTS])
def test_an_unknown_field_is_refused_everywhere(path):
    value = complete()
    at(value, path)["unheardOf"] = 1
    assert [text.partition(":")[0] for text in problems(value)] == [f"{path}.unheardOf"]


@pytest.mark.parametrize(
    ("path", "field"),
    [(path, f.encode_name) for path, kind in STRUCTS for f in kind.fields if f.required],
)
def test_a_required_field_is_required(path, field):
    value = complete()
    del at(value, path)[field]
    found = problems(value)
    assert [text.partition(":")[0] for text in found] == [f"{path}.{field}"]
    assert "got nothing" in found[0]


@pytest.mark.parametrize(
    ("path", "field"), [(path, f.encode_name) for path, kind in STRUCTS for f in kind.fields]
)
def test_null_is_no_value_of_any_field(path, field):
    """``callers:`` with nothing behind it must not mean "no callers are asked for"."""
    value = complete()
    at(value, path)[field] = None
    assert f"{path}.{field}" in [text.partition(":")[0] for text in problems(value)]


@pytest.mark.parametrize(
    ("path", "field"), [(path, f.encode_name) for path, kind in STRUCTS for f in kind.fields]
)
def test_no_field_takes_an_object_of_numbers(path, field):
    value = complete()
    at(value, path)[field] = {"x": 1.5}
    assert any(text.startswith(f"{path}.{field}") for text in problems(value))


@pytest.mark.parametrize(
    ("field", "value"),
    [("apiVersion", "trailgate.dev/v1"), ("kind", "Policy"), ("spec", None), ("extra", 1)],
)
def test_the_envelope(field, value):
    document = b.document()
    document[field] = value
    assert [text.partition(":")[0] for text in problems(document)] == [field]


@pytest.mark.parametrize("metadata", [None, {}, {"name": ""}, {"name": 3}, {"name": "a\nb"}])
def test_a_policy_has_a_name(metadata):
    document = b.document() | {"metadata": metadata}
    assert [text.partition(":")[0] for text in problems(document)] == ["metadata.name"]


@pytest.mark.parametrize(
    "pattern",
    [
        "nginx",
        "acme/web",
        "*/web",
        "*.io/acme/web",
        "ghcr.io",
        "ghcr.io/",
        "ghcr.io/acme/web:v1",
        "ghcr.io/acme/web@sha256:" + "a" * 64,
        "ghcr.io/acme/we?",
        "GHCR.io/acme/web",
        "ghcr.io/Acme/web",
        "ghcr.io//web",
        "ghcr.io/acme/**web",
        "ghcr.io/**/a/**",
        "ghcr.io/a*b*c*",
        "https://ghcr.io/acme/web",
        "docker.io/nginx",
        "docker.io/*",
        "index.docker.io/library/nginx",
        "ghcr.io/acme/web\n",
        " ghcr.io/acme/web",
    ],
)
def test_image_patterns_that_are_none(pattern):
    in_rule("images[0]", images=[pattern])


def test_a_short_docker_name_is_told_its_long_one():
    assert "expected docker.io/library/nginx" in in_rule("images[0]", images=["docker.io/nginx"])


@pytest.mark.parametrize(
    "pattern",
    [
        "http://github.com/acme/web",
        "github.com/acme/web",
        "https://github.com",
        "https://*.com/acme/web",
        "https://github.com/acme/web.git",
        "https://github.com/acme/web/",
        "https://github.com/acme/we?",
        "https://GitHub.com/acme/web",
        "https://user@github.com/acme/web",
        "https://github.com/acme/web#x",
    ],
)
def test_source_patterns_that_are_none(pattern):
    in_rule("source.repositories[0]", source={"repositories": [pattern]})


@pytest.mark.parametrize("ref", ["main", "heads/main", "refs/heads/a b", "refs/heads/?"])
def test_refs_that_are_none(ref):
    in_rule("source.refs[0]", source={"repositories": [b.SOURCE], "refs": [ref]})


@pytest.mark.parametrize("text", ["Shop", "a/b", "-a", "a.b", "app=web", "****", "a" * 64, ""])
def test_namespaces_that_are_none(text):
    one("spec.namespaces[0]", namespaces=[text])


@pytest.mark.parametrize("text", ["", "0h", "12", "1d", "-1h", "1h 30m", "30m1h", "1.5h"])
def test_durations_that_are_none(text):
    in_rule("tests.maxAge", tests={"signers": b.signers("build"), "maxAge": text})


@pytest.mark.parametrize("text", ["deployer", "shop:deployer", "shop/", "a/b/c", "Shop/deployer"])
def test_service_accounts_that_are_none(text):
    one("spec.callers.serviceAccounts[0]", callers={"serviceAccounts": [text]})


def test_a_service_account_is_no_user():
    text = one("spec.callers.users[0]", callers={"users": ["system:serviceaccount:shop:deployer"]})
    assert "under serviceAccounts, as shop/deployer" in text


@pytest.mark.parametrize("callers", [{}, {"delete": "Deny"}, {"users": []}])
def test_callers_without_anybody_are_a_mistake(callers):
    one("spec.callers", callers=callers)


@pytest.mark.parametrize(
    "key",
    [
        PRIVATE,
        b.pem("build") + b.pem("review"),
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_keys_that_are_none(key):
    text = in_rule("signature.signers[0].key", signature={"signers": [{"name": "x", "key": key}]})
    assert "MC4CAQAw" not in text


def test_the_model_and_the_evidence_read_keys_alike():
    for name in ("build", "review"):
        pem = b.pem(name).encode()
        assert public_key(pem) == load_public_key(pem)


@pytest.mark.parametrize(
    "statement", ["signature", "provenance", "review", "deploymentApproval", "tests"]
)
def test_signers_are_distinct(statement):
    part = b.rule()[statement]
    same_name = [*b.signers("a"), {"name": "a", "key": b.pem("b")}]
    in_rule(f"{statement}.signers[1].name", **{statement: part | {"signers": same_name}})
    same_key = [*b.signers("a"), {"name": "b", "key": b.pem("a")}]
    in_rule(f"{statement}.signers[1].key", **{statement: part | {"signers": same_key}})


def test_a_rule_needs_a_proof():
    bare = {"images": [b.REPOSITORY]}
    assert problems(b.document(rules=[bare])) == [
        "spec.rules[0]: got neither, expected signature or provenance: a rule needs a proof"
    ]


@pytest.mark.parametrize("statement", ["review", "deploymentApproval", "tests"])
def test_what_is_about_a_commit_needs_provenance(statement):
    others = dict.fromkeys(["review", "deploymentApproval", "tests"])
    del others[statement]
    text = in_rule("provenance", provenance=None, source=None, **others)
    assert statement in text


def test_provenance_needs_source_and_source_needs_provenance():
    in_rule("source", source=None)
    in_rule("provenance", provenance=None, review=None, deploymentApproval=None, tests=None)


def test_rules_have_different_names():
    one("spec.rules[1].name", rules=[b.rule(), b.rule()])


def test_rules_without_names_are_called_by_their_place():
    policy = parse_policy(b.document(rules=[b.rule(), b.rule(name=None), b.rule(name=None)]))
    assert [rule.name for rule in policy.rules] == ["web", "rules[1]", "rules[2]"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "docker.io/library/*"),
        ("image", "redis"),
        ("digests", []),
        ("digests", ["sha256:" + "A" * 64]),
        ("owner", ""),
        ("reason", " "),
        ("expiry", "2027-01-01"),
        ("expiry", "2027-01-01T00:00:00"),
        ("expiry", "never"),
    ],
)
def test_third_party_values_that_are_none(field, value):
    found = problems(b.document(thirdParty=[third_party(**{field: value})]))
    assert len(found) == 1
    assert found[0].startswith(f"spec.thirdParty[0].{field}")


# --- documents --------------------------------------------------------------------


def text(*policies) -> bytes:
    return yaml.safe_dump_all(policies).encode()


def named(name):
    value = b.document()
    value["metadata"]["name"] = name
    return value


def test_a_stream_of_policies():
    stream = b"---\n---\n" + text(named("a"), named("b")) + b"\n---\n# only a comment\n"
    assert [policy.name for policy in parse_policies(stream)] == ["a", "b"]
    assert parse_policies(b"") == ()


def test_a_stream_reports_the_problems_of_all_its_policies():
    bad = named("b")
    bad["spec"]["mode"] = "Off"
    with pytest.raises(PolicyError) as caught:
        parse_policies(text(named("a"), bad, {"kind": "ConfigMap"}))
    paths = [problem.path for problem in caught.value.problems]
    assert paths[0] == "b: spec.mode"
    assert "document 2: apiVersion" in paths


def test_a_stream_has_each_policy_once():
    with pytest.raises(PolicyError, match="got the name twice"):
        parse_policies(text(named("a"), named("a")))


def test_one_policy_is_one_document():
    with pytest.raises(PolicyError, match="got 2 documents, expected one"):
        parse_policy(text(named("a"), named("b")))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: [", "not YAML"),
        (b"\xff\xfe\x00", "not"),
        (b"a: 1\na: 2\n", "got key 'a' twice"),
        (b"a: {b: 1, b: 2}\n", "got key 'b' twice"),
        (b"1: 2\n", "expected a string"),
        (b"? [a]\n: 2\n", "expected a string"),
        (b"a: !!python/object/apply:os.system [x]\n", "not YAML"),
        (b"a: " + b"[" * 5000, "not YAML"),
        (b"#" * (1024 * 1024 + 1), "at most 1048576"),
    ],
)
def test_documents_that_are_none(content, says):
    with pytest.raises(MalformedError, match=re.escape(says)):
        parse_policies(content)


def test_a_repeated_key_cannot_weaken_a_policy():
    stream = text(named("a")).replace(b"mode: Enforce", b"mode: Enforce\n  mode: Audit")
    with pytest.raises(MalformedError, match="got key 'mode' twice"):
        parse_policies(stream)


def test_times_stay_text_and_anchors_work():
    stream = text(b.document(thirdParty=[third_party()]))
    stream = stream.replace(b"'2027-01-01T00:00:00Z'", b"2027-01-01T00:00:00Z")
    assert b"expiry: 2027" in stream
    (policy,) = parse_policies(stream)
    assert policy.third_party["docker.io/library/redis"][0].expiry.year == 2027


def test_durations_are_read_as_go_writes_them():
    tests = {"signers": b.signers("build"), "maxAge": "1h30m5s"}
    policy = parse_policy(b.document(rules=[b.rule(tests=tests)]))
    assert policy.rules[0].tests.max_age == timedelta(hours=1, minutes=30, seconds=5)
