"""The processes of the management cluster and their command lines: one function for each stage of coming up.

All of them are the unmodified upstream programs. A process that runs already is left alone, so each stage can be
repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.lab import cgroups, machine, manifests, netns, processes
from e2e.lab.handle import Lab
from e2e.lab.processes import Place, Ready
from e2e.lab.programs import system_program
from e2e.lab.state import Journal

#: Every process of the management cluster.
ALL = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "node", "containerd", "kubelet",
       "kube-proxy", "coredns", "cloud")  # fmt: skip
_CLOUD = Path(__file__).parent / "cloud.py"
_FAST_CLIENT = ("--kube-api-qps=300", "--kube-api-burst=600")


def _node_network(lab: Lab) -> Place:
    return Place(netns=str(netns.namespace_file(lab.folder, "node")))


def pods_cgroup(lab: Lab) -> str:
    """The cgroup of the node's pods."""
    return f"{processes.root_cgroup(lab.name)}/node"


def _start(
    journal: Journal, name: str, argv: Sequence[str | Path], *, place: Place, inputs: Sequence[str] = (),
    env: Mapping[str, str] | None = None, ready: bool = False,
) -> None:  # fmt: skip
    """Start a process, unless it runs already with the same command line and the same `inputs` (its files' texts)."""
    if not processes.is_current(journal, name, argv, inputs):
        signal = Ready(journal.folder, name) if ready else None
        processes.start(journal, name, argv, place=place, inputs=inputs, env=env, ready=signal)


def start_storage_and_api(journal: Journal, lab: Lab) -> None:
    """etcd and kube-apiserver. They are not waited for: the API server waits for etcd, and `up` for the API server."""
    pki, bin_dir, place = lab.folder / "pki", lab.programs.kubernetes, _node_network(lab)
    peer = "http://127.0.0.1:2380"
    _start(journal, "etcd", [
        bin_dir / "etcd", "--name=lab", f"--data-dir={lab.folder}/etcd", "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379", f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=lab={peer}", "--unsafe-no-fsync", "--logger=zap", "--log-level=warn",
    ], place=place)  # fmt: skip
    policy = lab.folder / "audit-policy.yaml"
    policy.write_text(manifests.AUDIT_POLICY)
    _start(journal, "kube-apiserver", [
        bin_dir / "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--advertise-address={lab.addresses.node}",
        "--secure-port=6443", f"--service-cluster-ip-range={lab.addresses.services}", "--allow-privileged=true",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--profiling=false",
        # Else exec and logs look up the node's name, which nobody answers.
        "--kubelet-preferred-address-types=InternalIP",
        f"--client-ca-file={pki}/ca.crt", f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-certificate-authority={pki}/ca.crt", f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-accounts.key",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--audit-policy-file={policy}", f"--audit-log-path={lab.audit_log}", "--audit-log-maxsize=1000",
    ], place=place)  # fmt: skip


def start_controllers(journal: Journal, lab: Lab) -> None:
    """kube-controller-manager and kube-scheduler, without leader election: there is one of each."""
    pki, bin_dir, place = lab.folder / "pki", lab.programs.kubernetes, _node_network(lab)

    def clients(name: str) -> list[str]:
        file = f"{pki}/{name}.kubeconfig"
        return [f"--kubeconfig={file}", f"--authentication-kubeconfig={file}", f"--authorization-kubeconfig={file}",
                "--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false", *_FAST_CLIENT]  # fmt: skip

    _start(journal, "kube-controller-manager", [
        bin_dir / "kube-controller-manager", *clients("controller-manager"), "--use-service-account-credentials",
        f"--service-account-private-key-file={pki}/service-accounts.key", f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key",
    ], place=place)  # fmt: skip
    _start(journal, "kube-scheduler", [bin_dir / "kube-scheduler", *clients("scheduler")], place=place)


