"""Controllers on an etcd that k0s does not run: TLS, a prefix for each cluster, three replicas without join tokens."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.contract.conftest import Facts, Start
from e2e.contract.k0s import Controller, Subject
from e2e.contract.machine import Machine, Process, machine, until
from e2e.contract.material import Pair, pair, shared_pki

_HUB = "10.99.0.1"


class Hub:
    """A network that machines are plugged into, with an etcd in its middle."""

    def __init__(self, place: Machine, authority: Pair) -> None:
        self.place, self._authority = place, authority
        self._plugs = 0

    def plug(self, pid: int) -> None:
        """Connect the machine held by process `pid`."""
        self._plugs += 1
        name = f"port{self._plugs}"
        self.place.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self.place.run("ip", "link", "set", name, "master", "eth0", "up")

    def client_files(self) -> dict[str, bytes]:
        """The etcd client certificate of a controller, readable for the API server's user."""
        client = pair("tenant", signer=self._authority)
        files = {"ca.crt": self._authority.crt, "client.crt": client.crt, "client.key": client.pem}
        return {f"/etc/k0s/etcd/{name}": content for name, content in files.items()}


@pytest.fixture
def hub(subject: Subject, tmp_path: Path) -> Iterator[Hub]:
    """The network and its etcd."""

    def bridge(pid: int) -> None:
        import subprocess

        argv = ["nsenter", f"--target={pid}", "--net", "--", "ip", "link", "add", "eth0", "type", "bridge"]
        subprocess.run(argv, check=True)

    with ExitStack() as stack:
        place = stack.enter_context(
            machine("hub", tmp_path / "hub", path=[subject.components], address=_HUB, link=bridge)
        )
        authority = pair("etcd-ca")
        server = pair("etcd", signer=authority, hosts=(_HUB, "127.0.0.1"))
        folder = tmp_path / "hub" / "etcd"
        folder.mkdir()
        for name, content in (("ca.crt", authority.crt), ("server.crt", server.crt), ("server.key", server.pem)):
            (folder / name).write_bytes(content)
        url = f"https://{_HUB}:2379"
        etcd = Process(place, [
            "etcd", "--unsafe-no-fsync", f"--data-dir={folder}/data", f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}", "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=default=http://127.0.0.1:2380",
            "--client-cert-auth", f"--trusted-ca-file={folder}/ca.crt",
            f"--cert-file={folder}/server.crt", f"--key-file={folder}/server.key",
        ], log=tmp_path / "hub" / "etcd.log")  # fmt: skip
        stack.callback(etcd.end)
        yield Hub(place, authority)


def _spec(prefix: str, *, address: str = "") -> dict[str, Any]:
    files = {"caFile": "ca.crt", "clientCertFile": "client.crt", "clientKeyFile": "client.key"}
    external = {"endpoints": [f"https://{_HUB}:2379"], "etcdPrefix": prefix}
    external |= {field: f"/etc/k0s/etcd/{name}" for field, name in files.items()}
    return {
        "api": {"externalAddress": address} if address else {},
        "storage": {"type": "etcd", "etcd": {"externalCluster": external}},
        "network": {"provider": "custom"},
    }


def test_a_prefix_for_each_cluster(hub: Hub, start: Start, facts: Facts) -> None:
    """Two clusters on one etcd do not see each other; k0s runs no store of its own and makes no etcd PKI."""
    clusters: list[Controller] = []
    for number, name in enumerate(("one", "two")):
        clusters.append(start(
            spec=_spec(f"/{name}"), name=name, address=f"10.99.0.{2 + number}", link=hub.plug, files=hub.client_files(),
        ))  # fmt: skip
    for controller in clusters:
        controller.ready()
    one, two = clusters
    one.kubectl("create", "namespace", "mine")
    assert "namespace/mine" in one.kubectl("get", "namespaces", "-o", "name")
    assert "namespace/mine" not in two.kubectl("get", "namespaces", "-o", "name")
    assert one.certificate("ca") != two.certificate("ca")
    assert "etcd" not in one.process.children()
    for folder in ("etcd", "pki/etcd"):
        assert one.data(folder).exists() is facts("behaviour")["external-etcd-makes-folders"], folder
    assert not list(one.data("etcd").glob("*"))
    flags = one.flags("kube-apiserver")
    assert {k: v for k, v in flags.items() if k.startswith("etcd-")} == {
        "etcd-servers": f"https://{_HUB}:2379", "etcd-prefix": "/one", "etcd-cafile": "/etc/k0s/etcd/ca.crt",
        "etcd-certfile": "/etc/k0s/etcd/client.crt", "etcd-keyfile": "/etc/k0s/etcd/client.key",
    }  # fmt: skip


def test_three_replicas(hub: Hub, start: Start) -> None:
    """Started at once with the same PKI and etcd, without tokens, they are one cluster and know how many they are."""
    shared = shared_pki() | hub.client_files()
    spec = _spec("/tenant", address="10.99.0.2")
    replicas = [
        start(spec=spec, name=f"c{n}", address=f"10.99.0.{2 + n}", link=hub.plug, files=shared) for n in range(3)
    ]
    for replica in replicas:
        replica.ready(within=120)
    first, second, third = replicas

    def counts() -> set[str]:
        return {r.flags("konnectivity-server")["server-count"] for r in replicas}

    until(lambda: counts() == {"3"}, within=60, what="server-count 3 everywhere")
    assert len({r.flags("konnectivity-server")["server-id"] for r in replicas}) == 3

    def agents() -> str:
        item = first.get("daemonset", "-n", "kube-system", "konnectivity-agent")
        env = item["spec"]["template"]["spec"]["containers"][0]["env"]
        return next(str(e["value"]) for e in env if e["name"] == "K0S_CONTROLLER_COUNT")

    until(lambda: agents() == "3", within=30, what="agents that know of three servers")
    leases = {i["metadata"]["name"]: i["spec"] for i in first.get("leases", "-n", "kube-node-lease")["items"]}
    minor = first.subject.minor
    assert {
        "k0s-ctrl-c0",
        "k0s-ctrl-c1",
        "k0s-ctrl-c2",
        "k0s-endpoint-reconciler",
        f"k0s-worker-config-{minor}",
    } <= set(leases)
    holders = {leases[f"k0s-ctrl-c{n}"]["holderIdentity"] for n in range(3)}
    assert len(holders) == 3
    assert leases["k0s-endpoint-reconciler"]["holderIdentity"] in holders

    def account() -> object:
        return first.get("serviceaccount", "default")

    first.wait_for(account, within=30, what="a ServiceAccount")
    token = first.kubectl("create", "token", "default").strip()
    assert second.curl("/api", "-H", f"Authorization: Bearer {token}")[0] == 200
    joining = yaml.safe_load(gzip.decompress(base64.b64decode(first.k0s("token", "create"))))
    bearer = joining["users"][0]["user"]["token"]

    def elsewhere() -> bool:
        return second.curl("/api", "-H", f"Authorization: Bearer {bearer}")[0] == 200

    until(elsewhere, within=10, what="the join token at another replica")
    # A replica that ends gracefully is not counted any more.
    assert third.process.stop()[0] == 0
    left = (first, second)
    until(
        lambda: {r.flags("konnectivity-server")["server-count"] for r in left} == {"2"},
        within=90,
        what="server-count 2",
    )
    assert first.kubectl("get", "--raw=/readyz") == "ok"
