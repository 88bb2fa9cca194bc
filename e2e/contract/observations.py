"""What is looked at in a running controller, in a form that can be kept as facts and compared.

Each observation gives plain data without anything that changes from one run to the next (identities, times, key
material). `python -m e2e.contract.observe K0S` keeps them for a k0s' version; `test_facts.py` compares.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from e2e.contract.k0s import Controller
from e2e.contract.machine import USERS, status

#: The controller that is observed: SQLite, an external address, nothing that a hosted control plane does without.
SPEC: Mapping[str, Any] = {
    "api": {"externalAddress": "10.99.0.2", "sans": ["tenant.example"], "extraArgs": {"event-ttl": "2h"}},
    "storage": {"type": "kine"},
    "network": {"provider": "custom"},
    "controllerManager": {"extraArgs": {"kube-api-qps": "300"}},
    "workerProfiles": [
        {"name": "default", "values": {"failCgroupV1": False}},
        {"name": "big", "values": {"maxPods": 200, "failCgroupV1": False}},
    ],
}  # fmt: skip
_PROGRAMS = ("kine", "konnectivity-server", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_STACK = "k0s.k0sproject.io/stack"


def _program_flags(program: str) -> Callable[[Controller], Any]:
    def observe(controller: Controller) -> Any:
        flags = controller.flags(program)
        if "server-id" in flags:
            flags["server-id"] = "(random)"
        return dict(sorted(flags.items()))

    return observe


def _users(controller: Controller) -> Any:
    """Under which user and group each child runs."""
    names = {str(uid): name for name, uid in USERS.items()} | {"0": "root"}
    found = {}
    for program, pid in controller.process.children().items():
        fields = status(pid)
        found[program] = {
            "user": names[fields["Uid"].split()[0]], "gid": int(fields["Gid"].split()[0]), "groups": fields["Groups"],
        }  # fmt: skip
    return dict(sorted(found.items()))


def _mode(path: Path) -> str:
    facts = path.lstat()
    names = {uid: name for name, uid in USERS.items()} | {0: "root"}
    return f"{stat.filemode(facts.st_mode)} {names[facts.st_uid]}:{facts.st_gid}"


def _files(controller: Controller) -> Any:
    """Kind, mode and owner of everything k0s puts in place; not what its children write."""
    found = {}
    for root in ("/var/lib/k0s", "/run/k0s"):
        base = controller.machine.path(root)
        for path in sorted([base, *base.rglob("*")]):
            name = f"{root}/{path.relative_to(base)}".removesuffix("/.")
            if not re.search(r"/bin/|/db/|/manifests/.+/|\.sock(:2379)?$", name):
                found[name] = _mode(path)
    return found


def _names(name: x509.Name) -> str:
    parts = [(NameOID.ORGANIZATION_NAME, "O"), (NameOID.COMMON_NAME, "CN")]
    return ",".join(f"{short}={a.value!s}" for oid, short in parts for a in name.get_attributes_for_oid(oid))


def _certificate(certificate: x509.Certificate) -> Any:
    extensions = certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    key = certificate.public_key()
    found: dict[str, Any] = {
        "subject": _names(certificate.subject),
        "issuer": _names(certificate.issuer),
        "days": (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days,
        "key": f"RSA-{key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__,
        "authority": extensions.get_extension_for_class(x509.BasicConstraints).value.ca,
        "signs": [usage.digital_signature, usage.key_encipherment, usage.key_cert_sign, usage.crl_sign],
    }
    for extension in extensions:
        if isinstance(extension.value, x509.ExtendedKeyUsage):
            found["purposes"] = sorted(u.dotted_string for u in extension.value)
        elif isinstance(extension.value, x509.SubjectAlternativeName):
            # Link-local addresses differ with every new interface.
            names = {str(n.value) for n in extension.value}
            found["names"] = sorted(n for n in names if not n.startswith("fe80"))
    return found


def _certificates(controller: Controller) -> Any:
    folder = controller.data("pki")
    return {f.stem: _certificate(x509.load_pem_x509_certificate(f.read_bytes())) for f in sorted(folder.glob("*.crt"))}


def _kubeconfigs(controller: Controller) -> Any:
    found = {}
    for file in sorted(controller.data("pki").glob("*.conf")):
        config = yaml.safe_load(file.read_text())
        found[file.stem] = {
            "server": config["clusters"][0]["cluster"]["server"],
            "user": sorted(config["users"][0]["user"]),
            "contexts": len(config["contexts"]),
        }
    return found


def _plain(thing: Mapping[str, Any]) -> Any:
    """An object as somebody applied it."""
    metadata = thing["metadata"]
    kept = {k: metadata[k] for k in ("name", "namespace", "labels") if k in metadata}
    annotations = sorted(metadata.get("annotations") or {})
    result = {k: v for k, v in thing.items() if k not in ("metadata", "status")} | {"metadata": kept}
    return result | ({"annotations": annotations} if annotations else {})


def _bootstrap_rbac(controller: Controller) -> Any:
    items = controller.get("clusterroles,clusterrolebindings", "-l", f"{_STACK}=bootstraprbac")["items"]
    return [_plain(i) for i in sorted(items, key=lambda i: (i["kind"], i["metadata"]["name"]))]


def _worker_config(controller: Controller) -> Any:
    """The ConfigMaps and who may read them. Fields of kubelet's configuration that say nothing are left out."""
    stack = f"{_STACK}=k0s-worker-config-{controller.subject.minor}"
    found = []
    for item in controller.get("configmaps,roles,rolebindings", "-n", "kube-system", "-l", stack)["items"]:
        plain = _plain(item)
        if item["kind"] == "ConfigMap":
            plain["data"] = {name: json.loads(value) for name, value in item["data"].items()}
            plain["data"]["kubeletConfiguration"] = _said(plain["data"]["kubeletConfiguration"])
        found.append(plain)
    return sorted(found, key=lambda i: (i["kind"], i["metadata"]["name"]))


