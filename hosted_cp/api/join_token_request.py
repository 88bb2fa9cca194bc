"""`JoinTokenRequest` (short name `jtr`): asks for a token with which a machine joins a tenant.

k0smotron's fields at v1beta2, without its default `expiry: 0s`, which makes tokens that never expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError

from hosted_cp.api.base import Column, Int64, Kind, Model, Rule, rules
from hosted_cp.api.duration import DurationError, parse
from hosted_cp.api.problems import Problem, of_validation
from hosted_cp.api.status import Conditions, Convertible, DeprecatedToken

#: k0smotron's, for what `clusterRef.namespace` says at v1beta1.
CLUSTER_NAMESPACE_ANNOTATION = "k0smotron.io/cluster-ref-namespace"

#: The life of a token where none is asked for; and for `0s`, which k0smotron wrote into objects that said nothing.
DEFAULT_EXPIRY = timedelta(hours=1)

EXPIRY_RULE = Rule(
    rule=r"self.matches('^([0-9]+([.][0-9]*)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('0s')",
    message="expiry must be a duration such as 90s, 30m or 24h",
)


def unchanged(field: str, *, default: str = "") -> Rule:
    """A rule that a field of the spec never changes."""
    now, old = (f"has({root}.{field}) ? {root}.{field} : '{default}'" for root in ("self", "oldSelf"))
    return Rule(
        rule=f"({now}) == ({old})",
        message=f"{field} cannot be changed: the token is for what was asked first; create another JoinTokenRequest",
        field_path=f".{field}",
        reason="FieldValueForbidden",
    )


class JoinTokenRequestSpec(Model):
    """What the user wants."""

    model_config = ConfigDict(json_schema_extra=rules(unchanged("clusterName"), unchanged("role", default="worker")))

    cluster_name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the Cluster, in the same namespace."""
    expiry: Annotated[str | None, Field(max_length=64, json_schema_extra=rules(EXPIRY_RULE))] = None
    """How long the token can be used, such as `90s`, `30m` or `24h`. Unset (and `0s`): one hour."""
    role: Literal["worker", "controller"] = "worker"
    """What joins."""

    @property
    def life(self) -> timedelta:
        """The life of the token. Raises DurationError if `expiry` is none (see `hosted_cp.api.checks`)."""
        return (parse(self.expiry) if self.expiry else timedelta()) or DEFAULT_EXPIRY


class JoinTokenRequestStatus(Convertible):
    """What the operator reports."""

    conditions: Conditions | None = None
    """`JoinTokenSecretCreated` says whether the token is there."""
    observed_generation: Int64 | None = None
    """The generation of the spec that this status is about."""
    token_id: Annotated[str | None, Field(alias="tokenID")] = None
    """First part of the bootstrap token; public."""
    expiration: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})] = None
    """When the token stops working."""
    deprecated: DeprecatedToken | None = None
    """What former versions of the kind said."""


class JoinTokenRequest(Kind):
    """Asks for a token with which a machine joins a tenant; the token is put into a Secret of the same name."""

    group: ClassVar[str] = "k0smotron.io"
    version: ClassVar[str] = "v1beta2"
    plural: ClassVar[str] = "jointokenrequests"
    short_names: ClassVar[tuple[str, ...]] = ("jtr",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Cluster", path=".spec.clusterName", description="Which Cluster the token is for."),
        Column(name="Role", path=".spec.role", description="What joins."),
        Column(
            name="Ready",
            path='.status.conditions[?(@.type=="JoinTokenSecretCreated")].status',
            description="Whether the token is there.",
        ),
        Column(name="Expires", path=".status.expiration", description="When the token stops working."),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
        Column(
            name="Reason",
            path='.status.conditions[?(@.type=="JoinTokenSecretCreated")].reason',
            description="Why there is no token, in one word.",
        ),
        Column(
            name="Message",
            path='.status.conditions[?(@.type=="JoinTokenSecretCreated")].message',
            description="The cause and the remedy.",
            priority=1,
        ),
    )

    spec: JoinTokenRequestSpec | None = None
    status: JoinTokenRequestStatus | None = None


@dataclass(frozen=True, kw_only=True)
class ParsedJoinTokenRequest:
    """A JoinTokenRequest as far as it can be read: its spec, or why there is none, or why it is not obeyed."""

    spec: JoinTokenRequestSpec | None
    problems: tuple[Problem, ...] = ()


def parse_join_token_request(body: Mapping[str, Any]) -> ParsedJoinTokenRequest:
    """Read the spec of a JoinTokenRequest object, its expiry included. Never raises."""
    given = body.get("spec")
    try:
        spec = JoinTokenRequestSpec.model_validate({} if given is None else given)
    except ValidationError as error:
        return ParsedJoinTokenRequest(spec=None, problems=of_validation(error, root="spec"))
    try:
        life = spec.life
    except DurationError as error:
        remedy = "write how long the token shall work, such as 90s, 30m or 24h"
        return ParsedJoinTokenRequest(
            spec=None, problems=(Problem(field="spec.expiry", fault=str(error), remedy=remedy),)
        )
    if life < timedelta(seconds=1):
        problem = Problem(
            field="spec.expiry", fault="is less than a second", remedy="ask for a longer life, such as 30m"
        )
        return ParsedJoinTokenRequest(spec=None, problems=(problem,))
    elsewhere = _namespace_problem(body)
    return ParsedJoinTokenRequest(spec=spec, problems=(elsewhere,) if elsewhere is not None else ())


def _namespace_problem(body: Mapping[str, Any]) -> Problem | None:
    """Why a request that once named a namespace (v1beta1's `clusterRef.namespace`) is not obeyed, or None.

    A request is for a cluster of its own namespace. One of the same name there is not what was asked for.
    """
    metadata = body.get("metadata") or {}
    named = (metadata.get("annotations") or {}).get(CLUSTER_NAMESPACE_ANNOTATION) or metadata.get("namespace")
    if named == metadata.get("namespace"):
        return None
    return Problem(
        field="spec.clusterRef.namespace",
        fault=f"is {named}, and a request is for a cluster of its own namespace only",
        remedy=f"create the JoinTokenRequest in the namespace {named}",
    )
