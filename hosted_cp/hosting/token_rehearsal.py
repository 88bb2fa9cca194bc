"""What a request for a join token comes to, without a cluster: planned in a world in which the tenant answers.

For `hosted-cp render`. What only a cluster can say stands in the result as a marked text; the token is a recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hosted_cp.api.join_token_request import ParsedJoinTokenRequest
from hosted_cp.hosting import authorities
from hosted_cp.hosting.names import Names
from hosted_cp.hosting.rehearsal import decided
from hosted_cp.hosting.rehearsal import marked as marked_tenant
from hosted_cp.hosting.tenant import Decisions
from hosted_cp.hosting.tokens import TokenView, plan
from hosted_cp.hosting.view import TenantView
from hosted_cp.k0s import tokens
from hosted_cp.planning.actions import Create, Ref, Target
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.marks import marked
from hosted_cp.planning.observed import CertificateFacts, Observed, SecretFacts

_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_FINGERPRINT, _TENANT = "fingerprint-of-the-ca", "uid-of-the-tenant"
_ADDRESS, _PORT = "192.0.2.105", 64905


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What the token says of the tenant: where it is, and which Secret holds its CA."""

    decisions: Decisions
    authority: str


def rehearse(
    owner: Observed, parsed: ParsedJoinTokenRequest, *, tenant: TenantView | None
) -> tuple[Mapping[str, Any] | None, str]:
    """(the Secret with the token, its data as a recipe; why there is none). `tenant`: the one that it is for, if it is
    known what that will be."""
    name = parsed.spec.cluster_name if parsed.spec is not None else ""
    place = _place(name, tenant)
    life = parsed.spec.life if parsed.spec is not None else None
    view = TokenView(
        now=_NOW,
        owner=owner,
        spec=parsed.spec,
        problems=parsed.problems,
        cluster=Observed(
            ref=Ref(api_version=owner.ref.api_version, kind="Cluster", namespace=owner.ref.namespace, name=name),
            uid=_TENANT,
            resource_version="1",
        ),
        initialized=True,
        decisions=place.decisions,
        authority=Observed(
            ref=Ref(api_version="v1", kind="Secret", namespace=owner.ref.namespace, name=place.authority),
            uid=place.authority,
            resource_version="1",
            secret=SecretFacts(type="", certificates={"tls.crt": _CA}),
        ),
    )
    marks: dict[str | int, str] = {
        tokens.server_url(_ADDRESS, _PORT): "<endpoint of the Cluster>",
        tokens.token_id(owner.uid): "<id>",
        owner.uid: "<UID of the JoinTokenRequest>",
        _TENANT: "<UID of the Cluster>",
        _FINGERPRINT: "<SHA-256 of the CA's certificate>",
    }
    if life is not None:
        marks[rfc3339(_NOW + life)] = f"<now + {_words(life.total_seconds())}>"
    made = plan(view)
    for each in made.actions:
        if isinstance(each, Create) and each.target is Target.MANAGEMENT and each.recipe is not None:
            body = {**each.body, "data": {"<made by>": each.recipe.printed()}}
            return marked(marked_tenant(body), marks), ""
    return None, str((made.status or {})["conditions"][0]["message"])


def _place(name: str, tenant: TenantView | None) -> _Place:
    """Of a tenant of which nothing is known: somewhere."""
    played = decided(tenant) if tenant is not None else None
    if played is None:
        somewhere = Decisions(address=_ADDRESS, apiPort=_PORT, konnectivityPort=_PORT)
        return _Place(decisions=somewhere, authority=Names(name).secret("ca"))
    return _Place(decisions=played.decisions, authority=authorities.secret_name(played, "ca"))


def _words(seconds: float) -> str:
    return f"{seconds / 3600:g}h" if seconds % 3600 == 0 else f"{seconds:g}s"


#: Of which it only matters that there is one.
_CA = CertificateFacts(
    subject="", organizations=(), issuer="", fingerprint=_FINGERPRINT, public_key="", subject_key_id="",
    authority_key_id="", dns_names=frozenset(), ip_addresses=frozenset(), usages=frozenset(), is_ca=True,
    not_before=_NOW, not_after=_NOW, key_algorithm="",
)  # fmt: skip
