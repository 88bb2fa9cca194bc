"""The stack `bootstraprbac`: what bootstrap tokens and kubelets may do, so that workers can join."""

from __future__ import annotations

from k0s_images.standin.kube import Object

STACK = "bootstraprbac"
BOOTSTRAPPERS = "system:bootstrappers"
_GROUP = "rbac.authorization.k8s.io"


def binding(name: str, role: str, group: str) -> Object:
    """A ClusterRoleBinding of a group."""
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _GROUP, "kind": "Group", "name": group}],
    }


def bootstrap() -> list[Object]:
    """Tokens may ask for a kubelet's client certificate, which is approved without a person; kubelets renew theirs."""
    certificates = "system:certificates.k8s.io:certificatesigningrequests"
    return [
        binding("kubelet-bootstrap", "system:node-bootstrapper", BOOTSTRAPPERS),
        binding("node-autoapprove-bootstrap", f"{certificates}:nodeclient", BOOTSTRAPPERS),
        binding("node-autoapprove-certificate-rotation", f"{certificates}:selfnodeclient", "system:nodes"),
    ]
