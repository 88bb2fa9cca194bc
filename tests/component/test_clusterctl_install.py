"""`clusterctl` installs what a release publishes (`release/components.py`), and that works: H of the contract's list.

The program reads our two providers as they are written, into a management cluster with the real core. There each half
of the operator and its webhook run under exactly what was installed: its service accounts and rights, names, arguments
and certificates. Where there is no pod network one thing is exchanged: the webhooks' Services lead to processes of this
machine. API servers find these by the Service's name, and check that the certificate is for that.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from e2e.capi import core, kinds
from hosted_cp.api.kinds import PROVIDERS, of_provider
from hosted_cp.kube.credentials import from_kubeconfig
from hosted_cp.kube.resources import CORE_CLUSTER, SECRET
from hosted_cp.kube.webhook_names import BUNDLE, installation, names
from hosted_cp.operator import Operator
from k0s_images.golang import components
from release import components as published
from tests.component.apiserver import KubectlError, Server, running
from tests.component.capi import CORE, CapiStage, status_of
from tests.component.clusterctl import Clusterctl, initialized, with_repository
from tests.component.core_manager import managing
from tests.component.hosting import NODE_ADDRESS, Object, node, storage_class
from tests.component.joining import machines
from tests.component.kubelet import NODE
from tests.component.test_clusterctl import a_cluster
from tests.component.webhook import Webhook, answering

#: What there may be to upgrade to.
NEXT = "v0.2.0"


@pytest.fixture(scope="module")
def capi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Core and an infrastructure provider, and nothing of ours."""
    folder = tmp_path_factory.mktemp("clusterctl-install")
    with running(folder / "server", components("1.36")) as server:
        server.kubectl("create", "-f", "-", stdin=core.as_yaml([*kinds.crds(), node(), storage_class()]))
        address = {"status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]}}
        server.kubectl(
            "patch", "node", NODE, "--subresource=status", "--type=merge", "-p", orjson.dumps(address).decode()
        )
        with managing(server, series=CORE):
            yield server


@pytest.fixture(scope="module")
def clusterctl(capi_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Clusterctl:
    """Configured as `make components` says, with a further release in the repository."""
    folder = tmp_path_factory.mktemp("repository")
    assert published.main(["--write", str(folder / "ours")]) == 0
    for provider in PROVIDERS:
        this = folder / "ours" / published.label(provider) / published.version()
        shutil.copytree(this, this.with_name(NEXT))
        metadata = published.metadata()
        metadata["releaseSeries"].append({"major": 0, "minor": 2, "contract": published.CONTRACT})
        (this.with_name(NEXT) / "metadata.yaml").write_text(yaml.safe_dump(metadata), encoding="utf-8")
    ours = yaml.safe_load((folder / "ours" / "clusterctl.yaml").read_text(encoding="utf-8"))["providers"]
    return with_repository(folder, capi_server, ours=ours)


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


# --- what was installed, run ------------------------------------------------------------------------------------------


@cache
def wanted(provider: str) -> dict[tuple[str, str], Object]:
    """What was published, by kind and name."""
    return {(each["kind"], each["metadata"]["name"]): each for each in published.components(provider)}


def there(server: Server, provider: str) -> dict[tuple[str, str], Object]:
    """Of that, what there is and clusterctl finds again: in the namespace of the provider, by its labels."""
    kinds_of_all = ",".join(sorted({_plural(each) for each in wanted(provider).values()}))
    labels = f"cluster.x-k8s.io/provider={published.label(provider)},clusterctl.cluster.x-k8s.io="
    found = orjson.loads(server.kubectl("get", kinds_of_all, "-A", "-l", labels, "-o", "json"))["items"]
    return {
        (each["kind"], each["metadata"]["name"]): each
        for each in found
        if each["metadata"].get("namespace", installation(provider)) == installation(provider)
    }


def _plural(body: Object) -> str:
    group, _, version = body["apiVersion"].rpartition("/")
    return f"{body['kind']}.{version}.{group}" if group else body["kind"]


def versions(server: Server) -> dict[tuple[str, str], str]:
    """The inventory by which clusterctl knows what there is of ours: (type, namespace) -> version."""
    if not server.kubectl("get", "crd", "providers.clusterctl.cluster.x-k8s.io", "--ignore-not-found"):
        return {}
    listed = orjson.loads(server.kubectl("get", "providers.clusterctl.cluster.x-k8s.io", "-A", "-o", "json"))
    return {
        (each["type"], each["metadata"]["namespace"]): each["version"]
        for each in listed["items"]
        if each["providerName"] == "hosted-cp"
    }


async def present(clusterctl: Clusterctl, server: Server) -> None:
    """Installed, if they are not yet."""
    if not versions(server):
        await initialized(clusterctl, server)
    assert versions(server) == {
        ("ControlPlaneProvider", "hosted-cp-control-plane"): published.version(),
        ("BootstrapProvider", "hosted-cp-bootstrap"): published.version(),
    }


def container(server: Server, provider: str, name: str) -> Object:
    """The container of an installed Deployment."""
    namespace = installation(provider)
    said = server.kubectl("get", "deployment", name, "-n", namespace, "-o", "json")
    [found] = orjson.loads(said)["spec"]["template"]["spec"]["containers"]
    assert found["name"] == "manager"
    return dict(found)


def user(provider: str, account: str) -> str:
    """What API servers call an installed service account."""
    return f"system:serviceaccount:{installation(provider)}:{account}"


def kubeconfig(server: Server, provider: str, account: str) -> Path:
    """For that account, with a token as pods get one."""
    token = server.kubectl("create", "token", account, "-n", installation(provider)).decode().strip()
    content = yaml.safe_load((server.folder / "admin.kubeconfig").read_text(encoding="utf-8"))
    for each in content["users"]:
        each["user"] = {"token": token}
    path = server.folder / f"{account}-{uuid.uuid4().hex[:8]}.kubeconfig"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@contextmanager
def webhook(server: Server, provider: str) -> Iterator[Webhook]:
    """The installed webhook, and its Service leads to it."""
    name, namespace = names(provider).service, installation(provider)
    program, *words = container(server, provider, name)["args"]
    assert program == "webhook"
    access = kubeconfig(server, provider, name)
    with answering(server.folder / name, f"--kubeconfig={access}", f"--namespace={namespace}", *words) as started:
        outside = {"spec": {"type": "ExternalName", "externalName": "127.0.0.1", "clusterIP": None, "clusterIPs": None}}
        _patch(server, f"service/{name}", outside, "-n", namespace)
        for each in of_provider(provider):
            client = {"webhook": {"clientConfig": {"service": {"port": started.port}}}}
            _patch(server, f"crd/{each.hub.plural}.{each.hub.group}", {"spec": {"conversion": client}})
        configuration = f"validatingwebhookconfiguration/{names(provider).configuration}"
        count = len(orjson.loads(server.kubectl("get", configuration, "-o", "json"))["webhooks"])
        path = "/webhooks/{}/clientConfig/service/port"
        ports = [{"op": "replace", "path": path.format(each), "value": started.port} for each in range(count)]
        server.kubectl("patch", configuration, "--type=json", "-p", orjson.dumps(ports).decode())
        yield started


def _patch(server: Server, what: str, change: Object, *words: str) -> None:
    server.kubectl("patch", what, *words, "--type=merge", "-p", orjson.dumps(change).decode())


@asynccontextmanager
async def both(stage: CapiStage) -> AsyncIterator[dict[str, Operator]]:
    """Both halves of the operator, as they were installed, leading."""
    async with AsyncExitStack() as stack:
        found = {}
        for provider in PROVIDERS:
            assert container(stage.server, provider, installation(provider))["args"] == [
                "run",
                f"--provider={provider}",
            ]
            found[provider] = await stack.enter_async_context(
                stage.operating(
                    provider=provider,
                    credentials=await from_kubeconfig(kubeconfig(stage.server, provider, installation(provider))),
                    lease_namespace=installation(provider), webhook_namespace=installation(provider), namespaces=(),
                )
            )  # fmt: skip
        yield found


async def trusted(stage: CapiStage, provider: str) -> None:
    """Wait until API servers are told to trust the webhook of a provider, for each of its kinds."""
    own = names(provider)
    held = await stage.admin.get(SECRET, installation(provider), own.ca_secret)
    bundle = held["data"][BUNDLE]
    assert b"BEGIN CERTIFICATE" in base64.b64decode(bundle)

    definitions = [f"crd/{each.hub.plural}.{each.hub.group}" for each in of_provider(provider)]
    path = "{.spec.conversion.webhook.clientConfig.caBundle}"
    kubectl = stage.server.kubectl
    await asyncio.to_thread(kubectl, "wait", f"--for=jsonpath={path}", "--timeout=60s", *definitions)
    assert {kubectl("get", each, "-o", f"jsonpath={path}").decode() for each in definitions} == {bundle}


# --- the tests --------------------------------------------------------------------------------------------------------


async def test_installed_by_clusterctl_both_providers_work_under_what_was_installed(
    stage: CapiStage, tenant: Server, clusterctl: Clusterctl
) -> None:
    server = stage.server
    await present(clusterctl, server)
    for provider in PROVIDERS:
        found = there(server, provider)
        assert set(found) == set(wanted(provider))
        for what, body in wanted(provider).items():
            if body["kind"] in ("Role", "ClusterRole"):
                assert found[what]["rules"] == body["rules"]
            if body["kind"] == "CustomResourceDefinition":
                # No dollar sign of any pattern or default is lost on the way.
                schemas = {each["name"]: each["schema"] for each in found[what]["spec"]["versions"]}
                assert schemas == {each["name"]: _typed(each["schema"]) for each in body["spec"]["versions"]}

    with ExitStack() as stack:
        for provider in PROVIDERS:
            stack.enter_context(webhook(server, provider))
        async with both(stage) as operators:
            for provider in PROVIDERS:
                await trusted(stage, provider)
            # Conversion and admission by each provider's own webhook, by the name of its Service.
            for resource in ("k0sworkerconfigs.v1beta1.bootstrap", "k0smotroncontrolplanes.v1beta1.controlplane"):
                server.kubectl("get", f"{resource}.cluster.x-k8s.io", "-n", stage.namespace)
            for body, word in _REFUSED:
                said = _refusal(server, {**body, "metadata": {"name": "bad", "namespace": stage.namespace}})
                assert word in said

            await a_cluster(stage, tenant, workers=1)
            with machines(stage, tenant):
                await stage.until(CORE_CLUSTER, ["a"], lambda b: status_of(b, "Available") == "True")
            for provider, operator in operators.items():
                assert operator.caches is not None
                assert not operator.caches.refused, provider
                own = user(provider, installation(provider))
                asked = stage.audit.requests(user=own)
                assert asked
                assert [each for each in asked if each.code == 403] == []


def _typed(schema: Any) -> Any:
    """A schema after its way through a typed client, which drops a list of properties that is empty."""
    if isinstance(schema, list):
        return [_typed(each) for each in schema]
    if isinstance(schema, dict):
        return {key: _typed(each) for key, each in schema.items() if (key, each) != ("properties", {})}
    return schema


_REFUSED: tuple[tuple[Object, str], ...] = (
    (
        {
            "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "K0sWorkerConfig",
            "spec": {"files": [{"path": "relative", "content": "x"}]},
        },
        "spec.files[0].path",
    ),
    (
        {
            "apiVersion": "controlplane.cluster.x-k8s.io/v1beta2", "kind": "K0smotronControlPlane",
            "spec": {"controlPlaneFlags": ["--single"]},
        },
        "spec.controlPlaneFlags[0]",
    ),
)  # fmt: skip


def _refusal(server: Server, body: Object) -> str:
    try:
        server.kubectl("create", "-f", "-", "--dry-run=server", stdin=orjson.dumps(body))
    except KubectlError as refused:
        return str(refused)
    return ""


async def test_what_it_would_upgrade_and_what_it_takes_away(stage: CapiStage, clusterctl: Clusterctl) -> None:
    """One provider goes without the other, and objects of users stay until somebody says otherwise."""
    server = stage.server
    await present(clusterctl, server)
    plan = await clusterctl.does(server, "upgrade", "plan")
    rows = [line.split() for line in plan.splitlines() if "-hosted-cp " in line]
    assert {(row[0], row[-2], row[-1]) for row in rows} == {
        (published.label(provider), published.version(), NEXT) for provider in PROVIDERS
    }

    await clusterctl.does(server, "upgrade", "apply", f"--bootstrap=hosted-cp-bootstrap/hosted-cp:{NEXT}")
    control_planes = ("ControlPlaneProvider", "hosted-cp-control-plane")
    now = {control_planes: published.version(), ("BootstrapProvider", "hosted-cp-bootstrap"): NEXT}
    assert versions(server) == now
    assert [set(there(server, each)) for each in PROVIDERS] == [set(wanted(each)) for each in PROVIDERS]

    await clusterctl.does(server, "delete", "--bootstrap=hosted-cp")
    stays = {what for what in wanted("bootstrap") if what[0] in ("Namespace", "CustomResourceDefinition")}
    assert set(there(server, "bootstrap")) == stays
    assert set(there(server, "control-plane")) == set(wanted("control-plane"))
    assert versions(server) == {control_planes: published.version()}


async def test_images_are_exchanged_by_the_users_configuration(clusterctl: Clusterctl, tmp_path: Path) -> None:
    """Our own by clusterctl's way for all images; the tenants' by variables, and without these the catalogue's."""

    async def asked(**more: Any) -> dict[str, Any]:
        config = tmp_path / "clusterctl.yaml"
        content = {**yaml.safe_load(clusterctl.config.read_text(encoding="utf-8")), **more}
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        configured = Clusterctl(folder=clusterctl.folder, config=config)
        words = ("generate", "provider", "--control-plane", f"hosted-cp:{published.version()}")
        found = {}
        for body in yaml.safe_load_all(await configured.does(None, *words)):
            if body["kind"] == "Deployment":
                [each] = body["spec"]["template"]["spec"]["containers"]
                values = {one["name"]: one.get("value", "") for one in each["env"]}
                found[each["args"][0]] = (each["image"], [values.get(name) for name in published.VARIABLES])
        return found

    image = f"ghcr.io/hosted-cp/hosted-cp:{published.version()}"
    assert await asked() == {"run": (image, ["", ""]), "webhook": (image, [None, None])}
    given = {
        "images": {"control-plane-hosted-cp": {"repository": "registry.example/mirror"}},
        "HOSTED_CP_K0S_IMAGE": "registry.example:5000/k0s", "HOSTED_CP_ETCD_IMAGE": "registry.example/etcd:v3.6.14",
    }  # fmt: skip
    mirrored = f"registry.example/mirror/hosted-cp:{published.version()}"
    assert await asked(**given) == {
        "run": (mirrored, ["registry.example:5000/k0s", "registry.example/etcd:v3.6.14"]),
        "webhook": (mirrored, [None, None]),
    }
