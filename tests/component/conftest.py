"""Fixtures of the component tests: one management cluster for the session, one namespace for each test.

* `server`: a real kube-apiserver with etcd and controller-manager (see `apiserver.Server`): `server.access(user)`,
  `server.audit`, `server.kubectl(...)`.
* `kubelet`: the stand-in kubelet, always running: `kubelet.script(namespace, "kmc-a-*", CRASHING)`.
* `namespace`: the name of a fresh namespace, deleted at the end.
* `kinds`: our own kinds are installed, or the test fails saying why the server refused them.
* `stage`: a namespace for the whole operator, under the rights that are shipped (see `hosting.Stage`).
* `capi_server`, `capi_kubelet`, `capi_tenants`: the same with Cluster API, for a file of tests (see `capi.CapiStage`).
* `desk`: an executor of its own, and the object that its plans are about (see `desk.Bench`).
* `admin`: a `hosted_cp.kube` client that may do everything, for the test's own hands.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest
import yaml

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import certificate_credentials
from hosted_cp.kube.resources import NAMESPACE
from k0s_images.golang import components
from tests.component.apiserver import Server, running
from tests.component.audit import Audit
from tests.component.capi import CapiStage, management, staged
from tests.component.desk import Bench, bench
from tests.component.hosting import DEPLOYED, NODE_ADDRESS, OPERATOR, Stage, node, storage_class
from tests.component.kubelet import NODE, StandInKubelet
from tests.component.standin_tenants import StandInTenants
from tests.component.test_client import credentials_of
from tests.component.webhook import as_stored

#: Files that take longest, the longest first. Where files run side by side, one that comes last is waited for alone.
LONG = (
    "test_invariants_crashes", "test_control_planes", "test_capi_deletion", "test_cluster_class",
    "test_invariants_capi", "test_worker_configs", "test_invariants_api_faults", "test_clusterctl",
    "test_clusterctl_install", "test_invariants_counts", "test_invariants_variants", "test_invariants_drift",
    "test_merging",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the real server; what takes long comes first."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.component)
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)) if here in item.path.parents else len(LONG))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The management cluster, with `Cluster` and `JoinTokenRequest` as they are stored."""
    crds = as_stored(tmp_path_factory.mktemp("crds"))
    with running(tmp_path_factory.mktemp("management"), components("1.36"), crds=crds) as started:
        yield started


@pytest.fixture(scope="session")
def kinds(server: Server) -> None:
    """For tests that need our own kinds: fails if the API server refused `crds/`."""
    if server.refused_kinds:
        pytest.fail(server.refused_kinds)


@pytest.fixture(scope="session")
def _kubelet(server: Server) -> Iterator[StandInKubelet]:
    with StandInKubelet(server) as kubelet:
        yield kubelet


@pytest.fixture
def kubelet(_kubelet: StandInKubelet) -> StandInKubelet:
    """The stand-in kubelet. Scripts belong to a namespace, so tests do not disturb one another."""
    return _kubelet


@pytest.fixture
def audit(server: Server) -> Audit:
    """What the API server wrote down."""
    return server.audit


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[ApiClient]:
    """A client of the group system:masters, user `admin`."""
    access = server.admin
    credentials = certificate_credentials(
        server=access.server, ca=access.ca, certificate=access.pair.certificate, key=access.pair.key
    )
    async with ApiClient(credentials, agent="component-test") as client:
        yield client


@pytest.fixture
async def namespace(admin: ApiClient, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A fresh namespace; its deletion is begun at the end, and not waited for."""
    readable = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    name = f"{readable}-{uuid.uuid4().hex[:6]}"
    await admin.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await admin.delete(NAMESPACE, None, name)


@pytest.fixture
async def desk(server: Server, admin: ApiClient, namespace: str) -> AsyncIterator[Bench]:
    """An executor under a user of its own."""
    async with (
        ApiClient(credentials_of(server.access(f"operator-{namespace}", "system:masters"))) as client,
        bench(client, admin, namespace) as made,
    ):
        yield made


@pytest.fixture(scope="session")
def _tenants(server: Server) -> Iterator[StandInTenants]:
    with StandInTenants(server) as tenants:
        yield tenants


@pytest.fixture(scope="session")
def _deployed(server: Server, kinds: None) -> None:
    """The operator's rights, exactly as shipped, a node with an address, and a default StorageClass."""
    shipped = list(yaml.safe_load_all(DEPLOYED.read_text(encoding="utf-8")))
    rights = [each for each in shipped if each["kind"] != "Deployment"]
    server.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(rights).encode())
    for body in (node(), storage_class()):
        server.kubectl("create", "-f", "-", stdin=orjson.dumps(body))
    address = {"status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]}}
    server.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", orjson.dumps(address).decode())


@pytest.fixture
def stage(
    server: Server, admin: ApiClient, kubelet: StandInKubelet, _tenants: StandInTenants, _deployed: None, namespace: str
) -> Stage:
    """A namespace for the whole operator."""
    access = server.access(OPERATOR, "system:serviceaccounts", "system:serviceaccounts:hosted-cp")
    return Stage(server=server, admin=admin, kubelet=kubelet, tenants=_tenants, namespace=namespace, access=access)


@pytest.fixture(scope="module")
def capi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A management cluster with Cluster API: core's manager, and the kinds of its providers."""
    with management(tmp_path_factory.mktemp("cluster-api")) as server:
        yield server


@pytest.fixture(scope="module")
def capi_kubelet(capi_server: Server) -> Iterator[StandInKubelet]:
    with StandInKubelet(capi_server) as kubelet:
        yield kubelet


@pytest.fixture(scope="module")
def capi_tenants(capi_server: Server) -> Iterator[StandInTenants]:
    with StandInTenants(capi_server) as tenants:
        yield tenants


@pytest.fixture
async def capi_stage(
    capi_server: Server, capi_kubelet: StandInKubelet, capi_tenants: StandInTenants
) -> AsyncIterator[CapiStage]:
    """A namespace for the whole operator beside core's manager. Files of such tests call it their `stage`."""
    async with staged(capi_server, capi_kubelet, capi_tenants) as fresh:
        yield fresh


@pytest.fixture
async def capi_stages(
    capi_server: Server, capi_kubelet: StandInKubelet, capi_tenants: StandInTenants
) -> AsyncIterator[tuple[CapiStage, CapiStage]]:
    """Two such namespaces beside one another."""
    async with (
        staged(capi_server, capi_kubelet, capi_tenants) as one,
        staged(capi_server, capi_kubelet, capi_tenants) as two,
    ):
        yield one, two


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real API server in the place of a tenant's."""
    with running(tmp_path_factory.mktemp("tenant"), components("1.36"), controllers=()) as started:
        yield started
