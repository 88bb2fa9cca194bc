"""`make demo`: from one manifest to a real control plane with a real worker, on this machine.

It shows progress all the way, leaves everything running and says how to use it; `make demo-down` removes every trace.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from e2e import operator, tenants
from e2e.lab import cluster
from e2e.lab import edge as machines
from e2e.lab.edge import Edge
from e2e.lab.handle import Lab
from e2e.lab.network import LabError
from k0s_images import images
from k0s_images.cache import BuildError, say
from k0s_images.choice import K0sImage, choose, given_binary
from k0s_images.standin_launcher import launcher

EXAMPLES = operator.ROOT / "examples"
EDGE = "edge-1"
_LIMIT = 180.0

HELLO = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "hello", "namespace": "default"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "hello",
                "image": images.TOOLBOX,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", "echo hello from the edge; exec sleep 100000"],
            }
        ],
    },
}


class Phases:
    """The seconds of each phase, printed as they end and together at the end."""

    def __init__(self) -> None:
        self._done: list[tuple[str, float]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        say(f"{name} ...")
        begun = time.monotonic()
        yield
        self._done.append((name, time.monotonic() - begun))
        say(f"{name}: {self._done[-1][1]:.1f} s")

    def table(self) -> str:
        """One line a phase, with a bar that shows its share."""
        longest = max(seconds for _, seconds in self._done)
        width = max(len(name) for name, _ in self._done)
        return "\n".join(
            f"  {name:<{width}}  {seconds:6.1f} s  {'#' * max(1, round(40 * seconds / longest))}"
            for name, seconds in self._done
        )


def main(arguments: Sequence[str]) -> int:
    """Run the demo, or with `down` remove it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("run", "down"), default="run")
    parser.add_argument("--lab", default="demo", help="name of the management cluster (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.what == "down":
            cluster.down(chosen.lab)
            return 0
        _demo(chosen.lab)
    except (LabError, BuildError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def _demo(lab_name: str) -> None:
    phases = Phases()
    begun = time.monotonic()
    with phases.phase("images and programs (built once, then cached)"):
        k0s = choose(binary=given_binary())
        archives = operator.image_archives(k0s)
        at_the_edge = images.archives(only=(images.TOOLBOX, images.konnectivity_agent_name(), images.PAUSE))
    say(f"control planes run {k0s.says}")
    with phases.phase("management cluster (etcd, API server, kubelet, containerd)"):
        lab = cluster.up(lab_name)
        lab.load_images(archives)
    with phases.phase("operator (a Deployment under its own ClusterRole)"):
        operator.deploy(lab, k0s)

    manifest = yaml.safe_load((EXAMPLES / "cluster.yaml").read_text())
    name = manifest["metadata"]["name"]
    with phases.phase("examples/cluster.yaml -> the tenant's API answers"):
        manifest["spec"]["version"] = k0s.version
        tenants.apply(lab, tenants.for_lab(manifest))
        tenants.wait_condition(lab, f"kmc/{name}", "Available", seconds=_LIMIT)
        tenant = tenants.kubeconfig(lab, name, lab.folder / "tenants")
        tenants.eventually(lambda: tenant.kubectl("get", "namespace", "kube-system"), seconds=30)
    with phases.phase("examples/join-token.yaml -> a join token"):
        request = yaml.safe_load((EXAMPLES / "join-token.yaml").read_text())
        tenants.apply(lab, request)
        tenants.wait_condition(lab, f"jtr/{request['metadata']['name']}", "JoinTokenSecretCreated", seconds=_LIMIT)
    edge = machines.add(lab, EDGE)
    with phases.phase(f"{EDGE}, a machine in another network -> a Ready node"):
        _join(lab, edge, k0s, request["metadata"]["name"], at_the_edge)
        tenants.eventually(lambda: tenant.kubectl("wait", "--for=create", f"node/{EDGE}", "--timeout=60s"), seconds=60)
        tenant.kubectl("wait", "--for=condition=Ready", f"node/{EDGE}", "--timeout=60s", seconds=70)
    with phases.phase("a pod at the edge; its logs and a shell through konnectivity"):
        tenant.kubectl("apply", "-f", "-", input=json.dumps(HELLO))
        tenant.kubectl("wait", "--for=condition=Ready", "pod/hello", "--timeout=60s", seconds=70)
        said = tenants.eventually(lambda: tenant.kubectl("logs", "hello"), seconds=60)
        who = tenants.eventually(lambda: tenant.kubectl("exec", "hello", "--", "id"), seconds=30)

    print(f"\nThe tenant `{name}` runs {k0s.says}. Its nodes:\n")
    print(tenant.kubectl("get", "nodes", "-o", "wide"))
    print(f"kubectl logs hello: {said.strip()}\nkubectl exec hello -- id: {who.strip()}\n")
    print("Phases:\n" + phases.table())
    print(f"  all in all {time.monotonic() - begun:.1f} s\n")
    print(_how_to_go_on(lab, tenant.kubeconfig))


def _join(lab: Lab, edge: Edge, k0s: K0sImage, request: str, archives: dict[str, Path]) -> None:
    """What the owner of the machine does: put the token into a file and start `k0s worker`."""
    token = edge.folder / "join-token"
    token.unlink(missing_ok=True)
    token.touch(mode=0o600)
    token.write_bytes(tenants.secret(lab, request, "token"))
    edge.add_images(archives)
    edge.run_worker(worker_program(k0s), token, minor=k0s.minor)


def worker_program(k0s: K0sImage) -> Path:
    """The `k0s` for a machine at the edge that fits the image of the controllers."""
    return k0s.binary or launcher(k0s.minor)


def _how_to_go_on(lab: Lab, kubeconfig: Path) -> str:
    kubectl = lab.programs.kubernetes / "kubectl"
    return f"""All of it goes on running. To look around:

  alias management='{kubectl} --kubeconfig {lab.kubeconfig}'
  alias tenant='{kubectl} --kubeconfig {kubeconfig}'
  management get kmc,jtr,statefulsets,pods
  management describe kmc demo
  tenant get nodes,pods -A

`make demo-down` removes every trace."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
