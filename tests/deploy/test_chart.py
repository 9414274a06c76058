"""The charts and the manifests made from them: documented, strict, valid, restricted, and right for the sidecar."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config import load
from sidecar.config.schema import KEYS
from tools import chart, manifests

from .tools import ROOT, definitions, run, tool

VALUES = Path(__file__).parent / "values"
CASES = {
    "as it is": ("sidecar", []),
    "alone": ("sidecar", ["--values", str(VALUES / "alone.yaml")]),
    "everything": ("sidecar", ["--values", str(VALUES / "everything.yaml")]),
    "app": ("example-app", []),
    "app elsewhere": ("example-app", ["--set", "sidecar.network.bootstrapPeers={/dns4/mesh.example/tcp/4747}"]),
    "app with nodes of its own": (
        "example-app",
        ["--set", "sidecar.bootstrap.enabled=true", "--set-json", "sidecar.network.bootstrapPeers=[]"],
    ),
    "app without metrics": ("example-app", ["--set", "sidecar.metrics.enabled=false"]),
    "app with secrets": (
        "example-app",
        [
            "--set",
            "sidecar.beside.identitySecret=one,sidecar.network.pskSecret=key,sidecar.beside.stateClaim=kept"
            ",sidecar.beside.tokensSecret=tokens",
        ],
    ),
}
IN_A_POD = {"POD_IP": "10.1.2.3", "POD_NAME": "sidecar-bootstrap-0", "POD_NAMESPACE": "somewhere"}


def of(chart: str, flags: list[str]) -> list[Any]:
    return [
        document
        for document in yaml.safe_load_all(manifests.template(tool("helm"), "sidecar", chart, *flags))
        if document
    ]


@pytest.fixture(params=CASES)
def documents(request: pytest.FixtureRequest) -> list[Any]:
    """The objects of one case; skipped where helm is missing, by the test that uses it."""
    chart, flags = CASES[request.param]
    return of(chart, flags)


def pods(documents: list[Any]) -> Iterator[Any]:
    """The specifications of the pods in what is given."""
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Pod":
            yield spec
        elif "template" in spec:
            yield spec["template"]["spec"]


def hook(document: Any) -> bool:
    """Whether it is made by `helm test` alone."""
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


def sidecars(documents: list[Any]) -> Iterator[Any]:
    for pod in pods(documents):
        found = [one for one in [*pod.get("initContainers", ()), *pod["containers"]] if one["name"] == "sidecar"]
        assert len(found) == 1
        yield found[0]


def strictly_valid(documents: list[Any], folder: Path) -> None:
    """Hold objects against the schemas of Kubernetes and of the Prometheus operator; unknown fields fail as well."""
    custom = [document for document in documents if document["apiVersion"] == "monitoring.coreos.com/v1"]
    for number, document in enumerate(document for document in documents if document not in custom):
        file = folder / f"{number}.yaml"
        file.write_text(yaml.safe_dump(document))
        run(tool("kubernetes-validate"), "--strict", str(file))
    if custom:
        python = Path(tool("kubernetes-validate")).resolve().parent / "python"  # it has jsonschema
        script = Path(__file__).parent / "custom.py"
        run(str(python), str(script), str(definitions()), stdin=yaml.safe_dump_all(custom))


def restricted(documents: list[Any]) -> None:
    """Hold every pod against the standard "restricted", https://kubernetes.io/docs/concepts/security/pod-security-standards/.

    And against what we want beyond it: a root that is read-only, a bound of memory, no token of Kubernetes.
    """
    found = list(pods(documents))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {"emptyDir", "secret", "persistentVolumeClaim"}
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"] is True
            assert security["runAsUser"] > 0
            assert security.get("runAsNonRoot", True) is True
            assert security.get("seccompProfile", {"type": "RuntimeDefault"}) == {"type": "RuntimeDefault"}
            assert not {"privileged", "procMount", "seLinuxOptions", "windowsOptions"} & set(security)
            assert "memory" in container["resources"]["limits"]
            assert all("hostPort" not in port for port in container.get("ports", ()))


def environment(container: Any) -> dict[str, str]:
    """Its variables with $(NAME) filled in, as the kubelet does it, on top of those of the image."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    pod = IN_A_POD | ({"POD_IP": "fd00::3"} if "/ip6/$(POD_IP)" in str(container["env"]) else {})
    environ = {**pod, **dict(re.findall(r"^(?:ENV|   ) ([A-Z_]+)=(/\S+)", dockerfile, re.MULTILINE))}
    for entry in container["env"]:
        words = re.split(r"\$\((\w+)\)", entry.get("value", environ.get(entry["name"], "")))
        words[1::2] = [environ[name] for name in words[1::2]]
        environ[entry["name"]] = "".join(words)
    return environ


