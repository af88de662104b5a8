"""The webhook configuration: what CEL decides is what our matcher decides, within the API's limits."""

import asyncio
import base64
import bisect
import collections
import json
import random
import ssl
import time

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from e2e.controlplane.start import ControlPlane, Options
from trailgate.policy.match import Names
from trailgate.policy.syntax import namespace_pattern
from trailgate_kube.webhooks import (
    DELETE,
    ENFORCE,
    MAX_EXPRESSION,
    OBSERVE,
    OWN,
    Address,
    FailClosed,
    configuration,
)

SETS = 60
PATH = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def built(closed=None, **how):
    return configuration(Address(), b"PEM", closed or FailClosed.of(["shop"]), "uid", **how)


def entry(body, name):
    return next(one for one in body["webhooks"] if one["name"] == name)


def test_where_it_fails_closed_and_where_it_does_not():
    body = built(FailClosed.of(["shop", "team-*", "a?"]))
    assert [(one["name"], one["failurePolicy"]) for one in body["webhooks"]] == [
        (ENFORCE, "Fail"), (OBSERVE, "Ignore"), (DELETE, "Ignore"), (OWN, "Ignore"),
    ]  # fmt: skip
    condition = (
        'request.namespace in ["shop"] || request.namespace.matches("^(?:a[^/]|team-[^/]*)$")'
    )
    for name, text in ((ENFORCE, condition), (OBSERVE, f"!({condition})")):
        (one,) = entry(body, name)["matchConditions"]
        assert one["expression"] == text
    assert entry(body, ENFORCE)["rules"] == entry(body, OBSERVE)["rules"]


def test_it_asks_about_workloads_and_our_own_kinds_and_nothing_else():
    asked = {
        (rule["apiGroups"][0], plural, operation)
        for one in built()["webhooks"]
        for rule in one["rules"]
        for plural in rule["resources"]
        for operation in rule["operations"]
    }
    workloads = {
        "": {"pods", "replicationcontrollers"},
        "apps": {"deployments", "replicasets", "statefulsets", "daemonsets"},
        "batch": {"jobs", "cronjobs"},
    }
    wanted = {
        (group, plural, operation)
        for group, plurals in workloads.items()
        for plural in plurals
        for operation in ("CREATE", "UPDATE", "DELETE")
    }
    for group, plural in (
        ("", "pods/ephemeralcontainers"),
        ("", "replicationcontrollers/scale"),
        ("apps", "deployments/scale"),
        ("apps", "statefulsets/scale"),
        ("apps", "replicasets/scale"),
    ):
        wanted |= {(group, plural, operation) for operation in ("CREATE", "UPDATE")}
    for plural in ("deploypolicies", "disarms"):
        wanted |= {("trailgate.dev", plural, one) for one in ("CREATE", "UPDATE", "DELETE")}
    assert asked == wanted


def test_namespaces_are_left_out_by_name_alone():
    body = built(namespace="ours", exempt=["registry", "kube-system"])
    for name in (ENFORCE, OBSERVE, DELETE):
        (expression,) = entry(body, name)["namespaceSelector"]["matchExpressions"]
        assert expression == {
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": ["kube-node-lease", "kube-public", "kube-system", "ours", "registry"],
        }


@pytest.mark.parametrize(
    "patterns",
    [['a"] || true || "" in ["'], ["a|b"], ["(a"], ["A"], [""], ["a.b"], ["a\n"], ["***"], ["é"]],
)
def test_what_is_no_pattern_fails_closed_everywhere(patterns):
    assert FailClosed.of(["shop", *patterns]) == FailClosed(everywhere=True)
    assert FailClosed(everywhere=True).expression == "true"


def test_more_than_an_expression_holds_fails_closed_everywhere():
    names = [f"{'n' * 50}-{number:06}" for number in range(2000)]
    some = FailClosed.of(names[:1000])
    assert not some.everywhere
    assert len(some.expression) < MAX_EXPRESSION
    assert FailClosed.of(names).everywhere


@pytest.mark.parametrize(
    ("new", "old", "narrower"),
    [
        (["a"], ["a"], False),
        (["a", "b"], ["a"], False),
        (["a"], ["a", "b"], True),
        (["b"], ["a"], True),
        ([], ["a"], True),
        ([], [], False),
    ],
)
def test_what_takes_control_away(new, old, narrower):
    assert FailClosed.of(new).narrower_than(FailClosed.of(old)) is narrower


def test_everywhere_is_broader_than_anything():
    everywhere = FailClosed(everywhere=True)
    assert FailClosed.of(["*"]).narrower_than(everywhere)
    assert not everywhere.narrower_than(FailClosed.of(["*"]))
    assert not everywhere.narrower_than(everywhere)


patterns = st.text("ab-?*", min_size=1, max_size=8).filter(lambda text: not namespace_pattern(text))


@given(st.lists(patterns))
def test_the_expression_depends_on_the_set_of_patterns_alone(some):
    assert FailClosed.of(some) == FailClosed.of(reversed([*some, *some]))
    assert json.dumps(FailClosed.of(some).expression).isascii()


# On a real API server.


