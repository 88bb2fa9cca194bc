"""A kubeconfig that the user has brought: a Secret `<n>-kubeconfig` that nobody controls and that is not of ours.

k0smotron goes on with such a Secret as long as it can read it, and overwrites it otherwise. We go on with it and never
write it: what somebody keeps under that name is his. But core and everybody else who manages the tenant's cluster reads
it under this name, so it is not passed off as good either: it has to be one that core would use, of this tenant's CA,
and the tenant has to answer to it (docs/decisions/0020).
"""

from __future__ import annotations

from datetime import datetime

from hosted_cp.hosting import authorities, endpoint
from hosted_cp.hosting.names import TENANT_UID
from hosted_cp.hosting.tenant import Tenant, once
from hosted_cp.pki import kubeconfig
from hosted_cp.pki.recipes import KUBECONFIG_KEY
from hosted_cp.planning.actions import Finding, Probe
from hosted_cp.planning.conditions import Cause, rfc3339
from hosted_cp.planning.observed import KubeconfigFacts, Observed

#: By which a question of this module is told from those of `endpoint`.
_KEY = "kubeconfig"


@once
def seen(t: Tenant) -> Observed | None:
    """The user's Secret. One with another controller, or with the mark of a tenant, is something else: in the way."""
    found = t.view.child("Secret", t.names.kubeconfig)
    if found is None or found.deleting or found.controller_uid or TENANT_UID in found.labels:
        return None
    return found


def asking(t: Tenant) -> bool:
    """Whether the tenant is being asked about it for the first time: the answer is a moment away."""
    return bool(probes(t)) and _finding(t) is None


@once
def fault(t: Tenant) -> Cause | None:
    """Why it is not (yet) said to be good; None if it is, and where there is none."""
    secret = seen(t)
    if secret is None:
        return None
    said = f"the kubeconfig in Secret {secret.ref.name}, which is yours and is not overwritten,"
    if (wrong := _by_sight(t, secret)) != "":
        return _unusable(f"{said} {wrong}")
    if not endpoint.reachable(t):
        return None  # nobody can be asked from here: what can be seen is all there is
    finding = _finding(t)
    if not endpoint.serving(t) or finding is None:
        waits = f"{said} is tried as soon as the API server answers"
        return Cause(reason="ControlPlaneStarting", message=waits, starting=True)
    if not finding.ok:
        return _unusable(f"{said} does not lead into this control plane ({finding.message}): correct it")
    return None


def _unusable(said: str) -> Cause:
    return Cause(reason="KubeconfigUnusable", message=f"{said}. Or delete the Secret, and one is made")


def _by_sight(t: Tenant, secret: Observed) -> str:
    """What is wrong with it whatever the tenant says, with the remedy; "" if nothing is."""
    if secret.secret is None:
        return ""
    wrong = kubeconfig.fault_in(secret.secret, key=KUBECONFIG_KEY)
    if wrong:
        return wrong
    facts = secret.secret.kubeconfigs[KUBECONFIG_KEY]
    authority = authorities.certificate(t, "ca")
    if authority is not None and facts.ca_fingerprint != authority.fingerprint:
        return (
            "has another CA than this control plane: embed tls.crt of Secret"
            f" {authorities.secret_name(t, 'ca')} as certificate-authority-data"
        )
    if facts.client is not None and facts.client.not_after <= t.view.now:
        return f"has a client certificate that ended at {rfc3339(facts.client.not_after)}: make another"
    if t.view.read_by_core and secret.labels.get(authorities.CLUSTER_NAME) != t.name:
        return (
            f"lacks the label {authorities.CLUSTER_NAME}={t.name}, without which Cluster API does not see it: put it"
            " on the Secret"
        )
    return ""


def _facts(t: Tenant) -> KubeconfigFacts | None:
    secret = seen(t)
    return secret.secret.kubeconfigs.get(KUBECONFIG_KEY) if secret is not None and secret.secret is not None else None


@once
def probes(t: Tenant) -> tuple[Probe, ...]:
    """Ask the tenant with it. One that names the decided endpoint is tried where the operator reaches that; any other
    address is asked itself, and whoever answers there has to have a certificate of this tenant's CA."""
    secret, facts, inside = seen(t), _facts(t), endpoint.in_cluster(t)
    if secret is None or secret.secret is None or facts is None or inside is None or _by_sight(t, secret):
        return ()
    if not endpoint.serving(t) or not endpoint.reachable(t):
        return ()
    published = (t.decisions.address, t.decisions.apiPort)
    here = kubeconfig.host_and_port(facts.server) == published and not facts.server_name
    return (
        Probe(
            kind="tenant-api",
            key=_KEY,
            arguments=(
                ("authority", secret.ref.name),
                ("server", inside.server if here else facts.server.rstrip("/")),
                ("serverName", inside.server_name if here else facts.server_name),
                ("kubeconfig", KUBECONFIG_KEY),
                # Another question when the Secret is corrected.
                ("digest", secret.secret.digests[KUBECONFIG_KEY]),
            ),
        ),
    )


def _finding(t: Tenant) -> Finding | None:
    """The answer to the question that is asked now; none to another one."""
    found = t.view.finding("tenant-api", _KEY)
    return found if found is not None and found.probe in probes(t) else None


def ends(t: Tenant) -> datetime | None:
    """When it can no longer be used."""
    facts = _facts(t)
    return facts.client.not_after if facts is not None and facts.client is not None else None


def note(t: Tenant) -> str:
    """What there is to know about it although it is good."""
    secret = seen(t)
    if secret is None:
        return ""
    untried = "" if endpoint.reachable(t) else ", and has not been tried, because the operator runs outside the cluster"
    return (
        f"Secret {secret.ref.name} is yours: it is used as it is, never written and never renewed{untried}. Delete it,"
        " and one is made"
    )
