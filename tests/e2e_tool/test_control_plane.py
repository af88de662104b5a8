"""The control plane is a real one: users, rights, tokens, restarts."""

import hashlib
import json
import urllib.error
import urllib.request

import pytest

from e2e.controlplane import shared
from e2e.controlplane.cluster import ApiError
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.registry import RegistryProcess
from e2e.controlplane.start import Options


def http_status(method, url, body=None):
    headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_versions_are_the_pinned_ones(control_plane):
    assert control_plane.api("GET", "/version")["gitVersion"].startswith("v1.37.")


def test_a_person_is_who_the_certificate_says(control_plane):
    person = control_plane.person("dev@example.com", ["laptops", "shop-editors"])
    who = control_plane.kubectl(person, "auth", "whoami", "-o", "json").stdout
    assert '"username": "dev@example.com"' in who
    assert '"laptops"' in who
    assert '"shop-editors"' in who


def test_a_person_has_no_rights_until_some_are_bound(control_plane, namespace):
    person = control_plane.person("nobody@example.com")
    with pytest.raises(ControlPlaneError, match="Forbidden"):
        control_plane.kubectl(person, "get", "pods", "-n", namespace)
    control_plane.bind(person, "view", namespace)
    with pytest.raises(ApiError) as refused:
        control_plane.api("GET", "/api/v1/namespaces", user=person)
    assert refused.value.status == 403


def test_a_service_account_comes_with_a_credential_id(control_plane, namespace):
    account = control_plane.service_account(namespace, "deployer")
    who = control_plane.kubectl(account, "auth", "whoami", "-o", "json").stdout
    assert f'"username": "system:serviceaccount:{namespace}:deployer"' in who
    assert "authentication.kubernetes.io/credential-id" in who


def test_it_can_be_attached_to_from_its_directory(control_plane, namespace):
    if not (control_plane.directory / "state.json").exists():
        shared.publish(control_plane)
    other = shared.attach(control_plane.directory)
    assert other.api("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["name"] == namespace
    assert "other@example.com" in other.kubectl(
        other.person("other@example.com"), "auth", "whoami"
    ).stdout  # fmt: skip


def test_data_outlives_an_api_server_that_is_killed(start_control_plane):
    plane = start_control_plane(Options(audit=True))
    plane.namespace("kept")
    plane.stop_apiserver(kill=True)
    assert not plane.ready()
    plane.start_apiserver()
    assert plane.api("GET", "/api/v1/namespaces/kept")["metadata"]["name"] == "kept"
    assert '"name":"kept"' in plane.audit_log.read_text()


def test_two_at_once_do_not_meet(control_plane, start_control_plane):
    other = start_control_plane(Options(unsafe_no_fsync=True))
    other.namespace("only-here")
    assert other.url != control_plane.url
    with pytest.raises(ApiError) as missing:
        control_plane.api("GET", "/api/v1/namespaces/only-here")
    assert missing.value.status == 404


def test_controllers_carry_a_deployment_out(control_plane_with_controllers):
    plane = control_plane_with_controllers
    account = plane.service_account("controllers-work", "deployer")
    plane.bind(account, "edit", "controllers-work")
    plane.kubectl(account, "-n", "controllers-work", "create", "deployment", "web",
                  "--image=example.test/web:1")  # fmt: skip
    plane.kubectl(plane.admin, "-n", "controllers-work", "wait", "--for=create",
                  "pod", "-l", "app=web", "--timeout=30s")  # fmt: skip


@pytest.mark.registry
@pytest.mark.parametrize("which", ["registry", "registry_without_referrers"])
def test_registries_differ_in_the_referrers_api(request, which):
    process = request.getfixturevalue(which)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [],
        }
    ).encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    base = f"http://{process.address}/v2/some/where"
    assert http_status("PUT", f"{base}/manifests/{digest}", manifest) == 201
    assert http_status("GET", f"{base}/referrers/{digest}") == (200 if process.referrers else 404)


@pytest.mark.registry
def test_a_restarted_registry_is_empty_and_where_it_was(tmp_path):
    with RegistryProcess.start(tmp_path) as process:
        url = f"http://{process.address}/v2/a/manifests/latest"
        index = b'{"schemaVersion":2,"manifests":[]}'
        assert http_status("PUT", url, index) == 201
        assert http_status("GET", url) == 200
        process.restart()
        assert http_status("GET", url) == 404


def test_cosign_makes_a_key_pair(cosign, tmp_path):
    private, public = cosign.generate_key_pair(tmp_path / "release", password="secret")
    assert private.read_text().startswith("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----")
    assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert "GitVersion" in cosign.run("version").stdout
    with pytest.raises(ControlPlaneError, match="status"):
        cosign.run("verify", "--key", public, "127.0.0.1:1/none:1")
