"""Renders the Helm chart with Helm itself (`make chart`) and checks what a cluster would get.

Helm comes as a Python package of 75 MB into an environment of its own, like what the benchmarks measure against: too
much for every `make test`, which holds the templates against the values without rendering them (test_chart.py).
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from bench.environments import environment
from jobs.config import Config
from jobs.config.load import parse
from tests.project.files import ROOT

CHART = ROOT / "deploy" / "helm" / "penstock"
CONFIG = {
    "tiers": {"free": {"requests_per_minute": 20}},
    "providers": {
        "openai": {
            "base_url": "https://api.openai.com/v1",
            "api_key_env": "OPENAI_API_KEY",
            "models": {"gpt-4o-mini": {}},
        }
    },
}
SECRETS = {"PENSTOCK_SECRET": "s" * 64, "PENSTOCK_ADMIN_KEY": "a" * 64, "OPENAI_API_KEY": "sk-1"}
VALUES: Mapping[str, Any] = {"config": CONFIG, "secrets": SECRETS}

# Runs in Helm's environment: values on stdin, [lint, manifests or error] on stdout.
_RENDER = """
import json, sys
import helm_python as helm
lint = helm.lint(sys.argv[1])
with helm.Chart.load(sys.argv[1]) as chart:
    try:
        out = chart.render(json.load(sys.stdin), name="demo", namespace="prod")
    except helm.HelmError as error:
        out = str(error)
json.dump([lint, out], sys.stdout)
"""

Manifest = dict[str, Any]


def render(values: Mapping[str, Any]) -> list[Manifest] | str:
    """The manifests, or why Helm refuses the values."""
    done = subprocess.run(
        [environment("helm"), "-c", _RENDER, CHART],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=True,
    )
    lint, rendered = json.loads(done.stdout)
    assert lint["errors"] == [], lint
    if isinstance(rendered, str):
        return rendered
    texts = [text for name, text in rendered.items() if name.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def rendered(**changes: Any) -> dict[str, Manifest]:
    """The manifests by kind and name, of values that must be accepted."""
    manifests = render({**VALUES, **changes})
    assert not isinstance(manifests, str), manifests
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in manifests}


def pods(manifests: Mapping[str, Manifest]) -> Iterator[Manifest]:
    """The specifications of all pods."""
    for one in manifests.values():
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["spec"]["template"]["spec"]


def check_pods(manifests: Mapping[str, Manifest]) -> None:
    """Nothing runs as root, writes where it should not, or is sent a token it does not need."""
    for pod in pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def check_services(manifests: Mapping[str, Manifest]) -> None:
    """Each Service leads to the pods of one workload, and to a port they have."""
    for name, one in manifests.items():
        if one["kind"] == "Service":
            kind = "StatefulSet" if name.endswith("valkey") else "Deployment"
            template = manifests[name.replace("Service", kind)]["spec"]["template"]
            assert one["spec"]["selector"] == template["metadata"]["labels"]
            ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports


def main() -> None:
    """All checks; prints what was rendered."""
    whole = rendered(keda={"keySecret": {"name": "keda-key"}})
    check_pods(whole)
    check_services(whole)
    worker = whole["Deployment/demo-worker"]
    assert "replicas" not in worker["spec"], "KEDA sets them"
    pod = worker["spec"]["template"]["spec"]
    settings = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert pod["terminationGracePeriodSeconds"] > int(settings["PENSTOCK_DRAIN_S"])
    assert settings["REDIS_URL"] == "redis://demo-valkey:6379/0"
    text = whole["ConfigMap/demo-config"]["data"]["penstock.yaml"]
    assert parse(text.encode(), CHART) == Config.model_validate(CONFIG)
    assert whole["Secret/demo-secrets"]["stringData"] == SECRETS
    valkey = whole["StatefulSet/demo-valkey"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--appendonly", "yes", "noeviction"} <= set(valkey)
    scaled = whole["ScaledObject/demo-worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    [trigger] = scaled["triggers"]
    assert trigger["metadata"]["url"] == "http://demo-api.prod.svc:8080/v1/scaling"
    assert trigger["authenticationRef"]["name"] in {
        one["metadata"]["name"] for one in whole.values() if one["kind"] == "TriggerAuthentication"
    }
    assert "TriggerAuthentication/demo-worker" not in rendered()
    fixed = rendered(keda={"enabled": False}, worker={"replicas": 3})
    assert fixed["Deployment/demo-worker"]["spec"]["replicas"] == 3
    assert not [name for name in fixed if "ScaledObject" in name]
    assert not [name for name in rendered(valkey={"enabled": False}) if "valkey" in name]
    assert "Secret/demo-secrets" not in rendered(existingSecret="mine", secrets={})
    assert "config: give the whole penstock.yaml" in render({"secrets": SECRETS})
    assert "secrets.PENSTOCK_SECRET" in render({"config": CONFIG})
    assert "worker.drainSeconds" in render({**VALUES, "worker": {"drainSeconds": 60}})
    sys.stdout.write("\n".join([*whole, "as it should be"]) + "\n")


if __name__ == "__main__":
    main()
