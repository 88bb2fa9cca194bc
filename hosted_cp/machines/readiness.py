"""What has to come before a worker's data can be made, in the order in which it comes, and what each wait is called.

Bootstrap data are made of the infrastructure's word that there is something to boot, of a control plane that knows
tokens, of the address and the CA that workers know it by. Of a control plane of ours the operator knows where it
answers inside the management cluster, and holds its CA. Any other is known by the kubeconfig that its provider leaves
under a name that Cluster API gives: whatever made it, k0s joins it by a bootstrap token like any other.
"""

from __future__ import annotations

from hosted_cp.api import worker_config_checks
from hosted_cp.machines import checks
from hosted_cp.machines.mapping import Unclear, worker_of
from hosted_cp.machines.view import WorkerView, kubeconfig_name
from hosted_cp.machines.worker import Worker
from hosted_cp.pki.kubeconfig import fault_in
from hosted_cp.pki.recipes import KUBECONFIG_KEY
from hosted_cp.planning.conditions import Cause, of_problems


def ready_to_make(view: WorkerView, *, in_the_way: Cause | None) -> Worker | Cause:
    """The worker, if everything is there that its data are made of. `in_the_way`: what keeps them from being stored."""
    if view.leaving:
        assert view.machine is not None
        doomed = f"{view.machine.ref.kind} {view.machine.ref.name} is being deleted; nothing is made for it any more"
        return Cause(reason="MachineDeleting", message=doomed)
    found = worker(view)
    if isinstance(found, Cause) and not found.starting:
        return found
    return in_the_way or waits(view) or found


def worker(view: WorkerView) -> Worker | Cause:
    """What the spec, the machine and the control plane make together, or what is wrong about that."""
    wrong = view.problems
    if view.spec is not None:
        wrong = (*wrong, *worker_config_checks.problems(view.spec))
    if view.spec is None or wrong:
        return of_problems("SpecInvalid", wrong)
    found = worker_of(view, view.spec)
    if isinstance(found, Unclear):
        return of_problems(found.reason, found.problems, starting=found.starting)
    faults = checks.problems(found)
    return of_problems("SpecInvalid", faults) if faults else found


def waits(view: WorkerView) -> Cause | None:
    """What is not there yet."""
    assert view.cluster is not None
    name = view.cluster.ref.name
    if view.cluster.deleting:
        return Cause(reason="ClusterDeleting", message=f"Cluster {name} is being deleted; there is nothing to join")
    if not view.initialized("infrastructureProvisioned"):
        return Cause(
            reason="WaitingForInfrastructure",
            message=f"the infrastructure of Cluster {name} is not provisioned yet",
            starting=True,
        )
    if view.names_control_plane and not view.initialized("controlPlaneInitialized"):
        return Cause(
            reason="WaitingForControlPlaneInitialization",
            message=f"the control plane of Cluster {name} is not initialized yet; its conditions say why",
            starting=True,
        )
    if view.control_plane is None:
        reference = view.cluster.get("spec", "controlPlaneRef", default={})
        return Cause(
            reason="ControlPlaneNotFound",
            message=f"{reference.get('kind')} {reference.get('name')}, which Cluster {name} names in"
            " spec.controlPlaneRef, does not exist; create it, or correct the name",
        )
    return _by_kubeconfig(view, name) if view.control_plane.foreign else _of_ours(view, name)


def _of_ours(view: WorkerView, name: str) -> Cause | None:
    """A control plane that we run."""
    if not view.reaches_tenants:
        return Cause(
            reason="TenantNotReachable",
            message="the operator runs outside the cluster and cannot reach tenants; run it in the cluster",
        )
    if view.endpoint is None:
        return Cause(
            reason="WaitingForEndpoint",
            message=f"spec.controlPlaneEndpoint of Cluster {name} is not known yet",
            starting=True,
        )
    facts = view.authority.secret if view.authority is not None else None
    if view.way is None or facts is None or "tls.crt" not in facts.certificates:
        return Cause(
            reason="WaitingForControlPlane",
            message=f"the Service or the CA of the control plane of Cluster {name} is not there; its conditions say"
            " why",
            starting=True,
        )
    return None


def _by_kubeconfig(view: WorkerView, name: str) -> Cause | None:
    """A control plane that others run, or that nobody speaks of."""
    secret = kubeconfig_name(name)
    facts = view.authority.secret if view.authority is not None else None
    if facts is None:
        return Cause(
            reason="WaitingForKubeconfig",
            message=f"Secret {secret} with the kubeconfig of Cluster {name} does not exist: "
            + (
                "its control plane provider makes it"
                if view.names_control_plane
                else f"create it, with the kubeconfig under the key {KUBECONFIG_KEY}, or set spec.controlPlaneRef"
            ),
            starting=view.names_control_plane,
        )
    fault = fault_in(facts, key=KUBECONFIG_KEY)
    if fault or view.way is None:
        return Cause(reason="KubeconfigUnusable", message=f"the kubeconfig in Secret {secret} {fault}")
    return None
