"""The admin kubeconfig that is handed to the user: Secret `<n>-kubeconfig`, key `value`, entry names as k0smotron's.

It is signed by us as soon as the address is known, before any pod runs, so that it can be fetched the moment the
tenant is asked for. It is renewed at half its life and when CA or address change, and never otherwise: whoever mounts
it should not see it change for nothing. Where the user has brought one, there is none of ours (`brought_kubeconfig`).
"""

from __future__ import annotations

from datetime import datetime

from hosted_cp.hosting import authorities, brought_kubeconfig, service
from hosted_cp.hosting.tenant import Tenant, once
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.pki import renewal
from hosted_cp.pki.recipes import KubeconfigRecipe


@once
def recipe(t: Tenant) -> KubeconfigRecipe:
    return KubeconfigRecipe(
        cluster=t.name,
        server=f"https://{service.url_host(t.decisions.address)}:{t.decisions.apiPort}",
        signer=authorities.secret_name(t, "ca"),
        algorithm=t.decisions.keyAlgorithm,
    )


def wanted(t: Tenant) -> list[Wanted]:
    if brought_kubeconfig.seen(t) is not None:
        return []
    signer = authorities.seen(t, "ca")
    seen = t.view.own("Secret", t.names.kubeconfig)
    can_sign = authorities.usable(t, "ca")
    if not t.decisions.exposed or signer is None or (seen is None and not can_sign):
        return []
    metadata = t.metadata(t.names.kubeconfig, part="kubeconfig")
    metadata["labels"] = {**metadata["labels"], authorities.CLUSTER_NAME: t.name}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": authorities.SECRET_TYPE}
    current = (
        seen is None
        or not can_sign
        or seen.secret is None
        or signer.secret is None
        or renewal.kubeconfig_is_current(seen.secret, recipe=recipe(t), signer_facts=signer.secret, now=t.view.now)
    )
    return [Wanted(body=body, recipe=recipe(t), current=current)]


def renew_at(t: Tenant) -> datetime | None:
    """When the kubeconfig has to be renewed."""
    seen = t.view.own("Secret", t.names.kubeconfig)
    if seen is None or seen.secret is None or (facts := seen.secret.kubeconfigs.get("value")) is None:
        return None
    if facts.client is None:
        return None
    ca = authorities.certificate(t, "ca")
    return renewal.renew_at(facts.client, signer=ca, fraction=renewal.KUBECONFIG_FRACTION)