# ---------------------------------------------------------------- cheap: files only


def test_every_value_is_described_in_the_readme_and_the_schema() -> None:
    """`make docs` writes both anew."""
    said = chart.comments()
    assert [path for path in chart.leaves(chart.values()) if not said.get(path)] == []
    text = (chart.CHART / "README.md").read_text()
    assert text == chart.readme(text)
    assert (chart.CHART / "values.schema.json").read_text() == chart.schema()
    for name in chart.COPIED:
        assert (chart.CHART / "files" / name).read_text() == (chart.MONITORING / name).read_text()


def test_what_the_chart_sets_itself_are_keys_of_the_sidecar() -> None:
    assert chart.SET_BY_THE_CHART - set(KEYS) == set()


def test_the_versions_are_those_of_the_sidecar() -> None:
    from sidecar import __version__

    for name in ("sidecar", "example-app"):
        described = yaml.safe_load((manifests.CHARTS / name / "Chart.yaml").read_text())
        assert (described["version"], described["appVersion"]) == (__version__, __version__)


def plain() -> list[Any]:
    """The objects of deploy/kubernetes."""
    return [
        document for name in manifests.FILES for document in yaml.safe_load_all((manifests.PLACE / name).read_text())
    ]


def test_the_plain_manifests_are_yaml_without_helm() -> None:
    for name in manifests.FILES:
        text = (manifests.PLACE / name).read_text()
        assert [document["kind"] for document in yaml.safe_load_all(text)]
        assert "elm.sh" not in text


def test_the_plain_manifests_are_for_any_namespace() -> None:
    assert {"StatefulSet", "Deployment", "Job"} <= {document["kind"] for document in plain()}
    for document in plain():
        assert "namespace" not in document["metadata"]
    for container in sidecars(plain()):
        config = load(environment(container), {}).config
        (peers,) = config.bootstrap.peers
        assert peers.value("dns4") in ("sidecar-bootstrap.somewhere.svc.cluster.local", "sidecar-bootstrap")
    assert manifests.NAMESPACE not in re.findall(r"[a-z]+", " ".join(map(str, plain())))


def test_the_pods_of_the_plain_manifests_are_restricted() -> None:
    restricted(plain())


# ---------------------------------------------------------------- with helm and the schemas of Kubernetes


