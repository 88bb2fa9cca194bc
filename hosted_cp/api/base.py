"""What all models of our kinds share: camelCase on the wire, frozen in our hands, and the marks for the CRD generator.

A model mirrors its schema, so that an object reads the same whether the API server defaulted it or not (`hosted-cp
render` works on files). A plain default stands in the CRD and is written into every stored object; a `default_factory`
is ours alone and can change with a release. Unknown fields are ignored, because the API server prunes them. Docstrings
below a field are its description in CRD and docs (`schema` finds them in the source, where they are asked for).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Base of everything that stands in a manifest."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        # A process starts with all kinds and versions, and reads most of them never: a validator is built at first use.
        defer_build=True,
    )


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    #: Columns above 0 are shown with `-o wide` only.
    priority: int = 0


class Kind(Model):
    """A whole object. Subclasses have the fields `spec` and `status`."""

    group: ClassVar[str]
    version: ClassVar[str]
    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[Column, ...]]
    #: Whether `kubectl scale` and autoscalers work on it.
    scale: ClassVar[bool] = False
    #: What the API server fills in where the user left `spec` out altogether.
    spec_default: ClassVar[dict[str, Any] | None] = None
    #: `kubectl get <category>` lists it, too.
    categories: ClassVar[tuple[str, ...]] = ()
    #: Labels of the CustomResourceDefinition; by these other programs find out what the kind is for.
    labels: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: Clients that use this version are warned.
    deprecated: ClassVar[bool] = False


Int32: TypeAlias = Annotated[int, Field(json_schema_extra={"format": "int32"})]
Int64: TypeAlias = Annotated[int, Field(json_schema_extra={"format": "int64"})]
Port: TypeAlias = Annotated[int, Field(ge=1, le=65535, json_schema_extra={"format": "int32"})]
#: JSON has lists only; in our hands they are tuples.
Strings: TypeAlias = Annotated[tuple[str, ...], Field(strict=False)]
StringMap: TypeAlias = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A CEL rule of the API server (`x-kubernetes-validations`)."""

    rule: str
    message: str
    #: Relative to where the rule stands: `.storage.type`.
    field_path: str = ""
    reason: str = "FieldValueInvalid"

    def schema(self) -> dict[str, str]:
        path = {"fieldPath": self.field_path} if self.field_path else {}
        return {"rule": self.rule, "message": self.message, "reason": self.reason, **path}


def rules(*given: Rule) -> dict[str, Any]:
    """For `json_schema_extra`."""
    return {"x-kubernetes-validations": [each.schema() for each in given]}


def map_list(*keys: str) -> dict[str, Any]:
    """For `json_schema_extra`: a list of objects that server-side apply merges by these keys."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


#: For `json_schema_extra`: required in the schema although it has a default (as k0smotron's CRDs have it).
REQUIRED: dict[str, Any] = {"x-required": True}
