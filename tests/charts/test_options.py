"""What the pods are told is what the programs understand."""

import importlib
import tomllib
from pathlib import Path

import click
import pytest

from tests.charts.rendering import EVERYTHING, arguments, at, find, pods, render
from trailgate_operator import keyring

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
IMAGE_STARTS = {"trailgate-webhook": "trailgate-webhook", "trailgate-operator": "trailgate-operator"}  # fmt: skip


def program(container, pod):
    """The console script that a container runs: its command, or what its image starts."""
    (name,) = container.get("command", [IMAGE_STARTS.get(pod)])
    return name


def command(name):
    """The click command behind a console script."""
    module, _, _ = PROJECT["scripts"][name].partition(":")
    found = importlib.import_module(module).command
    assert isinstance(found, click.Command)
    return found


def containers(objects):
    for pod, _, spec in pods(objects):
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            yield pod, container


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["plain", "all"])
def test_each_container_is_told_what_its_program_understands(helm, values):
    seen = set()
    for pod, container in containers(render(helm, values)):
        name = program(container, pod)
        seen.add(name)
        options = {o: p for p in command(name).params for o in p.opts}
        given = arguments(container)
        for option, value in given:
            assert option in options, f"{name} has no {option}"
            assert (value is None) == options[option].is_flag, f"{name} {option}"
            if isinstance(options[option].type, click.Choice | click.FloatRange | click.IntRange):
                options[option].type.convert(value, options[option], None)
        for option, _ in given:
            many = [one for one, _ in given if one == option]
            assert len(many) == 1 or options[option].multiple, f"{name} {option}"
        missing = {p.opts[0] for p in command(name).params if p.required} - {o for o, _ in given}
        assert not missing, f"{name} needs {missing}"
    assert seen == {
        "trailgate-webhook", "trailgate-operator", "trailgate-operator-prepare",
        "trailgate-operator-uninstall", "trailgate-operator-test",
    }  # fmt: skip


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["plain", "all"])
def test_gate_and_operator_have_one_token_and_a_gate_waits_until_it_is_made(helm, values):
    objects = render(helm, values)
    assert "--review-token-file=/etc/trailgate/gate/review-token" in options_of(
        helm, "trailgate-webhook", values
    )
    assert "--review-token-file=/run/trailgate/keys/review-token" in options_of(
        helm, "trailgate-operator", values
    )
    spec = find(objects, "Deployment", "trailgate-webhook")["spec"]["template"]["spec"]
    (gate,) = [v["secret"] for v in spec["volumes"] if v["name"] == "gate"]
    assert gate["secretName"] == keyring.GATE
    assert not gate.get("optional", False)
    assert {(item["key"], item["path"]) for item in gate["items"]} == {
        (name, name) for name in (keyring.GATE_KEY, keyring.RECORDER_PUB, keyring.REVIEW_TOKEN)
    }


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["plain", "all"])
def test_each_file_that_is_named_is_mounted(helm, values):
    for pod, _, spec in pods(render(helm, values)):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        used = set()
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            mounts = {m["mountPath"]: m["name"] for m in container.get("volumeMounts", ())}
            used |= set(mounts.values())
            for _, value in arguments(container):
                path = (value or "").removeprefix("sqlite:")
                if path.startswith("/"):
                    assert [m for m in mounts if path.startswith(m + "/")], f"{pod}: {path}"
        assert used == set(volumes), pod


def options_of(helm, pod, *values):
    spec = find(render(helm, *values), "Deployment", pod)["spec"]["template"]["spec"]
    return [f"{name}={value}" for name, value in arguments(spec["containers"][0])]


@pytest.mark.parametrize(
    ("pod", "values", "option"),
    [
        ("trailgate-webhook", at("registry.privateHosts", ["r.internal"]), "--allow-private-registry=r.internal"),
        ("trailgate-webhook", at("registry.insecureHosts", ["127.0.0.1:5000"]), "--allow-insecure-registry=127.0.0.1:5000"),
        ("trailgate-webhook", at("registry.imagePullSecrets", [{"namespace": "shop", "name": "pull"}]), "--image-pull-secret=shop/pull"),
        ("trailgate-webhook", at("registry.credentialsSecret", "r"), "--docker-config=/etc/trailgate/registry/config.json"),
        ("trailgate-webhook", at("registry.caSecret", "r"), "--registry-ca=/etc/trailgate/registry-ca/ca.crt"),
        ("trailgate-webhook", at("webhook.clientCA.configMap", "r"), "--client-ca=/etc/trailgate/client-ca/ca.crt"),
        ("trailgate-webhook", at("cluster.environment", "test"), "--environment=test"),
        ("trailgate-operator", at("cluster.environment", "test"), "--environment=test"),
        ("trailgate-operator", at("cluster.name", "eu"), "--cluster-name=eu"),
        ("trailgate-operator", at("webhook.exemptNamespaces", ["harbor"]), "--exempt-namespace=harbor"),
        ("trailgate-operator", at("certificates", {"mode": "secret", "secretName": "x"}), "--certificates=files"),
    ],
)  # fmt: skip
def test_a_value_reaches_its_program(helm, pod, values, option):
    assert option in options_of(helm, pod, values)
    assert option not in options_of(helm, pod)


def test_a_certificate_of_ones_own_is_mounted_without_its_key_for_the_operator(helm):
    values = at("certificates", {"mode": "secret", "secretName": "own"})
    objects = render(helm, values)
    volumes = find(objects, "Deployment", "trailgate-operator")["spec"]["template"]["spec"][
        "volumes"
    ]
    (secret,) = [v["secret"] for v in volumes if "secret" in v]
    assert secret["secretName"] == "own"
    assert [item["key"] for item in secret["items"]] == ["ca.crt"]
    volumes = find(objects, "Deployment", "trailgate-webhook")["spec"]["template"]["spec"][
        "volumes"
    ]
    (secret,) = [v["secret"] for v in volumes if v["name"] == "tls"]
    assert secret["secretName"] == "own"
