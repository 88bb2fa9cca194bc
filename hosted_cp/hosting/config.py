"""The Secret with `k0s.yaml`, and with the tenant's decisions in an annotation.

A Secret, not a ConfigMap, because the address of a database with its password may stand in the config. It is made when
address and authorities are known: that it exists proves that every authority existed (see `authorities`).
"""

from __future__ import annotations

from hosted_cp.api.problems import Problem
from hosted_cp.hosting import authorities, etcd, service
from hosted_cp.hosting.names import DECISIONS
from hosted_cp.hosting.tenant import API_PORT, KONNECTIVITY_PORT, Tenant
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.k0s.config import ConfigRecipe, Hosted, hosted_config
from hosted_cp.planning.observed import Observed

#: The key k0smotron reads a database's address (DSN) from.
DSN_KEY = "K0SMOTRON_KINE_DATASOURCE_URL"
#: Annotation on config Secret and pod template: what the controllers were started with.
DIGEST = "hosted-cp.io/config-digest"
#: Where the etcd client certificate is mounted (kubelet updates it there; kube-apiserver reads it again).
ETCD_CLIENT = "/etc/k0s/etcd"


def dsn_secret(t: Tenant) -> Observed | None:
    """The Secret that holds the DSN, if one is named and exists."""
    kine = t.spec.storage.kine if t.spec.storage else None
    name = kine.data_source_secret_name if kine else None
    return t.view.references.get(("Secret", name)) if name else None


def recipe(t: Tenant) -> ConfigRecipe:
    """The k0s config of this tenant; its DSN, if any, is filled in when it is fulfilled."""
    kine = t.spec.storage.kine if t.spec.storage else None
    secret = dsn_secret(t)
    hosted = Hosted(
        version=t.version,
        address=t.decisions.address,
        api_port=t.decisions.apiPort,
        konnectivity_port=t.decisions.konnectivityPort,
        container_api_port=API_PORT,
        container_konnectivity_port=KONNECTIVITY_PORT,
        sans=tuple([*service.in_cluster_names(t), *service.cluster_ips(t)]),
        storage=t.decisions.storage,
        etcd_endpoints=tuple(etcd.endpoints(t)) if t.decisions.storage == "etcd" else (),
        etcd_prefix=t.decisions.etcdPrefix,
        etcd_client_directory=ETCD_CLIENT,
        data_source=kine.data_source_url if kine and not kine.data_source_secret_name else None,
    )
    return ConfigRecipe(
        config=hosted_config(t.spec.k0s_config, hosted),
        dsn_secret=kine.data_source_secret_name if kine else None,
        dsn_key=DSN_KEY,
        dsn_digest=secret.secret.digests.get(DSN_KEY, "") if secret and secret.secret else "",
    )


def digest(t: Tenant) -> str:
    """Changes when the controllers have to be started anew because of their config."""
    return recipe(t).digest()


def wanted(t: Tenant) -> list[Wanted]:
    if not t.decisions.exposed or authorities.missing(t) or problems(t):
        return []
    metadata = t.metadata(t.names.config, part="cluster-config")
    metadata["annotations"] = {
        **metadata.get("annotations", {}),
        DECISIONS: t.decisions.annotation(),
        DIGEST: digest(t),
    }
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}
    seen = t.view.own("Secret", t.names.config)
    current = seen is not None and seen.annotations.get(DIGEST) == digest(t) and "k0s.yaml" in _keys(seen)
    return [Wanted(body=body, recipe=recipe(t), current=current)]


def _keys(seen: Observed) -> frozenset[str]:
    return frozenset(seen.secret.digests) if seen.secret else frozenset()


def problems(t: Tenant) -> list[Problem]:
    """Why no config can be made: a database whose address is missing."""
    kine = t.spec.storage.kine if t.spec.storage else None
    name = kine.data_source_secret_name if kine else None
    if t.decisions.storage != "kine" or not name:
        return []
    secret = dsn_secret(t)
    if secret is None:
        fault = f"Secret {name} does not exist in namespace {t.namespace}"
    elif DSN_KEY not in _keys(secret):
        fault = f"Secret {name} has no key {DSN_KEY}"
    else:
        return []
    return [
        Problem(
            field="spec.storage.kine.dataSourceSecretName",
            fault=fault,
            remedy=f"create the Secret with the database's address under the key {DSN_KEY}",
        )
    ]
