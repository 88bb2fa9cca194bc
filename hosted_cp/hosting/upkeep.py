"""Renewals, and restarts for them, while nothing else may be changed: a refused spec must not let what runs expire.

What a spec with a problem asks for is not known, so nothing here reads it. What to renew and how is told by what is
there: a certificate of ours is made once more exactly as it is, by the same authority, because its time has come.
Nothing is made that does not exist, and what differs from its recipe in more than time is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from hosted_cp.hosting import leaves
from hosted_cp.hosting.names import OUR_VOLUMES, Names
from hosted_cp.hosting.view import TenantView
from hosted_cp.pki import renewal
from hosted_cp.pki.authority import CERTIFICATE, validate_authority
from hosted_cp.pki.recipes import KUBECONFIG_KEY, KubeconfigRecipe, LeafRecipe
from hosted_cp.planning import diff
from hosted_cp.planning.actions import Action, AnnotatePods, Replace
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.observed import CertificateFacts, Observed, SecretFacts

_LEAVES = ("apiserver-etcd-client", "etcd-server", "etcd-peer")


def renewals(view: TenantView) -> list[Action]:
    """What is due now."""
    found: list[Action] = [
        Replace(body=diff.as_last_wanted(seen), recipe=recipe, uid=seen.uid, resource_version=seen.resource_version)
        for seen, recipe, due in _renewable(view)
        if due <= view.now and not seen.deleting
    ]
    restart = _restartable(view)
    if restart is not None and restart[1] <= view.now:
        live, _ = restart
        made = {leaves.MADE: rfc3339(view.now)}
        found.append(AnnotatePods(ref=live.ref, uid=live.uid, resource_version=live.resource_version, annotations=made))
    return found


def wake(view: TenantView) -> float | None:
    """Seconds until the next renewal is due."""
    moments = [due for _, _, due in _renewable(view)]
    if (restart := _restartable(view)) is not None:
        moments.append(restart[1])
    return max(1.0, (min(moments) - view.now).total_seconds()) if moments else None


def _restartable(view: TenantView) -> tuple[Observed, datetime] | None:
    """The controllers, and when they have to start anew for their leaves; None where that is not known, or where what
    they need for a start is gone: what runs without it goes on running."""
    live = view.own("StatefulSet", Names(view.name).control_plane)
    if live is None or live.deleting:
        return None
    made, life = leaves.made(live), leaves.life(live)
    there = {name for kind, name in (*view.children, *view.references) if kind == "Secret"}
    if made is None or not life or not there.issuperset(_secrets_of_pods(live)):
        return None
    return live, made + leaves.restart_after(life, uid=view.owner.uid)


def _secrets_of_pods(live: Observed) -> Iterator[str]:
    """The Secrets in the volumes that are ours, without which no pod starts. (Those of the user are his to keep.)"""
    for volume in live.get("spec", "template", "spec", "volumes", default=[]):
        ours = volume.get("projected", {}) if volume["name"].startswith(OUR_VOLUMES) else {}
        for source in ours.get("sources", ()):
            if (name := source.get("secret", {}).get("name")) is not None:
                yield str(name)


def _renewable(view: TenantView) -> Iterator[tuple[Observed, LeafRecipe | KubeconfigRecipe, datetime]]:
    """Each Secret of ours that can be made anew from what is known of it, how, and when."""
    names = Names(view.name)
    for name in (*map(names.secret, _LEAVES), names.kubeconfig):
        seen = view.own("Secret", name)
        if seen is None or seen.secret is None:
            continue
        found = _kubeconfig(view, seen.secret) if name == names.kubeconfig else _leaf(view, seen.secret)
        if found is not None:
            recipe, due = found
            yield seen, recipe, due


def _leaf(view: TenantView, facts: SecretFacts) -> tuple[LeafRecipe, datetime] | None:
    certificate, authority = facts.certificates.get(CERTIFICATE), facts.certificates.get("ca.crt")
    if certificate is None or authority is None:
        return None
    signer = _signer(view, authority.fingerprint)
    if signer is None or signer.secret is None:
        return None
    try:
        recipe = LeafRecipe(
            common_name=certificate.subject,
            organizations=certificate.organizations,
            dns_names=tuple(certificate.dns_names),
            ip_addresses=tuple(certificate.ip_addresses),
            usages=tuple(certificate.usages),
            algorithm=certificate.key_algorithm,
            signer=signer.ref.name,
            include_ca=True,
        )
    except ValueError:
        return None  # no certificate of ours
    due = _due(certificate, signer.secret, fraction=renewal.LEAF_FRACTION)
    just_before = certificate.not_before
    sound = renewal.leaf_is_current(facts, recipe=recipe, signer_facts=signer.secret, now=just_before)
    return (recipe, due) if due is not None and sound else None


def _kubeconfig(view: TenantView, facts: SecretFacts) -> tuple[KubeconfigRecipe, datetime] | None:
    kubeconfig = facts.kubeconfigs.get(KUBECONFIG_KEY)
    if kubeconfig is None or kubeconfig.client is None:
        return None
    signer = _signer(view, kubeconfig.ca_fingerprint)
    if signer is None or signer.secret is None:
        return None
    try:
        recipe = KubeconfigRecipe(
            cluster=view.name,
            server=kubeconfig.server,
            signer=signer.ref.name,
            user=kubeconfig.client.subject,
            organizations=kubeconfig.client.organizations,
            algorithm=kubeconfig.client.key_algorithm,
        )
    except ValueError:
        return None
    due = _due(kubeconfig.client, signer.secret, fraction=renewal.KUBECONFIG_FRACTION)
    just_before = kubeconfig.client.not_before
    sound = renewal.kubeconfig_is_current(facts, recipe=recipe, signer_facts=signer.secret, now=just_before)
    return (recipe, due) if due is not None and sound else None


def _due(certificate: CertificateFacts, signer: SecretFacts, *, fraction: float) -> datetime | None:
    return renewal.renew_at(certificate, signer=signer.certificates.get(CERTIFICATE), fraction=fraction)


def _signer(view: TenantView, fingerprint: str) -> Observed | None:
    """The Secret that holds this authority and can sign with it: ours, or one that the user brought."""
    for seen in (*view.children.values(), *view.references.values()):
        certificate = seen.secret.certificates.get(CERTIFICATE) if seen.secret is not None else None
        if (
            seen.secret is not None
            and certificate is not None
            and certificate.fingerprint == fingerprint
            and validate_authority(seen.secret, now=view.now) is None
        ):
            return seen
    return None
