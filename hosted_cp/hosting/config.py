"""The Secret with `k0s.yaml`, and with the tenant's decisions in an annotation.

A Secret, not a ConfigMap, because the address of a database with its password may stand in the config. It is made when
address and authorities are known: that it exists proves that every authority existed (see `authorities`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hosted_cp.api import checks, database
from hosted_cp.api.cluster import Kine
from hosted_cp.api.problems import Problem
from hosted_cp.hosting import authorities, service
from hosted_cp.hosting.etcd import store
from hosted_cp.hosting.names import DECISIONS
from hosted_cp.hosting.tenant import API_PORT, KONNECTIVITY_PORT, Tenant, once
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.k0s.config import (
    CONTENT_SEAL,
    DSN_KEY,
    PASSWORD_FILE,
    SEAL_KEY,
    ConfigRecipe,
    Hosted,
    hosted_config,
    port_problem,
    seal,
    value_digest,
)
from hosted_cp.k0s.config import problems as config_problems
from hosted_cp.planning.memo import Memo, OfSubject
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Inputs

#: Annotation on config Secret and pod template: what the controllers were started with.
DIGEST = "hosted-cp.io/config-digest"
#: Where the Secret is mounted.
DIRECTORY = "/etc/k0s"
#: Where the etcd client certificate is mounted (kubelet updates it there; kube-apiserver reads it again).
ETCD_CLIENT = f"{DIRECTORY}/etcd"

#: By digest of the config: the digests of the Secret's values. Writing the text takes longer than the rest of a plan.
_EXPECTED: Memo[dict[str, str]] = Memo(most=2_000)
#: Of as many tenants as their specs are kept as read: the config, and its digest.
_RECIPES: OfSubject[ConfigRecipe] = OfSubject(most=256)
_DIGESTS: OfSubject[str] = OfSubject(most=256)


def _kine(t: Tenant) -> Kine | None:
    return t.spec.storage.kine if t.spec.storage and t.decisions.storage == "kine" else None


def dsn_secret(t: Tenant) -> Observed | None:
    """The Secret that holds the DSN, if one is named and exists."""
    kine = _kine(t)
    name = kine.data_source_secret_name if kine else None
    return t.view.references.get(("Secret", name)) if name else None


@once
def hosted(t: Tenant) -> Hosted:
    """What k0s has to know of how the tenant is hosted."""
    kine = _kine(t)
    return Hosted(
        version=t.version,
        address=t.decisions.address,
        api_port=t.decisions.apiPort,
        konnectivity_port=t.decisions.konnectivityPort,
        container_api_port=API_PORT,
        container_konnectivity_port=KONNECTIVITY_PORT,
        sans=(*service.in_cluster_names(t), *service.cluster_ips(t)),
        storage=t.decisions.storage,
        etcd_endpoints=tuple(store.endpoints(t)) if t.decisions.storage == "etcd" else (),
        etcd_prefix=t.decisions.etcdPrefix,
        etcd_client_directory=ETCD_CLIENT,
        data_source=kine.data_source_url if kine and not kine.data_source_secret_name else None,
        pod_cidr=t.decisions.podCIDR,
        service_cidr=t.decisions.serviceCIDR,
    )


def recipe(t: Tenant) -> ConfigRecipe:
    """The k0s config of this tenant; its DSN, if any, is filled in when it is fulfilled."""
    return t.once("k0s config", _recipe)


def _recipe(t: Tenant) -> ConfigRecipe:
    kine = _kine(t)
    named = kine.data_source_secret_name if kine else None
    secret = dsn_secret(t)
    digest = secret.secret.digests.get(DSN_KEY, "") if secret and secret.secret else ""
    # (It stands on pod templates, too, which more people may read than Secrets.)
    sealed = _sealed(t, {DSN_KEY: digest}) if digest else ""
    seal_secret = authorities.secret_name(t, "ca") if named else ""
    password_file = f"{DIRECTORY}/{PASSWORD_FILE}" if has_password_file(t) else ""
    return _RECIPES.get(
        t.uid, t.spec, (hosted(t), named, sealed, seal_secret, password_file),
        lambda: ConfigRecipe(
            config=hosted_config(t.spec.k0s_config, hosted(t)),
            dsn_secret=named,
            dsn_digest=sealed,
            seal_secret=seal_secret,
            password_file=password_file,
        ),
    )  # fmt: skip


def _sealed(t: Tenant, digests: Mapping[str, str]) -> str:
    """See `hosted_cp.k0s.config.seal`; "" while there is no CA."""
    authority = authorities.seen(t, "ca")
    key = authority.secret.digests.get(SEAL_KEY) if authority is not None and authority.secret is not None else None
    return seal(digests, key_digest=key) if key else ""


@once
def has_password_file(t: Tenant) -> bool:
    """Whether the config Secret has a key `PASSWORD_FILE`: the store is a PostgreSQL."""
    kine = _kine(t)
    if kine is None:
        return False
    if kine.data_source_secret_name:
        secret = dsn_secret(t)
        facts = secret.secret.databases.get(DSN_KEY) if secret and secret.secret else None
        return facts is not None and facts.kind == "postgres"
    try:
        return database.read(kine.data_source_url or "").kind == "postgres"
    except database.DataSourceError:
        return False


def digest(t: Tenant) -> str:
    """Changes when the controllers have to be started anew because of their config."""
    return t.once("k0s config digest", lambda t: _DIGESTS.get(t.uid, recipe(t), None, recipe(t).digest))


def wanted(t: Tenant) -> list[Wanted]:
    """The config Secret, once everything that stands in it is known."""
    return t.once("k0s config Secret", _wanted)


def _wanted(t: Tenant) -> list[Wanted]:
    # With an authority that it cannot use, k0s would silently make one of its own.
    unusable = [purpose for purpose in authorities.purposes(t) if not authorities.usable(t, purpose)]
    # Without the Service's address (somebody deleted it) the certificates would lose a name, and get it back.
    if not t.decisions.exposed or unusable or missing(t) or not service.cluster_ips(t):
        return []
    metadata = t.metadata(t.names.config, part="cluster-config")
    metadata["annotations"] = {
        **metadata.get("annotations", {}),
        DECISIONS: t.decisions.annotation(),
        DIGEST: digest(t),
    }
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}
    seen = t.view.own("Secret", t.names.config)
    current = seen is not None and seen.annotations.get(DIGEST) == digest(t) and not _spoilt(t, seen)
    return [Wanted(body=body, recipe=recipe(t), current=current)]


def _spoilt(t: Tenant, seen: Observed) -> bool:
    """Whether somebody changed the content. Where a database's address is filled in, ours is known by its seal only."""
    if seen.secret is None:
        return False
    if recipe(t).needs:
        return seen.annotations.get(CONTENT_SEAL) != _sealed(t, seen.secret.digests)
    expected = _EXPECTED.get(digest(t).encode(), answer=lambda: _content_digests(t))
    return dict(seen.secret.digests) != expected


