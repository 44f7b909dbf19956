"""deploy/kubernetes: manifests that fit each other, Cuff's settings and the image; without privileges, without secrets.

Their fields were held against the schemas of Kubernetes 1.30 to 1.37 (kubernetes-validate --strict) when they were written.
"""

import base64
import re
import shutil
import subprocess

import pytest
import yaml
from pydantic import SecretStr

from core.settings import PROJECT_ROOT, Settings
from ml.serving.security.startup import refuse_defaults

FOLDER = PROJECT_ROOT / "deploy" / "kubernetes"
KINDS = {"Namespace", "ServiceAccount", "ConfigMap", "Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget",
         "HorizontalPodAutoscaler"}  # fmt: skip


def documents():
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [each for name in names for each in yaml.safe_load_all((FOLDER / name).read_text())]


def one(kind, name="cuff-api"):
    (found,) = (each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


@pytest.fixture
def pod():
    return one("Deployment")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod):
    (only,) = pod["containers"]
    return only


def test_every_file_is_applied_and_everything_lies_in_one_namespace():
    listed = set(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
    assert listed == {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert {each["kind"] for each in documents()} == KINDS
    assert all(each["metadata"].get("namespace") == "cuff" for each in documents() if each["kind"] != "Namespace")
    labels = one("Namespace", "cuff")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_kustomize_builds_them():
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl on this machine")
    built = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True).stdout
    deployments = [each for each in yaml.safe_load_all(built) if each["kind"] == "Deployment"]
    assert deployments[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/cuff:0.1.0"


def test_the_pod_has_no_privilege_and_cannot_write_its_image(pod, container):
    """What the pod security standard `restricted` demands, and a read-only root besides."""
    user = re.search(r"useradd --uid (\d+)", (PROJECT_ROOT / "deploy" / "Dockerfile").read_text())[1]
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": int(user), "runAsGroup": int(user), "fsGroup": int(user),
        "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}  # fmt: skip
    assert pod["automountServiceAccountToken"] is False
    assert one("ServiceAccount")["automountServiceAccountToken"] is False
    assert not any(key in pod for key in ("hostNetwork", "hostPID", "hostIPC"))
    assert all("emptyDir" in volume or "secret" in volume for volume in pod["volumes"])
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/tmp", one("ConfigMap")["data"]["CUFF_VAR"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_it_is_probed_bounded_and_drained(pod, container):
    assert container["readinessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    trusted = one("ConfigMap")["data"]["CUFF_SERVE_TRUSTED_HOSTS"].split(",")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] in {port["name"] for port in container["ports"]}
        assert asked["scheme"] == "HTTPS"
        assert [header["value"] in trusted for header in asked["httpHeaders"]] == [True]
    for bound in ("requests", "limits"):
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][bound])
    settings = Settings(_env_file=None)
    assert pod["terminationGracePeriodSeconds"] > settings.serve_request_seconds + 5


def test_the_settings_are_cuffs_and_are_valid(container, monkeypatch, tmp_path):
    data = one("ConfigMap")["data"]
    secret = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each}
    fields = {f"CUFF_{name.upper()}" for name in Settings.model_fields}
    assert (set(data) | set(secret)) - fields == set()
    assert "CUFF_VAULT_KEY" not in secret  # it never turns a pseudonym back
    assert all(reference == {"name": "cuff-secrets", "key": name} for name, reference in secret.items())
    for name, value in data.items():
        assert isinstance(value, str)
        monkeypatch.setenv(name, value)
    key = base64.b64encode(bytes(range(32))).decode()
    monkeypatch.setenv("CUFF_PSEUDONYM_SECRET", key)
    monkeypatch.setenv("CUFF_ARCHIVE_KEY", key)
    for name, file in (("CERTIFICATE", "tls.crt"), ("KEY", "tls.key")):
        (tmp_path / file).touch()
        monkeypatch.setenv(f"CUFF_SERVE_TLS_{name}", str(tmp_path / file))
    refuse_defaults(Settings(_env_file=None))  # the API would start with them
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert settings.environment == "production"
    assert str(settings.serve_port) == str(container["ports"][0]["containerPort"])
    tls = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tls")
    assert {settings.serve_tls_certificate.parent, settings.serve_tls_key.parent} == {type(settings.var)(tls)}
    assert settings.token_jwks.startswith("https://")
    assert settings.token_issuer != Settings.model_fields["token_issuer"].default


def test_no_secret_stands_in_a_file(container):
    assert all(each["kind"] != "Secret" for each in documents())
    secrets = {f"CUFF_{name.upper()}" for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    data = one("ConfigMap")["data"]
    assert not set(data) & secrets
    assert not any("@" in value or "password" in value.lower() for value in data.values())
    assert all("value" not in each or not each["name"].startswith("CUFF_") for each in container["env"])


def test_nothing_passes_that_no_policy_names():
    closed = one("NetworkPolicy", "deny-by-default")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    policy = one("NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    for rule in policy["ingress"]:
        assert rule["from"]
        assert [port["port"] for port in rule["ports"]] == ["https"]
    for rule in policy["egress"]:
        assert rule["to"]
        assert rule["ports"]
    for block in (to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to):
        assert "169.254.0.0/16" in block["except"]  # where clouds hand out credentials


def test_what_points_at_the_pods_finds_them():
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [one("Deployment")["spec"]["selector"]["matchLabels"], one("Service")["spec"]["selector"],
                 one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
                 one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]  # fmt: skip
    assert all(selector and selector.items() <= labels for selector in selectors)
    assert one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == one("Deployment")["metadata"]["name"]


def test_two_answer_while_one_is_taken_away():
    scaler, budget = one("HorizontalPodAutoscaler")["spec"], one("PodDisruptionBudget")["spec"]
    assert scaler["minReplicas"] > budget["minAvailable"] >= 1
    assert "replicas" not in one("Deployment")["spec"]
    assert one("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
