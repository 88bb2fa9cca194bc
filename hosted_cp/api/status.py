"""Parts of a status that our kinds share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from hosted_cp.api.base import Int32, Int64, Model, map_list

_DATE: dict[str, Any] = {"format": "date-time"}


class Condition(Model):
    """A `metav1.Condition`."""

    type: Annotated[str, Field(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    """One word from a closed list."""
    message: Annotated[str, Field(max_length=32768)]
    """The cause, and what to do about it."""
    observed_generation: Annotated[Int64, Field(ge=0)] | None = None
    """The generation of the spec that this is about."""
    last_transition_time: Annotated[str, Field(json_schema_extra=_DATE)]
    """When `status` changed last."""


class Convertible(Model):
    """A status whose kind has another version. The field is `conversion.STATUS_FIELD`."""

    conversion_data: str | None = None
    """What only the other version knows of the status, as it is kept until then. Nothing for people."""


Conditions: TypeAlias = Annotated[tuple[Condition, ...], Field(strict=False, json_schema_extra=map_list("type"))]


class Endpoint(Model):
    """Where workers and clients find the tenant's API."""

    host: str
    port: Int32
    konnectivity_port: Int32 | None = None
    """Where the workers' konnectivity agents connect."""


class CertificateExpiry(Model):
    """One certificate of the tenant."""

    name: str
    expires: Annotated[str, Field(json_schema_extra=_DATE)]
    """It is renewed well before, except for CAs."""


class DeprecatedClusterV1Beta1(Model):
    """What the status of v1beta1 said."""

    ready: bool | None = None
    reconciliation_status: str | None = None


class DeprecatedCluster(Model):
    """What former versions of the kind said."""

    v1beta1: Annotated[DeprecatedClusterV1Beta1 | None, Field(alias="v1beta1")] = None


class DeprecatedTokenV1Beta1(Model):
    """What the status of v1beta1 said."""

    cluster_uid: Annotated[str | None, Field(alias="clusterUID")] = None
    reconciliation_status: str | None = None


class DeprecatedToken(Model):
    """What former versions of the kind said."""

    v1beta1: Annotated[DeprecatedTokenV1Beta1 | None, Field(alias="v1beta1")] = None