class Calls:
    """A webhook server that says yes to everything and notes who was asked: (path, namespace)."""

    def __init__(self, pair):
        self.asked, self._pair = collections.defaultdict(set), pair

    async def __aenter__(self):
        made = web.Application()
        made.add_routes([web.post("/{number}", self._answer)])
        self._runner = web.AppRunner(made, access_log=None)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._pair.certificate, self._pair.key)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _answer(self, request):
        review = await request.json()
        self.asked[review["request"]["namespace"]].add(int(request.match_info["number"]))
        response = {"uid": review["request"]["uid"], "allowed": True}
        return web.json_response(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        )


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A control plane of its own: what is asked here is asked about every namespace."""
    directory = tmp_path_factory.mktemp("webhooks") / "control-plane"
    with ControlPlane.start(directory, Options(unsafe_no_fsync=True)) as plane:
        yield plane


def hook(name, url, authority, expression, failure="Ignore"):
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": url, "caBundle": base64.b64encode(authority).decode()},
        "failurePolicy": failure,
        "matchConditions": [{"name": "by-namespace", "expression": expression}],
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
             "resources": ["configmaps"]}
        ],
        "sideEffects": "None",
    }  # fmt: skip


def registered(name, *hooks):
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": list(hooks),
    }


async def try_in(plane, namespace):
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    path = f"/api/v1/namespaces/{namespace}/configmaps?dryRun=All"
    return await asyncio.to_thread(plane.api, "POST", path, thing)


async def soon(probe, seconds=15):
    deadline = time.monotonic() + seconds
    while not await probe():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.cluster
async def test_the_api_server_decides_like_our_matcher(plane):
    chance = random.Random(20261123)
    names = {
        "".join(chance.choices("ab-1", k=chance.randint(1, 7))).strip("-") or "a" for _ in range(40)
    } | {"shop", "n" * 63}
    texts = [
        "".join(chance.choices("ab-1?**", k=chance.randint(1, 6))) for _ in range(4000)
    ]  # fmt: skip
    texts = [text for text in texts if not namespace_pattern(text)]
    sets = [["*"], ["n*n"], ["?" * 63], ["shop", "a"], ["sho", "hop", "?hop?"]]
    sets += [chance.sample(texts, chance.randint(1, 4)) for _ in range(SETS - len(sets))]
    pair = plane.authority.server("webhook", ["127.0.0.1"])
    for name in names:
        plane.namespace(name)
    async with Calls(pair) as calls:
        hooks = [
            hook(
                f"n{number}.example.com", f"https://127.0.0.1:{calls.port}/{number}",
                plane.authority.pem, FailClosed.of(some).expression,
            )
            for number, some in enumerate(sets)
        ]  # fmt: skip
        await asyncio.to_thread(plane.api, "POST", PATH, registered("cel", *hooks))

        async def heard():
            await try_in(plane, "shop")
            return 0 in calls.asked["shop"]

        await soon(heard)
        calls.asked.clear()
        for name in names:
            await try_in(plane, name)
        await asyncio.to_thread(plane.api, "DELETE", f"{PATH}/cel")
    wanted = {
        name: {number for number, some in enumerate(sets) if Names.compile(some).match(name)}
        for name in names
    }
    assert {name: calls.asked[name] for name in names} == wanted
    matches = sum(map(len, wanted.values()))
    assert 0.1 < matches / (len(names) * SETS) < 0.9, "a test that can tell them apart"


@pytest.mark.cluster
@pytest.mark.parametrize("shape", ["names", "globs"])
async def test_the_longest_expression_is_still_evaluated(plane, shape):
    """Otherwise the entry that fails closed would refuse every change everywhere."""
    star = "*" if shape == "globs" else ""
    texts = [f"{'n' * 50}-{number:06}{star}" for number in range(2000)]
    most = bisect.bisect_left(
        range(2000), True, key=lambda count: FailClosed.of(texts[: count + 1]).everywhere
    )
    assert most > 900
    assert not FailClosed.of(texts[:most]).everywhere
    assert FailClosed.of(texts[: most + 1]).everywhere
    closed = FailClosed.of(texts[:most])
    inside, outside = f"{texts[most - 1].rstrip('*')}", f"{'n' * 49}-{shape}"
    for name in (inside, outside):
        plane.namespace(name)
    enforce, observe = (
        hook(f"{name}.example.com", "https://127.0.0.1:1/x", plane.authority.pem, text, "Fail")
        for name, text in (("enforce", closed.expression), ("other", f"!({closed.expression})"))
    )
    await asyncio.to_thread(plane.api, "POST", PATH, registered(f"long-{shape}", enforce, observe))
    told = {}
    try:
        for name in (inside, outside):

            async def refused(name=name):
                try:
                    await try_in(plane, name)
                except Exception as error:  # noqa: BLE001
                    told[name] = str(error)
                    return True
                return False

            await soon(refused)
    finally:
        await asyncio.to_thread(plane.api, "DELETE", f"{PATH}/long-{shape}")
    assert 'failed calling webhook "enforce.example.com"' in told[inside]
    assert 'failed calling webhook "other.example.com"' in told[outside]
