"""Whether a certificate or kubeconfig that exists is still the one its recipe asks for, judged by public facts.

Never by comparing bytes: those differ with every key. The `why_…` functions say what is wrong (for Events and logs),
the `…_is_current` ones are their short form. All assume that the signer was found valid
(`hosted_cp.pki.authority.validate_authority`); with a signer that lacks its certificate nothing is current.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hosted_cp.pki.authority import CERTIFICATE, KEY
from hosted_cp.pki.recipes import BACKDATED, KUBECONFIG_KEY, KubeconfigRecipe, LeafRecipe, authority_key_id
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.observed import CertificateFacts, SecretFacts

#: A leaf in use is renewed when this part of its life has passed (as cert-manager does).
LEAF_FRACTION = 2 / 3
#: A kubeconfig is renewed earlier: users hold copies of it that we cannot renew.
KUBECONFIG_FRACTION = 1 / 2


def renew_at(
    certificate: CertificateFacts, *, signer: CertificateFacts | None = None, fraction: float = LEAF_FRACTION
) -> datetime | None:
    """When a certificate is due; None if it ends with its signer.

    A renewal of the latter would end no later, so near the signer's end renewals would follow ever faster.
    """
    if signer is not None and certificate.not_after >= signer.not_after:
        return None
    return certificate.not_before + (certificate.not_after - certificate.not_before) * fraction


def leaf_is_current(facts: SecretFacts, *, recipe: LeafRecipe, signer_facts: SecretFacts, now: datetime) -> bool:
    """Whether the Secret holds what the recipe would make, and is not due for renewal."""
    return why_renew_leaf(facts, recipe=recipe, signer_facts=signer_facts, now=now) is None


def kubeconfig_is_current(
    facts: SecretFacts, *, recipe: KubeconfigRecipe, signer_facts: SecretFacts, now: datetime
) -> bool:
    """Whether the Secret holds the kubeconfig that the recipe would make, and is not at half of its life."""
    return why_renew_kubeconfig(facts, recipe=recipe, signer_facts=signer_facts, now=now) is None


def why_renew_leaf(facts: SecretFacts, *, recipe: LeafRecipe, signer_facts: SecretFacts, now: datetime) -> str | None:
    """What about the certificate in a Secret asks for a new one; None if nothing does."""
    signer = signer_facts.certificates.get(CERTIFICATE)
    if signer is None:
        return f"its signer {recipe.signer} has no certificate"
    for key in (CERTIFICATE, KEY):
        if key not in facts.digests:
            return f"{key} is missing"
        if key in facts.faults:
            return f"{key} {facts.faults[key]}"
    certificate = facts.certificates.get(CERTIFICATE)
    if certificate is None or certificate.count != 1:
        return f"{CERTIFICATE} does not hold exactly one certificate"
    if facts.public_keys.get(KEY) != certificate.public_key:
        return f"{KEY} is not the key of {CERTIFICATE}"
    if recipe.include_ca:
        authority = facts.certificates.get("ca.crt")
        if authority is None or authority.count != 1 or authority.fingerprint != signer.fingerprint:
            return f"ca.crt is not the certificate of {recipe.signer}"
    return _why_renew(certificate, recipe=recipe, signer=signer, now=now, fraction=LEAF_FRACTION)


def why_renew_kubeconfig(
    facts: SecretFacts, *, recipe: KubeconfigRecipe, signer_facts: SecretFacts, now: datetime
) -> str | None:
    """What about the kubeconfig in a Secret asks for a new one; None if nothing does."""
    signer = signer_facts.certificates.get(CERTIFICATE)
    if signer is None:
        return f"its signer {recipe.signer} has no certificate"
    if KUBECONFIG_KEY in facts.faults:
        return f"{KUBECONFIG_KEY} {facts.faults[KUBECONFIG_KEY]}"
    kubeconfig = facts.kubeconfigs.get(KUBECONFIG_KEY)
    if kubeconfig is None:
        return f"{KUBECONFIG_KEY} is missing or no kubeconfig"
    if kubeconfig.server != recipe.server:
        return f"the server has moved from {kubeconfig.server} to {recipe.server}"
    if kubeconfig.ca_fingerprint != signer.fingerprint:
        return f"it trusts another CA than {recipe.signer}"
    entries = (kubeconfig.cluster, kubeconfig.user, kubeconfig.context)
    if entries != (recipe.cluster_entry, recipe.user_entry, recipe.context_entry):
        return "its entries have other names"
    if kubeconfig.client is None:  # a key that does not match is a fault already
        return "it has no client certificate"
    return _why_renew(kubeconfig.client, recipe=recipe.client, signer=signer, now=now, fraction=KUBECONFIG_FRACTION)


def _why_renew(
    certificate: CertificateFacts, *, recipe: LeafRecipe, signer: CertificateFacts, now: datetime, fraction: float
) -> str | None:
    identifier = authority_key_id(subject_key_id=signer.subject_key_id, public_key=signer.public_key)
    if certificate.issuer != signer.subject or certificate.authority_key_id != identifier:
        return f"it was signed by another CA than {recipe.signer}"
    checks = (
        ("common name", certificate.subject, recipe.common_name),
        ("organizations", frozenset(certificate.organizations), frozenset(recipe.organizations)),
        ("DNS names", certificate.dns_names, frozenset(recipe.dns_names)),
        ("IP addresses", certificate.ip_addresses, frozenset(recipe.ip_addresses)),
        ("usages", certificate.usages, frozenset(recipe.usages)),
        ("key algorithm", certificate.key_algorithm, recipe.algorithm),
    )
    for what, has, wants in checks:
        if has != wants:
            return f"its {what} would change"
    if now >= certificate.not_after:
        return f"it expired at {rfc3339(certificate.not_after)}"
    if certificate.not_after - certificate.not_before > recipe.life + BACKDATED + timedelta(minutes=1):
        return "its life would be shorter"
    due = renew_at(certificate, signer=signer, fraction=fraction)
    return f"it is due since {rfc3339(due)}" if due is not None and now >= due else None
