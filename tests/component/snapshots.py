"""What a tenant looks like, so that two tenants can be compared: all its objects, without what must differ.

Masked are names that stand for the tenant, UIDs, times, addresses and ports that the server gave, digests, and secret
material. Of certificates their public facts are kept, and whether the authority that should have signed them did.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from hosted_cp.kube.resources import (
    CLUSTER,
    JOIN_TOKEN_REQUEST,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Resource,
)
from tests.component.hosting import Object, Stage

KINDS = (
    CLUSTER, JOIN_TOKEN_REQUEST, SERVICE, SECRET, STATEFUL_SET, POD_DISRUPTION_BUDGET, NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM, POD,
)  # fmt: skip

#: Secrets whose content is made once in the life of a tenant.
ONCE = ("-ca", "-proxy", "-sa", "-etcd", "-etcd-permit", "-token")

_METADATA = ("name", "labels", "annotations", "ownerReferences", "finalizers")
_WORKLOAD_STATUS = ("replicas", "readyReplicas", "updatedReplicas")
_MASKS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r"\b10\.96\.\d+\.\d+\b"), "<cluster IP>"),
    (re.compile(r"\b[0-9a-f]{16,}\b"), "<digest>"),
    (re.compile(r"\b3[0-2]\d{3}\b"), "30000"),  # a number, wherever it stands
)

Everything = dict[str, list[Object]]


async def everything(stage: Stage, kinds: Sequence[Resource] = KINDS) -> Everything:
    """All objects of the namespace, by plural."""
    return {each.plural: list(await stage.admin.list(each, stage.namespace)) for each in kinds}


def of_tenant(found: Everything, name: str) -> dict[str, Any]:
    """The tenant's objects by "plural name", masked."""
    mine: dict[str, Any] = {}
    secrets = {body["metadata"]["name"]: data_of(body) for body in found["secrets"]}
    for plural, bodies in found.items():
        for body in bodies:
            if belongs(body, name):
                shown = masked(_kept(plural, body, secrets), name, body["metadata"].get("namespace", ""))
                mine[f"{plural} {body['metadata']['name'].replace(name, '<name>')}"] = shown
    return mine


def belongs(body: Object, name: str) -> bool:
    """Whether an object is the tenant, is labelled as its, or is one of its token requests."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    named = {labels.get(key) for key in ("cluster", "cluster.x-k8s.io/cluster-name", "k0smotron.io/cluster")}
    named.add(body.get("spec", {}).get("clusterName"))
    return name in named or (body.get("kind") == "Cluster" and metadata["name"] == name) or metadata["name"] == name


def once_only(found: Everything) -> dict[str, str]:
    """Of each Secret that is made once: a digest of what must stay the same."""
    made = {}
    for body in found["secrets"]:
        name = body["metadata"]["name"]
        data = data_of(body)
        if name.endswith("-etcd-permit"):
            data = {"cluster-token": data["cluster-token"]}
        if name.endswith(ONCE):
            made[name] = hashlib.sha256(orjson.dumps(sorted((k, v.decode()) for k, v in data.items()))).hexdigest()
    return made


def data_of(secret: Object) -> dict[str, bytes]:
    """The data of a Secret."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def _kept(plural: str, body: Object, secrets: Mapping[str, Mapping[str, bytes]]) -> Object:
    metadata = {key: body["metadata"][key] for key in _METADATA if key in body["metadata"]}
    kept: Object = {"metadata": metadata}
    status = body.get("status") or {}
    match plural:
        case "secrets":
            kept["type"] = body["type"]
            kept["data"] = {key: _shown(value, secrets) for key, value in sorted(data_of(body).items())}
        case "pods":
            # Names of pods and their template are the StatefulSet's; what counts is that they are there and ready.
            kept = {"ready": [c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"]}
        case "statefulsets":
            kept |= {"spec": body["spec"], "status": {key: status.get(key) for key in _WORKLOAD_STATUS}}
        case "clusters" | "jointokenrequests" | "k0smotroncontrolplanes":
            identified = {"tokenID": "<from the UID>"} if "tokenID" in status else {}
            kept |= {"spec": body["spec"], "status": {**status, **identified}}
        case _:
            kept["spec"] = body["spec"]
    return kept


def _shown(value: bytes, secrets: Mapping[str, Mapping[str, bytes]]) -> Any:
    if value.startswith(b"-----BEGIN CERTIFICATE"):
        return _certificate(value, secrets)
    if value.startswith(b"-----BEGIN"):
        return value.decode().splitlines()[0]
    text = value.decode()
    if "\n" not in text:
        return text if len(text) < 200 else "<long>"
    loaded = yaml.safe_load(text)
    return _without_material(loaded, secrets)


def _without_material(value: Any, secrets: Mapping[str, Mapping[str, bytes]]) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_material(each, secrets) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_material(each, secrets) for each in value]
    if isinstance(value, str) and value.startswith("LS0tLS1CRUdJTi"):
        return _shown(base64.b64decode(value), secrets)
    return value


def _certificate(pem: bytes, secrets: Mapping[str, Mapping[str, bytes]]) -> Object:
    found = x509.load_pem_x509_certificate(pem)
    names: list[str] = []
    for extension in found.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = sorted(str(each.value) for each in extension.value)
    signers = []
    for name, data in secrets.items():
        if data.get("tls.crt", b"").startswith(b"-----BEGIN CERTIFICATE"):
            try:
                found.verify_directly_issued_by(x509.load_pem_x509_certificate(data["tls.crt"]))
            except (InvalidSignature, ValueError, TypeError):
                continue
            signers.append(name)
    return {"subject": found.subject.rfc4514_string(), "names": names, "signed by": sorted(signers)}


def masked(value: Any, name: str, namespace: str) -> Any:
    text = orjson.dumps(value).decode().replace(namespace, "<namespace>").replace(name, "<name>")
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return orjson.loads(text)
