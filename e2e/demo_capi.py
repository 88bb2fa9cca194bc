"""`make demo-capi`: a cluster of Cluster API from one manifest, with the real core manager and machines that boot.

It goes the whole way of such a cluster: created, scaled up and down, moved to another version, and (unless `--keep`)
deleted. The management cluster stays; `make demo-capi-down` removes every trace.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from e2e import operator
from e2e.capi import management, manifests, timeline
from e2e.capi.hosted import hosted
from e2e.capi.programs import cluster_api
from e2e.demo import Phases
from e2e.lab import cluster
from e2e.lab.network import LabError
from k0s_images import images
from k0s_images.cache import BuildError, say
from k0s_images.choice import both_minors


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
        newer, older = both_minors()
        archives = operator.image_archives(newer, older)
        images.archives(only=(images.TOOLBOX, images.konnectivity_agent_name(), images.PAUSE))
        release = cluster_api()
    say(f"control planes run {newer.says}; before that {older.says}")
    with phases.phase("management cluster (etcd, API server, kubelet, containerd)"):
        lab = cluster.up(lab_name)
        lab.load_images(archives)
    with phases.phase("operator (a Deployment under its own ClusterRole)"):
        operator.deploy(lab, newer)
    with phases.phase(f"Cluster API {release.version}: the core manager; the lab's infrastructure provider"):
        management.start(lab)

    made = hosted(lab)
    with made.timeline() as watched:
        with phases.phase("examples/capi/hosted.yaml -> the control plane answers"):
            made.apply(older)
            watched.start()
            tenant = made.answers(lab.folder / "tenants")
        with phases.phase("two machines boot, run their user data, and are Ready nodes"):
            made.works(tenant, 2, older)
            taken = watched.taken(nodes=time.monotonic())
    for count, what in ((3, "a third machine"), (1, "back to one; the others are drained first")):
        with phases.phase(f"kubectl scale --replicas={count}: {what}"):
            made.scale(count)
            made.works(tenant, count, older)
    with phases.phase(f"version {manifests.kubelet_version(newer)}: the control plane"):
        made.upgrade(newer)
        made.runs(newer)
    with phases.phase("the same: the workers"):
        made.roll(newer)
        made.works(tenant, 1, newer)
    made.sums_up(1)
    print(f"\n{made.describe()}\n\n{tenant.kubectl('get', 'nodes', '-o', 'wide')}")
    if not keep:
        with phases.phase(f"kubectl delete cluster {made.name}: nothing is left"):
            made.delete()
    print(f"\nFrom kubectl apply to two Ready nodes:\n{timeline.table(taken)}")
    print("\nPhases:\n" + phases.table())
    print(f"  all in all {time.monotonic() - begun:.1f} s\n")
    print(f"The management cluster goes on running{', with the cluster' if keep else ''}. To look around:\n")
    print(f"  alias management='{lab.programs.kubernetes / 'kubectl'} --kubeconfig {lab.kubeconfig}'\n")
    print("`make demo-capi-down` removes every trace.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
