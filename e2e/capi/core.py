"""How the core manager is installed where no cert-manager and no pod network is: as a process, reached by URL.

Upstream's manifests name a Service and leave certificates to cert-manager. Here they are turned into what the same
process needs when it runs beside the API server: a URL in place of the Service, our own CA in place of cert-manager's,
and the contract labels that upstream adds with kustomize. Nothing else is changed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.capi.programs import ClusterApi

Object = dict[str, Any]

#: Which versions of core's own kinds fulfil which contract: core looks its kinds up by these labels too.
_CONTRACTS = {"cluster.x-k8s.io/v1beta1": "v1beta1", "cluster.x-k8s.io/v1beta2": "v1beta2"}

_GATES = {"ClusterTopology": True, "MachinePool": True, "RuntimeSDK": False}


def crds(release: ClusterApi, *, webhook_url: str, ca: bytes) -> list[Object]:
    """Core's kinds; conversion is asked for at `webhook_url` (https, without a path), trusted by `ca` (PEM)."""
    return [_crd(each, webhook_url, ca) for each in _documents(*sorted(release.crds.glob("*.yaml")))]


def webhook_configurations(release: ClusterApi, *, webhook_url: str, ca: bytes) -> list[Object]:
    """Core's admission webhooks. To be applied only when the manager answers: they fail closed."""
    found = list(_documents(release.webhooks))
    for each in found:
        for webhook in each["webhooks"]:
            client = webhook["clientConfig"]
            path = client["service"]["path"]
            webhook["clientConfig"] = {"url": f"{webhook_url}{path}", "caBundle": base64.b64encode(ca).decode()}
    return found


def arguments(*, kubeconfig: Path, webhook_port: int, certificates: Path, health: str, diagnostics: str) -> list[str]:
    """The manager's command line. `certificates` is a folder with tls.crt and tls.key; addresses are "host:port"."""
    gates = ",".join(f"{name}={str(on).lower()}" for name, on in _GATES.items())
    return [
        f"--kubeconfig={kubeconfig}", f"--webhook-port={webhook_port}", f"--webhook-cert-dir={certificates}",
        f"--health-addr={health}", f"--diagnostics-address={diagnostics}", "--insecure-diagnostics=true",
        f"--feature-gates={gates}", "--v=2",
    ]  # fmt: skip


def _crd(body: Object, webhook_url: str, ca: bytes) -> Object:
    body["metadata"].setdefault("labels", {}).update(_CONTRACTS)
    body["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"url": f"{webhook_url}/convert", "caBundle": base64.b64encode(ca).decode()},
        },
    }
    return body


def _documents(*files: Path) -> Iterator[Object]:
    for file in files:
        for each in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if each is not None:
                yield each


def as_yaml(objects: Sequence[Object]) -> bytes:
    """For `kubectl apply -f -`."""
    return yaml.safe_dump_all(objects).encode()
