"""The tenant's certificate authorities and its service account key: made once, never a second time.

Names, types and labels are k0smotron's and Cluster API's (`<n>-ca`, `-proxy`, `-sa`, `-etcd`); the common names are the
ones k0s knows, because it renews leaves only under those (k0s.md 3.2). A Secret under such a name that is not ours is
the user's: it is used byte for byte, never written, and refused with a reason if k0s could not use it, since k0s would
silently make a new CA.
"""

from __future__ import annotations

import hashlib

from hosted_cp.api.problems import Problem
from hosted_cp.hosting.tenant import Tenant, once
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.pki.authority import validate_authority, validate_key_pair
from hosted_cp.pki.recipes import CARecipe, KeyPairRecipe
from hosted_cp.planning.observed import CertificateFacts, Observed, SecretFacts

#: purpose -> common name.
COMMON_NAMES = {"ca": "kubernetes-ca", "proxy": "kubernetes-front-proxy-ca", "etcd": "etcd-ca"}
#: Every purpose that a tenant may have an authority for.
ALL = (*COMMON_NAMES, "sa")
SECRET_TYPE = "cluster.x-k8s.io/secret"  # noqa: S105
CLUSTER_NAME = "cluster.x-k8s.io/cluster-name"

#: On the controllers' pod template: digest of what is laid into k0s' PKI directory.
PKI_DIGEST = "hosted-cp.io/pki-digest"


@once
def purposes(t: Tenant) -> list[str]:
    """Which authorities this tenant has; one with its own etcd has a CA for it."""
    return ["ca", "proxy", "sa", *(["etcd"] if t.decisions.storage == "etcd" else [])]


def secret_name(t: Tenant, purpose: str) -> str:
    """The Secret of an authority: the one the user names in `certificateRefs`, else ours."""
    for reference in t.spec.certificate_refs or ():
        if reference.type == purpose and reference.name:
            return reference.name
    return t.names.secret(purpose)


def seen(t: Tenant, purpose: str) -> Observed | None:
    """The Secret of an authority, whoever made it."""
    name = secret_name(t, purpose)
    return t.view.child("Secret", name) or t.view.references.get(("Secret", name))


def is_ours(t: Tenant, purpose: str) -> bool:
    found = seen(t, purpose)
    return found is not None and found.controller_uid == t.uid


def usable(t: Tenant, purpose: str) -> bool:
    """Whether the Secret of an authority exists and holds what k0s would take."""
    secret = seen(t, purpose)
    if secret is None or (purpose == "ca" and exchanged(t)):
        return False
    return secret.secret is None or _fault(t, purpose, secret.secret) is None


def at_hand(t: Tenant, purpose: str) -> bool:
    """Whether an authority is usable, or an earlier action of this very plan makes it."""
    name = secret_name(t, purpose)
    return usable(t, purpose) or (seen(t, purpose) is None and any(each.ref.name == name for each in wanted(t)))


def pki_digest(t: Tenant) -> str:
    """Digest of the Secrets that are laid into k0s' PKI directory, by the digests of their values."""
    total = hashlib.sha256()
    for purpose in ("ca", "proxy", "sa"):
        secret = seen(t, purpose)
        for key in ("tls.crt", "tls.key"):
            total.update((secret.secret.digests.get(key, "") if secret and secret.secret else "").encode() + b"\0")
    return total.hexdigest()[:32]


def certificate(t: Tenant, purpose: str) -> CertificateFacts | None:
    """What is known of an authority's certificate; None while there is none that can be read."""
    found = seen(t, purpose)
    return found.secret.certificates.get("tls.crt") if found is not None and found.secret is not None else None