@pytest.mark.deploy
def test_helm_has_nothing_to_say(tmp_path: Path) -> None:
    helm = tool("helm")
    for values in (None, "alone", "everything"):
        flags = ["--values", str(VALUES / f"{values}.yaml")] if values else []
        run(helm, "lint", "--strict", "--quiet", str(chart.CHART), *flags)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("config.gossip.degre=8", "additional properties 'degre' not allowed"),
        ("config.network.name=x", "additional properties 'network' not allowed"),
        ("bootstrap.replica=2", "additional properties 'replica' not allowed"),
        ("bootstrap.replicas=0", "bootstrap/replicas"),
        ("bootstrap.resources.limit.cpu=1", "additional properties 'limit' not allowed"),
        ("network.ipFamily=IPv5", "network/ipFamily"),
        ("network.bootstrapPeers={example.org:4747}", "network/bootstrapPeers/0"),
        ("image.digest=latest", "image/digest"),
    ],
)
def test_a_wrong_value_is_refused(flags: str, said: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        of("sidecar", ["--set", flags])
    assert said in refused.value.stderr


@pytest.mark.deploy
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_it_strictly(case: str, tmp_path: Path) -> None:
    documents = of(*CASES[case])
    strictly_valid(documents, tmp_path)
    kinds = [document["kind"] for document in documents]
    assert {"as it is": 7, "alone": 4, "everything": 11}.get(case, len(kinds)) == len(kinds), kinds


@pytest.mark.deploy
def test_kubernetes_takes_the_plain_manifests_strictly(tmp_path: Path) -> None:
    strictly_valid(plain(), tmp_path)


@pytest.mark.deploy
def test_the_strict_schemas_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    (monitor,) = (one for one in of(*CASES["everything"]) if one["kind"] == "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["intervall"] = "10s"
    with pytest.raises(AssertionError, match="'intervall' was unexpected"):
        strictly_valid([monitor], tmp_path)
    (nodes,) = (one for one in of(*CASES["as it is"]) if one["kind"] == "StatefulSet")
    nodes["spec"]["replica"] = 3
    with pytest.raises(AssertionError, match="replica"):
        strictly_valid([nodes], tmp_path)


@pytest.mark.deploy
@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case: str) -> None:
    restricted(of(*CASES[case]))


@pytest.mark.deploy
@pytest.mark.parametrize("case", CASES)
def test_the_sidecar_understands_what_it_is_told(case: str) -> None:
    """Every variable, with $(NAME) filled in as the kubelet does it, is a key with a value that is taken."""
    for container in sidecars(of(*CASES[case])):
        config = load(environment(container), {}).config
        port = next(port["containerPort"] for port in container["ports"] if port["name"] == "p2p")
        assert [address.value("tcp") for address in config.listen.addresses] == [str(port)]
        assert len(config.listen.announce) == 1
        assert config.bootstrap.peers
        mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
        for file in (config.state.identity_file, config.network.psk_file, config.api.tokens):
            assert file is None or str(file.parent) in mounted
        assert config.api.socket is not None
        assert {str(config.api.socket.parent), str(config.state.directory)} <= set(mounted)


@pytest.mark.deploy
def test_prometheus_gets_the_job_that_the_alerts_look_at() -> None:
    documents = {document["kind"]: document for document in of(*CASES["everything"])}
    (endpoint,) = documents["ServiceMonitor"]["spec"]["endpoints"]
    (pod_endpoint,) = documents["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert endpoint == pod_endpoint
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "sidecar"}]
    assert endpoint["port"] in [port["name"] for port in documents["Service"]["spec"]["ports"]]
    rules = yaml.safe_load((chart.MONITORING / "alerts.yaml").read_text())
    assert documents["PrometheusRule"]["spec"] == rules
    assert {'job="sidecar"'} == set(re.findall(r'job="[^"]*"', str(rules)))
    dashboard = json.loads(documents["ConfigMap"]["data"]["sidecar.json"])
    assert dashboard == json.loads((chart.MONITORING / "dashboard.json").read_text())
    for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule"):
        assert documents[kind]["metadata"]["labels"]["release"] == "prometheus"
    # The pods beside apps have the labels that are looked for, and a port of that name.
    selected = {"p2p-sidecar/network": "main"}
    for app in of(*CASES["app"]):
        if app["kind"] in ("Deployment", "Job"):
            template = app["spec"]["template"]
            assert selected.items() <= template["metadata"]["labels"].items()
            assert "metrics" in [port["name"] for port in template["spec"]["initContainers"][0]["ports"]]
    assert documents["PodMonitor"]["spec"]["selector"]["matchLabels"] == {"p2p-sidecar/network": "production"}


@pytest.mark.deploy
def test_numbers_and_lists_arrive_as_they_were_written() -> None:
    container = next(sidecars(of(*CASES["everything"])))
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["SIDECAR_LIMITS_CONNECTIONS"] == "100000"
    assert variables["SIDECAR_GOSSIP_FLOOD_PUBLISH"] == "false"
    assert variables["SIDECAR_DHT_NAMESPACES"] == "pk=pk,app=signed:refuse_prefix=x"