def _content_digests(t: Tenant) -> dict[str, str]:
    """The digests of the config's content, as `SecretFacts.digests` has them."""
    inputs = Inputs(now=t.view.now, entropy=_nothing, new_key=_nothing, secrets={})
    return {key: value_digest(value) for key, value in recipe(t).fulfil(inputs).items()}


def _nothing(_: object) -> Any:
    raise AssertionError("a config needs no randomness")


def _keys(seen: Observed) -> frozenset[str]:
    return frozenset(seen.secret.digests) if seen.secret else frozenset()


def problems(t: Tenant) -> list[Problem]:
    """Why no config can be made: what k0s would refuse in the user's part."""
    found = list(
        config_problems(t.spec.k0s_config, version=t.version, storage=t.decisions.storage, address=t.decisions.address)
    )
    if t.decisions.exposed and (port := port_problem(hosted(t))) is not None:
        found.append(port)
    secret = dsn_secret(t)
    facts = secret.secret.databases.get(DSN_KEY) if secret and secret.secret else None
    if secret is not None and facts is not None:
        found += checks.shared_storage(t.spec, facts, field=f"Secret {secret.ref.name}")
    return found


def missing(t: Tenant) -> list[Problem]:
    """What the config waits for: the Secret with the database's address."""
    kine = _kine(t)
    name = kine.data_source_secret_name if kine else None
    if not name:
        return []
    secret = dsn_secret(t)
    if secret is None:
        fault = f"Secret {name} does not exist in namespace {t.namespace}"
    elif DSN_KEY not in _keys(secret):
        fault = f"Secret {name} has no key {DSN_KEY}"
    elif secret.secret is not None and DSN_KEY in secret.secret.faults:
        fault = f"key {DSN_KEY} of Secret {name} {secret.secret.faults[DSN_KEY]}"
    else:
        return []
    return [
        Problem(
            field="spec.storage.kine.dataSourceSecretName",
            fault=fault,
            remedy=f"create the Secret with the database's address, such as postgres://user:password@host:5432/db,"
            f" under the key {DSN_KEY}",
        )
    ]
