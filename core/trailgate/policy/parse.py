"""From a document to a policy that can decide, or to all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType, inspect

from trailgate.model.canonical import fingerprint
from trailgate.model.decision import PolicyReference
from trailgate.model.digest import Digest
from trailgate.model.evidence import PublicKey
from trailgate.model.key import public_key
from trailgate.policy import compiled, document, schema, syntax
from trailgate.policy.match import Hosted, Names, Paths
from trailgate.policy.problems import PolicyError, Problem, find, show

_T = TypeVar("_T")
_SPEC = inspect.type_info(schema.Spec)
_TOP = {"apiVersion", "kind", "metadata", "spec", "status"}
_MAX_NAME = 253  # Kubernetes' own
_DEPENDENT = ("review", "deploymentApproval", "tests")


def parse_policy(
    document_: Mapping[str, Any] | bytes, *, generation: int | None = None
) -> compiled.DeployPolicy:
    """Read one DeployPolicy: a Kubernetes object, or the YAML or JSON of one.

    ``generation`` is the object's, for a policy from the cluster; without it
    ``metadata.generation`` is taken, which files do not have. Raises
    ``PolicyError`` with every problem; ``MalformedError`` where it isn't YAML.
    """
    value = _only(document_) if isinstance(document_, bytes) else document_
    problems = list(_envelope(value))
    if problems:
        raise PolicyError(problems, _name(value))
    name, spec = value["metadata"]["name"], value["spec"]
    problems = [*find(spec, _SPEC, "spec"), *_across(spec)]
    if problems:
        raise PolicyError(problems, name)
    try:
        typed = msgspec.convert(spec, schema.Spec)
    except msgspec.ValidationError as error:  # find() knows less than msgspec: still refused
        raise PolicyError([Problem("spec", str(error), "a valid policy")], name) from error
    if generation is None:
        given = value["metadata"].get("generation")
        generation = given if type(given) is int else None
    digest = fingerprint(msgspec.to_builtins(typed))
    return _compile(typed, PolicyReference(name, generation, digest, typed.mode))


def parse_policies(content: bytes) -> tuple[compiled.DeployPolicy, ...]:
    """Read all policies of a YAML stream; raises as ``parse_policy`` does, for all together."""
    policies: list[compiled.DeployPolicy] = []
    problems: list[Problem] = []
    for index, item in enumerate(document.read(content)):
        try:
            policies.append(parse_policy(item))
        except PolicyError as error:
            where = error.name or f"document {index}"
            problems += [Problem(f"{where}: {p.path}", p.got, p.expected) for p in error.problems]
    names = [policy.name for policy in policies]
    problems += [
        Problem(f"{name}: metadata.name", "the name twice", "each policy once")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise PolicyError(problems)
    return tuple(policies)


def _only(content: bytes) -> Any:
    documents = document.read(content)
    if len(documents) != 1:
        raise PolicyError([Problem("document", f"{len(documents)} documents", "one")])
    return documents[0]


def _name(value: Any) -> str | None:
    metadata = value.get("metadata") if isinstance(value, Mapping) else None
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else None


def _envelope(value: Any) -> Iterator[Problem]:
    """Check what is around the spec. Metadata is Kubernetes' own and taken as it is."""
    if not isinstance(value, Mapping):
        yield Problem("document", show(value), f"a {schema.KIND} object")
        return
    for key in value:
        if key not in _TOP:
            yield Problem(str(key), "an unknown field", "one of " + ", ".join(sorted(_TOP)))
    for key, expected in (("apiVersion", schema.API_VERSION), ("kind", schema.KIND)):
        if value.get(key) != expected:
            yield Problem(key, show(value.get(key)), expected)
    name = _name(value)
    if not name:
        yield Problem("metadata.name", "nothing", "the policy's name")
    elif len(name) > _MAX_NAME or syntax.plain(name):
        yield Problem("metadata.name", show(name), "an object's name")
    if not isinstance(value.get("spec"), Mapping):
        yield Problem("spec", show(value.get("spec")), "an object")


def _across(spec: Mapping[str, Any]) -> Iterator[Problem]:
    """Check what one field demands of another. The CRD says the same in CEL."""
    callers = spec.get("callers")
    if isinstance(callers, Mapping) and not any(
        callers.get(key) for key in ("users", "groups", "serviceAccounts")
    ):
        yield Problem("spec.callers", "nobody", "at least one user, group or service account")
    rules = spec.get("rules")
    if not isinstance(rules, list):
        return
    names: set[str] = set()
    for index, rule in enumerate(rules):
        if not isinstance(rule, Mapping):
            continue
        path = f"spec.rules[{index}]"
        name = rule.get("name")
        if isinstance(name, str):
            if name in names:
                yield Problem(f"{path}.name", f"{show(name)} again", "each name only once")
            names.add(name)
        yield from _rule_across(rule, path)


