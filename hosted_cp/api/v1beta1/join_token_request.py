"""`JoinTokenRequest` at v1beta1: the cluster is named with a namespace, which never reaches another one's (see
`hosted_cp.api.conversions.join_token_request`)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from hosted_cp.api.base import Column, Kind, Model, Rule, rules
from hosted_cp.api.join_token_request import EXPIRY_RULE, unchanged
from hosted_cp.api.status import Convertible


class ClusterRef(Model):
    """Which Cluster the token is for."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the Cluster."""
    namespace: str
    """Its namespace, which must be that of this object."""


class JoinTokenRequestSpec(Model):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule="self.clusterRef.name == oldSelf.clusterRef.name",
                message="clusterRef cannot be changed: the token is for what was asked first; "
                "create another JoinTokenRequest",
                field_path=".clusterRef",
                reason="FieldValueForbidden",
            ),
            unchanged("role", default="worker"),
        )
    )

    cluster_ref: ClusterRef
    """Which Cluster the token is for. At v1beta2: `clusterName`."""
    expiry: Annotated[str | None, Field(max_length=64, json_schema_extra=rules(EXPIRY_RULE))] = None
    """How long the token can be used, such as `90s`, `30m` or `24h`. Unset (and `0s`): one hour."""
    role: Literal["worker", "controller"] = "worker"
    """What joins."""


class JoinTokenRequestStatus(Convertible):
    """What the operator reports."""

    reconciliation_status: str
    """What happened last, in words."""
    token_id: Annotated[str | None, Field(alias="tokenID")] = None
    """First part of the bootstrap token; public."""
    cluster_uid: Annotated[str | None, Field(alias="clusterUID")] = None
    """UID of the Cluster that the token is for."""


class JoinTokenRequest(Kind):
    """Asks for a token with which a machine joins a tenant; the token is put into a Secret of the same name."""

    group: ClassVar[str] = "k0smotron.io"
    version: ClassVar[str] = "v1beta1"
    plural: ClassVar[str] = "jointokenrequests"
    short_names: ClassVar[tuple[str, ...]] = ("jtr",)
    deprecated: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = ()

    spec: JoinTokenRequestSpec | None = None
    status: JoinTokenRequestStatus | None = None