@pytest.mark.deploy
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("app")])
def test_beside_an_app_it_is_a_native_sidecar_with_its_socket_shared(case: str) -> None:
    documents = of(*CASES[case])
    apps = [one for one in documents if one["kind"] in ("Deployment", "Job") and not hook(one)]
    assert [app["kind"] for app in apps] == ["Deployment", "Job"]
    for app in apps:
        pod = app["spec"]["template"]["spec"]
        (sidecar,) = pod["initContainers"]
        (own,) = pod["containers"]
        assert sidecar["restartPolicy"] == "Always"
        assert "startupProbe" in sidecar  # the app is started when the API answers
        assert {"name": "sidecar-api", "mountPath": "/run/sidecar"} in sidecar["volumeMounts"]
        assert {"name": "sidecar-api", "mountPath": "/run/sidecar"} in own["volumeMounts"]
        assert {"name": "SIDECAR_API", "value": "unix:/run/sidecar/api.sock"} in own["env"]
        assert {"name": "SIDECAR_API_MODE", "value": "0660"} in sidecar["env"]
        assert own["securityContext"]["runAsUser"] != sidecar["securityContext"]["runAsUser"]
        assert pod["securityContext"]["fsGroup"] == sidecar["securityContext"]["runAsGroup"]
        named = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in [*sidecar["volumeMounts"], *own["volumeMounts"]]} == named


@pytest.mark.deploy
def test_bootstrap_nodes_are_found_by_the_name_of_their_service() -> None:
    documents = {document["kind"]: document for document in of(*CASES["as it is"]) if not hook(document)}
    service, nodes = documents["Service"], documents["StatefulSet"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert nodes["spec"]["serviceName"] == service["metadata"]["name"]
    labels = nodes["spec"]["template"]["metadata"]["labels"]
    for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget", "StatefulSet"):
        spec = documents[kind]["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()
    (container,) = nodes["spec"]["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    host = f"{service['metadata']['name']}.$(POD_NAMESPACE).svc.cluster.local"
    assert variables["SIDECAR_BOOTSTRAP_PEERS"] == f"/dns4/{host}/tcp/4747"
    assert variables["SIDECAR_LISTEN_ANNOUNCE"] == f"/dns4/$(POD_NAME).{host}/tcp/4747"


@pytest.mark.deploy
def test_the_plain_manifests_are_what_the_charts_make() -> None:
    """`make manifests` writes them anew."""
    assert {name: (manifests.PLACE / name).read_text() for name in manifests.FILES} == manifests.rendered(tool("helm"))


# ---------------------------------------------------------------- the way that the documentation goes


@pytest.mark.deploy
def test_the_examples_app_joins_the_release_next_to_it() -> None:
    """What a release named `sidecar` serves is where the example's pods look, unless it has nodes of its own."""
    (service,) = (one for one in of(*CASES["as it is"]) if one["kind"] == "Service")
    example = of(*CASES["app"])
    assert {one["kind"] for one in example} == {"Deployment", "Job"}
    for container in sidecars(example):
        (address,) = load(environment(container), {}).config.bootstrap.peers
        assert address.value("dns4") == service["metadata"]["name"]
        assert address.value("tcp") == str(service["spec"]["ports"][0]["port"])
    own = of(*CASES["app with nodes of its own"])
    (served,) = (one for one in own if one["kind"] == "Service")
    for container in sidecars([one for one in own if one["kind"] in ("Deployment", "Job") and not hook(one)]):
        (address,) = load(environment(container), {}).config.bootstrap.peers
        assert address.value("dns4") == f"{served['metadata']['name']}.{manifests.NAMESPACE}.svc.cluster.local"


@pytest.mark.deploy
def test_a_job_has_another_name_at_each_upgrade() -> None:
    """The pod of a Job cannot be changed."""
    text = (manifests.CHARTS / "example-app" / "templates" / "job.yaml").read_text()
    assert "-once-{{ .Release.Revision }}" in text
    (job,) = (one for one in of(*CASES["app"]) if one["kind"] == "Job")
    assert job["metadata"]["name"] == "sidecar-once-1"