def _rule_across(rule: Mapping[str, Any], path: str) -> Iterator[Problem]:
    if "signature" not in rule and "provenance" not in rule:
        yield Problem(path, "neither", "signature or provenance: a rule needs a proof")
    needing = [key for key in _DEPENDENT if key in rule]
    if needing and "provenance" not in rule:
        yield Problem(
            f"{path}.provenance",
            "nothing",
            f"provenance: it names the commit that {' and '.join(needing)} must be about",
        )
    if "provenance" in rule and "source" not in rule:
        yield Problem(f"{path}.source", "nothing", "source: where the provenance's source may be")
    if "source" in rule and "provenance" not in rule and not needing:
        yield Problem(f"{path}.provenance", "nothing", "provenance: source is checked against it")
    for statement in ("signature", "provenance", *_DEPENDENT):
        part = rule.get(statement)
        if isinstance(part, Mapping) and isinstance(part.get("signers"), list):
            yield from _same_key(part["signers"], f"{path}.{statement}.signers")


def _same_key(signers: list[Any], path: str) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, signer in enumerate(signers):
        pem = signer.get("key") if isinstance(signer, Mapping) else None
        if not isinstance(pem, str) or syntax.key(pem) is not None:
            continue
        known = seen.setdefault(public_key(pem.encode()).fingerprint, index)
        if known != index:
            yield Problem(f"{path}[{index}].key", f"the key of [{known}] again", "each key once")


def _compile(spec: schema.Spec, reference: PolicyReference) -> compiled.DeployPolicy:
    third_party: dict[str, tuple[compiled.ThirdParty, ...]] = {}
    for item in spec.third_party:
        entry = compiled.ThirdParty(
            item.image,
            frozenset(map(Digest.parse, item.digests)),
            item.owner,
            item.reason,
            item.expiry.astimezone(UTC),
        )
        third_party[item.image] = (*third_party.get(item.image, ()), entry)
    return compiled.DeployPolicy(
        reference,
        Names.compile(spec.namespaces),
        _callers(spec.callers),
        tuple(_rule(rule, index) for index, rule in enumerate(spec.rules)),
        third_party,
    )


def _callers(callers: schema.Callers | UnsetType) -> compiled.Callers | None:
    if callers is UNSET:
        return None
    pairs = (text.split("/") for text in callers.service_accounts)
    return compiled.Callers(
        frozenset(callers.users),
        frozenset(callers.groups),
        frozenset((namespace, name) for namespace, name in pairs),
        callers.delete is schema.DeletePolicy.DENY,
    )


def _rule(rule: schema.Rule, index: int) -> compiled.Rule:
    signature = _given(rule.signature)
    provenance = _provenance(rule)
    signed = compiled.Signature(_signers(signature.signers)) if signature else None
    build = [part.signers for part in (signed, provenance) if part]
    review, approval, tests = _review(rule), _approval(rule), _tests(rule)
    everyone = [*build, *(part.signers for part in (review, approval, tests) if part)]
    keys = {key.fingerprint: key for signers in everyone for key in signers.keys}
    return compiled.Rule(
        name=_given(rule.name) or f"rules[{index}]",
        images=Hosted.images(rule.images),
        signature=signed,
        provenance=provenance,
        review=review,
        deployment_approval=approval,
        tests=tests,
        build_keys=frozenset(name for signers in build for name in signers.names),
        keys=tuple(keys[name] for name in sorted(keys)),
    )


def _given(value: _T | UnsetType) -> _T | None:
    return None if isinstance(value, UnsetType) else value


def _signers(signers: list[schema.Signer]) -> compiled.Signers:
    keys: list[PublicKey] = [public_key(signer.key.encode()) for signer in signers]
    names = {key.fingerprint: signer.name for key, signer in zip(keys, signers, strict=True)}
    return compiled.Signers(names, tuple(keys))


def _provenance(rule: schema.Rule) -> compiled.Provenance | None:
    wanted, source = _given(rule.provenance), _given(rule.source)
    if wanted is None or source is None:
        return None
    return compiled.Provenance(
        _signers(wanted.signers),
        frozenset(wanted.builders),
        Hosted.repositories(source.repositories),
        Paths.compile(source.refs) if source.refs else None,
        tuple(source.refs),
    )


def _review(rule: schema.Rule) -> compiled.Review | None:
    wanted = _given(rule.review)
    if wanted is None:
        return None
    return compiled.Review(
        signers=_signers(wanted.signers),
        verifiers=frozenset(wanted.verifiers),
        accept_asserted=wanted.basis is schema.BasisAccepted.ASSERTED,
        allow_self_asserted=wanted.self_asserted is schema.SelfAsserted.ALLOW,
        approvals=wanted.approvals,
    )


def _approval(rule: schema.Rule) -> compiled.DeploymentApproval | None:
    wanted = _given(rule.deployment_approval)
    if wanted is None:
        return None
    return compiled.DeploymentApproval(
        signers=_signers(wanted.signers),
        verifiers=frozenset(wanted.verifiers),
        accept_asserted=wanted.basis is schema.BasisAccepted.ASSERTED,
        allow_self_asserted=wanted.self_asserted is schema.SelfAsserted.ALLOW,
        environment=wanted.environment,
        not_committer=wanted.not_committer,
    )


def _tests(rule: schema.Rule) -> compiled.Tests | None:
    wanted = _given(rule.tests)
    if wanted is None:
        return None
    max_age = _given(wanted.max_age)
    return compiled.Tests(
        _signers(wanted.signers),
        syntax.seconds(max_age) if max_age else None,
        frozenset(wanted.suites),
    )