def _said(value: Any) -> Any:
    """Without empty and zero values in nested objects and durations of zero, which are how Go prints `not given`."""
    if not isinstance(value, dict):
        return value
    kept = {k: _said(v) for k, v in value.items()}
    return {
        k: v
        for k, v in kept.items()
        if v not in ("0s", "", {}) and k not in ("flushFrequency", "verbosity", "infoBufferSize")
    }


def _endpoints(controller: Controller) -> Any:
    return controller.get("endpoints", "kubernetes")["subsets"]


def _leases(controller: Controller) -> Any:
    items = controller.get("leases", "-A")["items"]
    return sorted(i["metadata"]["name"] for i in items if i["metadata"]["name"].startswith("k0s-"))


def _agent(controller: Controller) -> Any:
    """The konnectivity agents' DaemonSet, as far as others rely on it."""
    item = controller.get("daemonset", "-n", "kube-system", "konnectivity-agent")
    pod = item["spec"]["template"]["spec"]
    container = pod["containers"][0]
    return {
        "labels": item["metadata"]["labels"],
        "selector": item["spec"]["selector"],
        "image": container["image"],
        "pullPolicy": container["imagePullPolicy"],
        "args": container["args"],
        "env": {e["name"]: e.get("value", "(field)") for e in container["env"]},
        "securityContext": container["securityContext"],
        "podSecurityContext": pod["securityContext"],
        "tolerations": pod["tolerations"],
        "priority": pod.get("priorityClassName"),
        "account": pod["serviceAccountName"],
    }


def _status(controller: Controller) -> Any:
    """`k0s status -o json`, without what belongs to one run."""
    said = json.loads(controller.k0s("status", "-o", "json"))
    fields = ("Version", "Role", "Workloads", "SingleNode", "WorkerToAPIConnectionStatus")
    return {k: said[k] for k in fields} | {"ClusterConfig": said["ClusterConfig"]}


def _defaults(controller: Controller) -> Any:
    return yaml.safe_load(controller.k0s("config", "create", "--include-images"))


OBSERVATIONS: Mapping[str, Callable[[Controller], Any]] = {
    **{f"flags-{program}": _program_flags(program) for program in _PROGRAMS},
    "users": _users,
    "files": _files,
    "certificates": _certificates,
    "kubeconfigs": _kubeconfigs,
    "bootstrap-rbac": _bootstrap_rbac,
    "worker-config": _worker_config,
    "endpoints": _endpoints,
    "leases": _leases,
    "konnectivity-agent": _agent,
    "status": _status,
    "config-defaults": _defaults,
}


def complete(controller: Controller) -> bool:
    """Whether everything that is observed is there."""
    agent = controller.kubectl("get", "daemonset", "-n", "kube-system", "-o", "name")
    maps = controller.kubectl("get", "configmap", "-n", "kube-system", "-o", "name")
    return "konnectivity-agent" in agent and "worker-config-big" in maps
