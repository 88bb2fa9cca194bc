"""Leaf certificates that the operator signs for the tenant's own etcd, renewed at two thirds of their life, for ever.

The leaves of k0s itself are its own business: it makes them anew at each start (`controllers.py` sees to a start in
time). etcd and the API server read these from mounted Secrets again when they change, so a renewal restarts nothing.
"""

from __future__ import annotations

from datetime import datetime

from hosted_cp.hosting import authorities
from hosted_cp.hosting.etcd import store
from hosted_cp.hosting.tenant import Tenant, once
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.pki import renewal
from hosted_cp.pki.recipes import LeafRecipe

#: purpose -> what it may be used for.
_USAGES = {
    "apiserver-etcd-client": ("client",),
    # etcd dials itself with its server certificate (the gRPC gateway, health), so it is a client as well.
    "etcd-server": ("server", "client"),
    "etcd-peer": ("server", "client"),
}


@once
def recipes(t: Tenant) -> dict[str, LeafRecipe]:
    """Purpose -> recipe of every leaf of this tenant."""
    if t.decisions.storage != "etcd":
        return {}
    dns_names, ip_addresses = store.server_names(t)
    return {
        purpose: LeafRecipe(
            common_name=purpose,
            organizations=(purpose,),
            dns_names=tuple(dns_names) if "server" in usages else (),
            ip_addresses=tuple(ip_addresses) if "server" in usages else (),
            usages=usages,
            algorithm=t.decisions.keyAlgorithm,
            signer=authorities.secret_name(t, "etcd"),
            include_ca=True,
        )
        for purpose, usages in _USAGES.items()
    }


def wanted(t: Tenant) -> list[Wanted]:
    signer = authorities.seen(t, "etcd")
    can_sign = authorities.at_hand(t, "etcd")
    found = []
    for purpose, recipe in recipes(t).items():
        name = t.names.secret(purpose)
        seen = t.view.own("Secret", name)
        if seen is None and not can_sign:
            continue  # `authorities.problems` says why
        # Without a signer, or its facts, nothing can be made anew; the leaf stays as it is.
        current = (
            seen is None
            or not can_sign
            or signer is None
            or seen.secret is None
            or signer.secret is None
            or renewal.leaf_is_current(seen.secret, recipe=recipe, signer_facts=signer.secret, now=t.view.now)
        )
        found.append(Wanted(body=authorities.body(t, name), recipe=recipe, current=current))
    return found


def renew_at(t: Tenant) -> datetime | None:
    """When the next leaf has to be renewed."""
    ca = authorities.certificate(t, "etcd")
    moments = [
        due
        for purpose in recipes(t)
        if (seen := t.view.own("Secret", t.names.secret(purpose))) is not None and seen.secret is not None
        if (facts := seen.secret.certificates.get("tls.crt")) is not None
        if (due := renewal.renew_at(facts, signer=ca)) is not None
    ]
    return min(moments, default=None)