@once
def exchanged(t: Tenant) -> bool:
    """Whether the CA is another than the one that the controllers run with and the kubeconfig was made of.

    Two witnesses, because whoever spoils one of them alone has exchanged nothing: it is set right again.
    """
    live, authority = t.view.own("StatefulSet", t.names.control_plane), certificate(t, "ca")
    handed_out = t.view.own("Secret", t.names.kubeconfig)
    kubeconfig = handed_out.secret.kubeconfigs.get("value") if handed_out and handed_out.secret else None
    if live is None or authority is None or kubeconfig is None or not kubeconfig.ca_fingerprint:
        return False
    started_with = live.get("spec", "template", "metadata", "annotations", PKI_DIGEST)
    return started_with != pki_digest(t) and kubeconfig.ca_fingerprint != authority.fingerprint


@once
def missing(t: Tenant) -> list[str]:
    return [secret_name(t, purpose) for purpose in purposes(t) if seen(t, purpose) is None]


@once
def wanted(t: Tenant) -> list[Wanted]:
    """The authorities that are ours to make. A lost one of a tenant that has lived is none of them: see `problems`."""
    if t.former.version:  # the config Secret exists: all authorities existed before it
        return [w for w in _all(t) if seen(t, _purpose(t, w)) is not None]
    return _all(t)


def _all(t: Tenant) -> list[Wanted]:
    return [
        Wanted(body=body(t, t.names.secret(purpose)), recipe=recipe(t, purpose), once=True)
        for purpose in purposes(t)
        if secret_name(t, purpose) == t.names.secret(purpose) and (seen(t, purpose) is None or is_ours(t, purpose))
    ]


def _purpose(t: Tenant, w: Wanted) -> str:
    return next(p for p in purposes(t) if t.names.secret(p) == w.ref.name)


def body(t: Tenant, name: str) -> dict[str, object]:
    """A Secret of key material, without its data."""
    metadata = t.metadata(name, part="certificates")
    metadata["labels"] = {**metadata["labels"], CLUSTER_NAME: t.name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": SECRET_TYPE}


def recipe(t: Tenant, purpose: str) -> CARecipe | KeyPairRecipe:
    algorithm = t.decisions.keyAlgorithm
    if purpose == "sa":
        return KeyPairRecipe(algorithm=algorithm)
    return CARecipe(common_name=COMMON_NAMES[purpose], algorithm=algorithm)


def _fault(t: Tenant, purpose: str, facts: SecretFacts) -> str | None:
    return validate_key_pair(facts) if purpose == "sa" else validate_authority(facts, now=t.view.now)


@once
def problems(t: Tenant) -> list[Problem]:
    """Why the authorities cannot be used: brought ones that k0s would replace, and lost ones."""
    found: list[Problem] = []
    for purpose in purposes(t):
        name, secret = secret_name(t, purpose), seen(t, purpose)
        brought = name != t.names.secret(purpose)
        field = f"Secret {name}"
        if secret is None:
            if brought:
                found.append(
                    Problem(
                        field="spec.certificateRefs",
                        fault=f"{field} for {purpose} does not exist",
                        remedy="create it with the keys tls.crt and tls.key, or leave the reference out",
                    )
                )
            elif t.former.version:
                found.append(
                    Problem(
                        field=field,
                        fault="is gone, though this tenant runs with what it held; a new one would cut off every"
                        " worker and client",
                        remedy="bring the Secret back from a backup; or delete the tenant and create it anew",
                    )
                )
        elif secret.secret is not None and (fault := _fault(t, purpose, secret.secret)):
            found.append(
                Problem(
                    field=field,
                    fault=fault,
                    remedy="put exactly one certificate (PEM) under tls.crt and its private key under tls.key"
                    if purpose != "sa"
                    else "put a public key (PEM) under tls.crt and its private key under tls.key",
                )
            )
        elif purpose == "ca" and exchanged(t):
            found.append(
                Problem(
                    field="spec.certificateRefs" if brought else field,
                    fault=f"{f'{field} ' if brought else ''}holds another CA than the one that this tenant runs with;"
                    " it would cut off every worker and client",
                    remedy="bring the former one back; or, if all shall join and log in anew, delete StatefulSet"
                    f" {t.names.control_plane}, which is made again with this CA",
                )
            )
    return found