def ensure_node_machine(journal: Journal, lab: Lab) -> None:
    """The node's mount namespace and its containerd. If one is missing or outdated, the whole node starts afresh."""
    folder = lab.folder / "node"
    binds = {
        folder / "kubelet": "/var/lib/kubelet",  # hard-coded in parts of the kubelet
        folder / "pod-logs": "/var/log/pods",
        folder / "container-logs": "/var/log/containers",
    }
    pause, runc = lab.programs.pause, system_program("runc", package="runc")
    script = machine.mount_script(lab=lab.folder, folder=folder, covered=["/var"], binds=binds, pause=pause)
    config, run = folder / "containerd.toml", lab.folder / "run"
    text = machine.containerd_config(data=folder / "containerd", run=run, conf_dir=str(folder / "cni"), runc=runc)
    if machine.is_private(journal, "node", folder=folder, script=script) and machine.has_containerd(
        journal, "containerd", programs=lab.programs, config=config, text=text
    ):
        return
    for each in ("node", "containerd", "kubelet", "kube-proxy"):
        cgroups.kill(processes.cgroup_of(journal, each))
    cgroups.kill(pods_cgroup(lab))
    network = str(netns.namespace_file(lab.folder, "node"))
    place = machine.make_private(journal, "node", netns=network, folder=folder, script=script)
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "10-lab.conflist").write_text(machine.cni_config(pods=lab.addresses.pods, masquerade=False))
    config.write_text(text)
    machine.start_containerd(journal, "containerd", programs=lab.programs, config=config, where=place)


def start_node(journal: Journal, lab: Lab) -> None:
    """The kubelet and kube-proxy of the node."""
    pki, bin_dir, folder, place = lab.folder / "pki", lab.programs.kubernetes, lab.folder / "node", lab.node
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {lab.addresses.node}\n")
    config, socket = folder / "kubelet.yaml", lab.folder / "run" / "containerd.sock"
    text = machine.kubelet_config(
        cgroup_root=machine.make_cgroup_root(pods_cgroup(lab)), socket=socket, pki=pki, dns=lab.addresses.dns,
        resolv_conf=resolv, pods=lab.addresses.pods,
    )  # fmt: skip
    config.write_text(text)
    _start(journal, "kubelet", [
        bin_dir / "kubelet", f"--config={config}", f"--kubeconfig={pki}/kubelet.kubeconfig",
        f"--node-ip={lab.addresses.node}", f"--hostname-override={lab.node_name}",
    ], place=place, inputs=[text])  # fmt: skip
    _start(journal, "kube-proxy", [
        bin_dir / "kube-proxy", f"--kubeconfig={pki}/kube-proxy.kubeconfig", "--proxy-mode=iptables",
        f"--hostname-override={lab.node_name}", f"--cluster-cidr={lab.addresses.pods}",
        "--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249",
        "--iptables-min-sync-period=100ms",
        # Zero means: leave the kernel's own settings, which are the whole machine's.
        "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
    ], place=place)  # fmt: skip


def start_services(journal: Journal, lab: Lab) -> None:
    """What a provider's cluster has besides Kubernetes itself: DNS, storage and LoadBalancer addresses."""
    place = _node_network(lab)
    corefile = lab.folder / "Corefile"
    text = manifests.corefile(server=lab.addresses.node, kubeconfig=f"{lab.folder}/pki/coredns.kubeconfig")
    corefile.write_text(text)
    _start(journal, "coredns", [lab.programs.coredns, "-conf", corefile], place=place, inputs=[text])
    _start(journal, "cloud", [
        sys.executable, "-m", "e2e.lab.cloud", "--kubeconfig", lab.folder / "pki" / "cloud.kubeconfig",
        "--volumes", lab.folder / "volumes", "--pool", str(lab.addresses.balancers),
    ], place=place, inputs=[_CLOUD.read_text()], ready=True,
       env={"PYTHONPATH": str(_CLOUD.parents[2]), "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
