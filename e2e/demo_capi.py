"""`make demo-capi`: a cluster of Cluster API from one manifest, with the real core manager and machines that boot.

It goes the whole way of such a cluster: created, scaled up and down, moved to another version, and (unless `--keep`)
deleted. The management cluster stays; `make demo-capi-down` removes every trace.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e import operator, tenants
from e2e.capi import management, manifests
from e2e.capi.programs import cluster_api
from e2e.demo import Phases
from e2e.lab import cluster, state
from e2e.lab.cluster import Lab
from e2e.lab.network import LabError
from e2e.lab.processes import call
from e2e.tenants import Tenant
from k0s_images import images
from k0s_images.cache import BuildError, say
from k0s_images.choice import K0sImage, choose, given_binary

EXAMPLE = operator.ROOT / "examples" / "capi" / "hosted.yaml"
CLUSTER = "clusters.cluster.x-k8s.io"
_LIMIT = 300.0
#: Kinds of which nothing may be left when a cluster has been deleted.
_ALL = (
    CLUSTER, "machinedeployments", "machinesets", "machines", "k0smotroncontrolplanes", "k0sworkerconfigs",
    "k0sworkerconfigtemplates", "labclusters", "labmachines", "labmachinetemplates", "statefulsets", "pods", "services",
    "configmaps", "secrets", "persistentvolumeclaims",
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run the demo, or with `down` remove it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m e2e.demo_capi", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("run", "down"), default="run")
    parser.add_argument("--lab", default="demo-capi", help="name of the management cluster (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="do not delete the cluster in the end")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.what == "down":
            cluster.down(chosen.lab)
            return 0
        _demo(chosen.lab, keep=chosen.keep)
    except (LabError, BuildError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def _demo(lab_name: str, *, keep: bool) -> None:
    phases = Phases()
    begun = time.monotonic()
    with phases.phase("images and programs (built once, then cached)"):
        newer = choose(binary=given_binary())
        older = choose(next(each for each in images.STAND_INS if each != _full(newer)))
        archives = operator.image_archives(newer, older)
        images.archives(only=(images.TOOLBOX, images.konnectivity_agent_name(), images.PAUSE))
        release = cluster_api()
    say(f"control planes run {newer.says}; before that {older.says}")
    with phases.phase("management cluster (etcd, API server, kubelet, containerd)"):
        lab = cluster.up(lab_name)
        lab.load_images(archives)
    with phases.phase("operator (a Deployment under its own ClusterRole)"):
        operator.deploy(lab, newer)
        management.install_kinds(lab)
    with phases.phase(f"Cluster API {release.version}: the core manager; the lab's infrastructure provider"):
        management.start(lab)

    documents: list[dict[str, Any]] = list(yaml.safe_load_all(EXAMPLE.read_text()))
    name = documents[0]["metadata"]["name"]
    with phases.phase("examples/capi/hosted.yaml -> the control plane answers"):
        _apply(lab, manifests.for_lab(lab, documents, older))
        _wait(lab, f"{CLUSTER}/{name}", "condition=ControlPlaneInitialized")
        tenant = tenants.kubeconfig(lab, name, lab.folder / "tenants")
    workers = f"machinedeployments/{name}-workers"
    with phases.phase("two machines boot, run their user data, and are Ready nodes"):
        _nodes(lab, tenant, workers, 2)
    for count, what in ((3, "a third machine"), (1, "back to one; the others are drained first")):
        with phases.phase(f"kubectl scale --replicas={count}: {what}"):
            lab.kubectl("scale", workers, f"--replicas={count}")
            _nodes(lab, tenant, workers, count)
    with phases.phase(f"version {manifests.kubelet_version(newer)}: the control plane"):
        change = {"spec": {"version": manifests.kubelet_version(newer)}}
        _patch(lab, f"k0smotroncontrolplanes/{name}", change)
        _wait(lab, f"k0smotroncontrolplanes/{name}", f"jsonpath={{.status.version}}={change['spec']['version']}")
    with phases.phase("the same: the workers"):
        _roll(lab, documents, newer, workers)
        _nodes(lab, tenant, workers, 1)
    described = _describe(lab, release.clusterctl, name)
    print(f"\n{described}\n\n{tenant.kubectl('get', 'nodes', '-o', 'wide')}")
    if not keep:
        with phases.phase(f"kubectl delete cluster {name}: nothing is left"):
            lab.kubectl("delete", f"{CLUSTER}/{name}", f"--timeout={_LIMIT:.0f}s", seconds=_LIMIT + 10)
            _templates_too(lab, documents, name)
            left = leftovers(lab, name)
            if left:
                raise LabError(f"the cluster {name} was deleted and has left {', '.join(left)}")
    print("\nPhases:\n" + phases.table())
    print(f"  all in all {time.monotonic() - begun:.1f} s\n")
    print(f"`make demo-capi-down` removes every trace; the management cluster: export KUBECONFIG={lab.kubeconfig}")


def _full(k0s: K0sImage) -> str:
    return k0s.tag.replace("-k0s.", "+k0s.")


def _apply(lab: Lab, documents: Sequence[dict[str, Any]]) -> None:
    lab.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))


def _patch(lab: Lab, what: str, change: dict[str, Any]) -> None:
    lab.kubectl("patch", what, "--type=merge", "-p", json.dumps(change))


def _wait(lab: Lab, what: str, until: str, *, seconds: float = _LIMIT) -> None:
    """Wait by watch; on failure say what core knows about it."""
    try:
        lab.kubectl("wait", what, f"--for={until}", f"--timeout={seconds:.0f}s", seconds=seconds + 10)
    except LabError as error:
        said = _describe(lab, cluster_api().clusterctl, what.partition("/")[2].removesuffix("-workers"))
        raise LabError(f"{error}\n{said}") from None


def _nodes(lab: Lab, tenant: Tenant, workers: str, count: int) -> None:
    """Until the machines are as many as they should be, of the version they should have, and Ready nodes."""
    generation = lab.kubectl("get", workers, "-o", "jsonpath={.metadata.generation}")
    _wait(lab, workers, f"jsonpath={{.status.observedGeneration}}={generation}")
    for field in ("replicas", "upToDateReplicas", "availableReplicas"):
        _wait(lab, workers, f"jsonpath={{.status.{field}}}={count}")
    tenant.kubectl("wait", "node", "--all", "--for=condition=Ready", f"--timeout={_LIMIT:.0f}s", seconds=_LIMIT + 10)


def _roll(lab: Lab, documents: Sequence[dict[str, Any]], k0s: K0sImage, workers: str) -> None:
    """Another template for another version, as templates are not changed; and the workers referred to it."""
    found = manifests.for_lab(lab, [each for each in documents if each["kind"] == "K0sWorkerConfigTemplate"], k0s)[0]
    found["metadata"]["name"] += f"-{manifests.minor_of(k0s).replace('.', '-')}"
    _apply(lab, [found])
    reference = {"bootstrap": {"configRef": {"name": found["metadata"]["name"]}}}
    _patch(lab, workers, {"spec": {"template": {"spec": {"version": manifests.kubelet_version(k0s), **reference}}}})


def _describe(lab: Lab, clusterctl: Path | None, name: str) -> str:
    if clusterctl is None:
        return ""
    return call([clusterctl, "describe", "cluster", name, "--kubeconfig", lab.kubeconfig])


def _templates_too(lab: Lab, documents: Sequence[dict[str, Any]], name: str) -> None:
    """Templates belong to their Cluster and are collected with it, a moment later."""
    for kind in ("k0sworkerconfigtemplates", "labmachinetemplates", "secrets", "statefulsets", "pods"):
        label = () if "templates" in kind else ("-l", f"cluster.x-k8s.io/cluster-name={name}")
        lab.kubectl("wait", kind, *(label or ("--all",)), "--for=delete", "--timeout=60s", seconds=70)


def leftovers(lab: Lab, name: str, *, namespace: str = "default") -> list[str]:
    """What is left of a cluster: objects by which it was made up, and edge machines."""
    listed = json.loads(lab.kubectl("-n", namespace, "get", ",".join(_ALL), "-o", "json"))["items"]
    found = [
        f"{each['kind']}/{each['metadata']['name']}"
        for each in listed
        if name in (each["metadata"]["name"], _cluster_of(each)) or each["metadata"]["name"].startswith(f"{name}-")
    ]
    known = state.read(lab.folder)
    return found + [f"machine {edge}" for edge, _ in (known.edges if known else ()) if edge.startswith(f"{name}-")]


def _cluster_of(body: dict[str, Any]) -> str:
    return str((body["metadata"].get("labels") or {}).get("cluster.x-k8s.io/cluster-name", ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
