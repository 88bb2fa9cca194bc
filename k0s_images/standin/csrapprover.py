"""Approval of kubelets' serving certificates, which Kubernetes leaves to its distributors.

Every ten seconds, one request at most: k0s returns after its first approval, and hosts that count on more would be
surprised by it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from k0s_images.standin import log
from k0s_images.standin.kube import Api

PERIOD = 10.0
_PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


def _pending(request: Mapping[str, Any]) -> bool:
    conditions = (request.get("status") or {}).get("conditions") or []
    return not any(c["type"] in ("Approved", "Denied", "Failed") for c in conditions)


def _acceptable(request: Mapping[str, Any]) -> bool:
    """A node asking for its own name; what the certificate itself says is checked by the signer."""
    spec = request["spec"]
    return (
        spec["signerName"] == "kubernetes.io/kubelet-serving"
        and str(spec.get("username", "")).startswith("system:node:")
        and "system:nodes" in (spec.get("groups") or [])
        and set(spec.get("usages") or []) <= {"digital signature", "key encipherment", "server auth"}
    )


def approve_one(api: Api) -> None:
    """Approve the first pending request of a kubelet. Raises `ApiError`."""
    for request in api.get(_PATH).get("items") or []:
        if not (_pending(request) and _acceptable(request)):
            continue
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "Approved", "status": "True", "reason": "Autoapproved by K0s CSRApprover",
                     "message": "This CSR was approved by the k0s stand-in", "lastUpdateTime": now}  # fmt: skip
        status = request.setdefault("status", {})
        status["conditions"] = [*(status.get("conditions") or []), condition]
        name = request["metadata"]["name"]
        api.request("PUT", f"{_PATH}/{name}/approval", request)
        log.info(f"approved the serving certificate of {request['spec']['username']}", component="csr-approver")
        return
