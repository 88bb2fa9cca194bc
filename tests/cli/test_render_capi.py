"""`hosted-cp render` of what belongs to a cluster of Cluster API: control planes and workers, from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_render import cluster, render, shown

EXAMPLE = Path(__file__).parents[2] / "examples" / "capi" / "hosted.yaml"
CORE = "cluster.x-k8s.io/v1beta2"
CONTROL_PLANE = "controlplane.cluster.x-k8s.io/v1beta2"
BOOTSTRAP = "bootstrap.cluster.x-k8s.io/v1beta2"
VERSION = "v1.36.3+k0s"


def made(api: str, kind: str, name: str, spec: Any, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def reference(api: str, kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": api.partition("/")[0], "kind": kind, "name": name}


def core(name: str = "prod", **spec: Any) -> dict[str, Any]:
    ours = reference(CONTROL_PLANE, "K0smotronControlPlane", "prod-cp")
    return made(CORE, "Cluster", name, {"controlPlaneRef": ours, **spec})


def plane(**spec: Any) -> dict[str, Any]:
    return made(CONTROL_PLANE, "K0smotronControlPlane", "prod-cp", {"version": VERSION, **spec})


def machine(**spec: Any) -> dict[str, Any]:
    config = {"configRef": reference(BOOTSTRAP, "K0sWorkerConfig", "w-config")}
    return made(CORE, "Machine", "w-0", {"clusterName": "prod", "bootstrap": config, **spec})


def worker(api: str = BOOTSTRAP, **spec: Any) -> dict[str, Any]:
    return made(api, "K0sWorkerConfig", "w-config", spec)


def rendered(*bodies: dict[str, Any]) -> tuple[dict[tuple[str, str], Any], str]:
    result = render(yaml.safe_dump_all(bodies))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert (result.exit_code == 0) == (result.stderr == "")
    for unmarked in ("00000000-0000-0000-0000", "192.0.2.1", "6490", "name-of-the", "2000-01-01"):
        assert unmarked not in result.stdout
    return shown(result), result.stderr


def test_the_example_comes_to_a_control_plane_and_a_worker() -> None:
    objects, said = rendered(*yaml.safe_load_all(EXAMPLE.read_text()))
    assert said == ""
    assert {("StatefulSet", "kmc-hosted"), ("Secret", "hosted-kubeconfig"), ("Secret", "<name of the Machine>")} <= set(
        objects
    )
    assert objects["Secret", "<name of the Machine>"]["metadata"]["labels"] == {
        "cluster.x-k8s.io/cluster-name": "hosted"
    }


def test_a_control_plane_is_named_after_its_cluster_and_takes_its_network() -> None:
    network = {"pods": {"cidrBlocks": ["192.168.0.0/16"]}, "services": {"cidrBlocks": ["10.128.0.0/12"]}}
    objects, said = rendered(core(clusterNetwork=network), plane())
    assert said == ""
    config = objects["Secret", "kmc-prod-config"]["data"]["<made by>"]["k0s.yaml"]["spec"]["network"]
    assert (config["podCIDR"], config["serviceCIDR"]) == ("192.168.0.0/16", "10.128.0.0/12")
    kubeconfig = objects["Secret", "prod-kubeconfig"]
    assert kubeconfig["type"] == "cluster.x-k8s.io/secret"
    assert kubeconfig["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == "prod"
    owner = kubeconfig["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"]) == ("K0smotronControlPlane", "prod-cp")
    assert owner["uid"] == "<UID of the K0smotronControlPlane>"
    image = objects["StatefulSet", "kmc-prod"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.endswith(":v1.36.3-k0s.2")


def test_references_of_the_old_api_lead_to_the_same() -> None:
    old = {"apiVersion": "controlplane.cluster.x-k8s.io/v1beta1", "kind": "K0smotronControlPlane", "name": "prod-cp"}
    new, _ = rendered(core(), plane())
    assert rendered({**core(controlPlaneRef=old), "apiVersion": "cluster.x-k8s.io/v1beta1"}, plane()) == (new, "")


@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ([plane()], "metadata.ownerReferences: no Cluster of Cluster API in this file names it"),
        ([made(CORE, "Cluster", "prod", {}), plane()], "no Cluster of Cluster API in this file names it"),
        ([core(), plane(), core(controlPlaneRef={"kind": "Other", "name": "prod-cp"})], ""),
        ([core(), plane(replica=2)], "K0smotronControlPlane prod-cp: spec.replica: is no field of a"),
        ([core(), plane(version="v1.20.0")], "spec.version: "),
        ([core(), plane(replicas="x")], "spec.replicas: "),
        ([core(clusterNetwork={"pods": {"cidrBlocks": ["x"]}}), plane()], "is no network range"),
        ([{**core(), "metadata": {"name": "prod", "namespace": "other"}}, plane()], "no Cluster of Cluster API"),
    ],
)
def test_what_is_wrong_with_a_control_plane(bodies: list[dict[str, Any]], words: str) -> None:
    objects, said = rendered(*bodies)
    assert (words in said) if words else (said == "")
    assert bool(objects) is (not words or "is no field" in words)


def test_a_machines_user_data_are_shown_with_marks_for_what_is_secret() -> None:
    files = [
        {"path": "/etc/a", "content": "hello\nworld\n", "permissions": "0600"},
        {"path": "/etc/b", "contentFrom": {"secretRef": {"name": "s", "key": "k"}}},
        {"path": "/etc/c", "contentFrom": {"configMapRef": {"name": "m", "key": "k"}}},
    ]
    config = worker(files=files, preK0sCommands=["echo before"], args=["--debug"])
    objects, said = rendered(core(), plane(), machine(version=VERSION), config)
    assert said == ""
    secret = objects["Secret", "w-config"]
    assert secret["type"] == "cluster.x-k8s.io/secret"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "<UID of the K0sWorkerConfig>"
    assert secret["data"]["format"] == "cloud-config"
    assert secret["data"]["<made by>"]["token"].startswith("<join token <id> for <endpoint of the Cluster>")
    cloud = yaml.safe_load(secret["data"]["value"])
    contents = {each["path"]: each["content"] for each in cloud["write_files"]}
    assert contents == {
        "/etc/k0s.token": "<join token>",
        "/etc/a": "hello\nworld\n",
        "/etc/b": "<k of Secret s>",
        "/etc/c": "<k of ConfigMap m>",
    }
    assert cloud["runcmd"][0] == "echo before"
    assert "K0S_VERSION=v1.36.3+k0s.2" in cloud["runcmd"][1], "as the control plane runs it"
    assert "--hostname-override=w-0" in cloud["runcmd"][2]


@pytest.mark.parametrize(
    ("provisioner", "start"),
    [
        ({"type": "ignition", "ignition": {"variant": "fcos", "version": "1.5.0"}}, "{"),
        ({"type": "powershell-xml", "platform": "windows"}, "<powershell>"),
    ],
)
def test_every_format(provisioner: dict[str, Any], start: str) -> None:
    objects, said = rendered(core(), plane(), machine(), worker(provisioner=provisioner))
    assert said == ""
    data = objects["Secret", "w-config"]["data"]
    assert data["format"] == provisioner["type"]
    assert data["value"].startswith(start)


def test_a_config_alone_has_a_machine_and_a_cluster_without_names() -> None:
    objects, said = rendered(worker(version=VERSION))
    assert said == ""
    secret = objects["Secret", "w-config"]
    assert secret["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == "<name of the Cluster>"
    assert "--hostname-override=<name of the Machine>" in secret["data"]["value"]


def test_a_pool_is_one_of_many_machines() -> None:
    config = {"configRef": reference(BOOTSTRAP, "K0sWorkerConfig", "w-config")}
    inner = {"clusterName": "prod", "version": VERSION, "bootstrap": config}
    pool = made(CORE, "MachinePool", "pool", {"clusterName": "prod", "template": {"spec": inner}})
    objects, said = rendered(core(), pool, worker())
    assert said == ""
    assert "hostname-override" not in objects["Secret", "w-config"]["data"]["value"]


def test_a_worker_of_the_old_version_comes_to_the_same() -> None:
    old = worker(f"{BOOTSTRAP.partition('/')[0]}/v1beta1", preStartCommands=["echo before"], version=VERSION)
    assert rendered(old) == rendered(worker(preK0sCommands=["echo before"], version=VERSION))


def test_the_workers_of_a_class_have_the_version_of_a_cluster_of_it() -> None:
    template = made(BOOTSTRAP, "K0sWorkerConfigTemplate", "t", {"template": {"spec": {}}})
    reference_ = {"apiVersion": BOOTSTRAP, "kind": "K0sWorkerConfigTemplate", "name": "t"}
    workers = {"machineDeployments": [{"class": "w", "bootstrap": {"templateRef": reference_}}]}
    of_class = made(CORE, "ClusterClass", "class", {"workers": workers})
    topology = made(CORE, "Cluster", "one", {"topology": {"classRef": {"name": "class"}, "version": VERSION}})
    objects, said = rendered(template, of_class, topology)
    assert said == ""
    secret = objects["Secret", "<name of the Machine>"]
    assert secret["metadata"]["labels"] == {"cluster.x-k8s.io/cluster-name": "one"}
    assert secret["data"]["<made by>"]["version"].startswith("v1.36.3+k0s")
    old = {"machineDeployments": [{"class": "w", "template": {"bootstrap": {"ref": reference_}}}]}
    topology["spec"]["topology"] = {"class": "class", "version": VERSION}
    of_old = made("cluster.x-k8s.io/v1beta1", "ClusterClass", "class", {"workers": old})
    assert rendered(template, of_old, topology) == (objects, "")
    _, said = rendered(template)
    assert "spec.template.spec.version: is not set, nor is that of Machine <name of the Machine>" in said


@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ([worker()], "K0sWorkerConfig w-config: spec.version: is not set"),
        ([core(), plane(version="v1.35.4+k0s"), machine(version=VERSION), worker()], "is newer than the control plane"),
        ([worker(version=VERSION, files=[{"path": "etc", "content": ""}])], "spec.files[0].path: "),
        ([worker(version=VERSION, arg=[])], "spec.arg: is no field of a K0sWorkerConfig"),
        ([worker(version=VERSION, args=["--labels={{ v1.a }}"])], "set spec.provisioner.instanceData"),
        (
            [made(BOOTSTRAP, "K0sWorkerConfigTemplate", "t", {"template": {"spec": {"version": "x"}}})],
            "K0sWorkerConfigTemplate t: spec.template.spec.version: ",
        ),
    ],
)
def test_what_is_wrong_with_a_worker(bodies: list[dict[str, Any]], words: str) -> None:
    _, said = rendered(*bodies)
    assert words in said


def test_what_is_ours_stands_beside_a_standalone_cluster() -> None:
    result = render(cluster() + "---\n" + yaml.safe_dump_all([core(), plane()]))
    assert result.exit_code == 0
    assert {("StatefulSet", "kmc-demo"), ("StatefulSet", "kmc-prod")} <= set(shown(result))


# --- templates of control planes --------------------------------------------------------------------------------------


def template(*, metadata: Any = None, **spec: Any) -> dict[str, Any]:
    inner = {"spec": spec, **({"metadata": metadata} if metadata else {})}
    return made(CONTROL_PLANE, "K0smotronControlPlaneTemplate", "t", {"template": inner})


def of_class(**topology: Any) -> list[dict[str, Any]]:
    """A class whose control planes are made from the template, and a Cluster of it."""
    named = {"apiVersion": CONTROL_PLANE, "kind": "K0smotronControlPlaneTemplate", "name": "t"}
    return [
        made(CORE, "ClusterClass", "class", {"controlPlane": {"templateRef": named}}),
        made(CORE, "Cluster", "one", {"topology": {"classRef": {"name": "class"}, **topology}}),
    ]


def test_a_template_comes_to_the_control_plane_of_a_cluster_of_its_class() -> None:
    """Version and replicas are the topology's; the control plane's own name is made up later."""
    topology = {"version": "v1.35.4+k0s", "controlPlane": {"replicas": 3}}
    objects, said = rendered(template(service={"type": "NodePort"}, version=VERSION), *of_class(**topology))
    assert said == ""
    controllers = objects["StatefulSet", "kmc-one"]
    assert controllers["spec"]["replicas"] == 3
    assert ":v1.35.4-k0s." in controllers["spec"]["template"]["spec"]["containers"][0]["image"]
    [owner] = controllers["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("K0smotronControlPlane", "<name of the K0smotronControlPlane>")
    assert ("Service", "kmc-one-nodeport") in objects
    # What the same control plane would get if somebody wrote it by hand.
    by_hand, _ = rendered(core("one"), plane(version="v1.35.4+k0s", replicas=3, service={"type": "NodePort"}))
    assert set(by_hand) == set(objects)


def test_of_a_template_alone_neither_name_nor_version_is_known() -> None:
    objects, said = rendered(template(replicas=3, version="v1.35.4+k0s"))
    assert said == ""
    controllers = objects["StatefulSet", "kmc-<name of the Cluster>"]
    assert controllers["spec"]["replicas"] == 3
    assert controllers["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":<version of the Cluster>")
    assert "v1.35.4" not in yaml.safe_dump_all(objects.values())


def test_a_template_of_the_old_version_and_a_class_of_the_old_api_come_to_the_same() -> None:
    old = {**template(replicas=1), "apiVersion": f"{CONTROL_PLANE.partition('/')[0]}/v1beta1"}
    [class_, cluster_] = of_class(version=VERSION)
    class_["spec"]["controlPlane"] = {"ref": class_["spec"]["controlPlane"]["templateRef"]}
    cluster_["spec"]["topology"] = {"class": "class", "version": VERSION}
    assert rendered(old, class_, cluster_) == rendered(template(replicas=1), *of_class(version=VERSION))


@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        (
            [template(controlPlaneFlags=["--single"])],
            "K0smotronControlPlaneTemplate t: spec.template.spec.controlPlaneFlags",
        ),
        ([template(replica=2)], "spec.template.spec.replica: is no field of a K0smotronControlPlaneTemplate"),
        ([template(), *of_class(version="v1.20.0")], "spec.template.spec.version: "),
    ],
)
def test_what_is_wrong_with_a_template(bodies: list[dict[str, Any]], words: str) -> None:
    _, said = rendered(*bodies)
    assert words in said


# --- tokens -----------------------------------------------------------------------------------------------------------


def token(api: str = "k0smotron.io/v1beta2", **spec: Any) -> dict[str, Any]:
    return made(api, "JoinTokenRequest", "join", {"clusterName": "prod", **spec})


def test_a_request_for_a_token_comes_to_a_secret_with_a_recipe() -> None:
    objects, said = rendered(token(expiry="90s"))
    assert said == ""
    [secret] = objects.values()
    metadata = secret["metadata"]
    assert (secret["kind"], metadata["name"]) == ("Secret", "join")
    assert metadata["labels"]["k0smotron.io/cluster"] == "prod"
    assert metadata["annotations"] == {"hosted-cp.io/expires": "<now + 90s>"}
    assert metadata["ownerReferences"][0]["uid"] == "<UID of the JoinTokenRequest>"
    assert secret["data"] == {
        "<made by>": {
            "recipe": "join token", "id": "<id>", "role": "worker", "server": "<endpoint of the Cluster>",
            "ca": "<tls.crt of Secret prod-ca>", "caFingerprint": "<SHA-256 of the CA's certificate>",
            "tenant": "<UID of the Cluster>", "secret": "<token-secret of Secret bootstrap-token-<id> in the tenant>",
        }
    }  # fmt: skip


def test_a_token_leads_to_the_tenant_that_is_in_the_file() -> None:
    service = {"type": "LoadBalancer", "apiPort": 7443}
    brought = [{"type": "ca", "name": "my-ca"}]
    standalone = yaml.safe_load(cluster(metadata={"name": "prod"}, service=service, certificateRefs=brought))
    objects, said = rendered(standalone, token())
    assert said == ""
    recipe = objects["Secret", "join"]["data"]["<made by>"]
    assert (recipe["server"], recipe["ca"]) == (
        "https://<address of the load balancer>:7443", "<tls.crt of Secret my-ca>"
    )  # fmt: skip
    assert objects["Secret", "join"]["metadata"]["annotations"] == {"hosted-cp.io/expires": "<now + 1h>"}
    # Of a control plane of Cluster API by the name of its Cluster; and of a namespace's own.
    objects, said = rendered(core(), plane(externalAddress="cp.example", service=service), token())
    assert said == ""
    assert objects["Secret", "join"]["data"]["<made by>"]["server"] == "https://cp.example:7443"
    elsewhere = {**standalone, "metadata": {"name": "prod", "namespace": "other"}}
    objects, _ = rendered(elsewhere, token())
    assert objects["Secret", "join"]["data"]["<made by>"]["server"] == "<endpoint of the Cluster>"


def test_a_token_for_a_tenant_that_is_refused_leads_somewhere() -> None:
    objects, said = rendered(yaml.safe_load(cluster(metadata={"name": "prod"}, replicas=0)), token())
    assert "Cluster prod: spec.replicas: is 0" in said
    assert objects["Secret", "join"]["data"]["<made by>"]["server"] == "<endpoint of the Cluster>"


def test_a_request_of_the_old_version_comes_to_the_same() -> None:
    old = made("k0smotron.io/v1beta1", "JoinTokenRequest", "join", {"clusterRef": {"name": "prod"}, "expiry": "1h"})
    assert rendered(old) == rendered(token(expiry="1h"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"expiry": "1 hour"}, "JoinTokenRequest join: spec.expiry: "),
        ({"role": "controller"}, "JoinTokenRequest join: spec.role: "),
        ({"rolle": "worker"}, "spec.rolle: is no field of a JoinTokenRequest"),
        ({"clusterName": 5}, "spec.clusterName: "),
    ],
)
def test_what_is_wrong_with_a_request(spec: Any, words: str) -> None:
    _, said = rendered(token(**spec))
    assert words in said
