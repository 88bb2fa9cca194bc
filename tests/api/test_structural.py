"""The linter finds every planted fault, and none in our schemas."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import Field

from hosted_cp.api.base import Kind, Model
from hosted_cp.api.crds import KINDS
from hosted_cp.api.schema import openapi, structural
from tests.api.structural import faults, invalid

STRING = {"type": "string"}
SOUND: dict[str, Any] = {
    "type": "object",
    "properties": {
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "maxLength": 9},
                "size": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "map": {"type": "object", "additionalProperties": STRING, "default": {"a": "b"}},
                "list": {
                    "type": "array",
                    "items": {"type": "object", "required": ["key"], "properties": {"key": STRING}},
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["key"],
                },
            },
            "anyOf": [{"required": ["size"]}, {"properties": {"name": {"maxLength": 3}}}],
            "x-kubernetes-validations": [{"rule": "true", "message": "m", "fieldPath": ".name"}],
        },
    },
}
SPEC = ("properties", "spec")


def planted(*path: str, **keywords: Any) -> list[str]:
    """The faults of SOUND with these keywords put at a path (`None` removes one)."""
    schema: Any = copy.deepcopy(SOUND)
    node = schema
    for step in path:
        node = node[step]
    for keyword, value in keywords.items():
        name = keyword.replace("x_kubernetes_", "x-kubernetes-").replace("_", "-").strip("-")
        name = {"ref": "$ref", "not": "not"}.get(name, name)
        if value is None:
            del node[name]
        else:
            node[name] = value
    return faults(schema)


def test_a_sound_schema_has_no_faults() -> None:
    assert faults(SOUND) == []


NAME = (*SPEC, "properties", "name")
LIST = (*SPEC, "properties", "list")
MAP = (*SPEC, "properties", "map")


@pytest.mark.parametrize(
    ("path", "keywords", "says"),
    [
        ((), {"type": "array", "items": STRING}, "type must be object"),
        (("properties", "metadata"), {"properties": {"labels": {"type": "object"}}}, "may only constrain name"),
        (NAME, {"type": None}, "has no type"),
        (NAME, {"type": "null"}, "type null is not allowed"),
        (NAME, {"ref": "#/x"}, "unknown keyword $ref"),
        (NAME, {"const": "a"}, "unknown keyword const"),
        (NAME, {"title": "Name"}, "unknown keyword title"),
        (NAME, {"uniqueItems": True}, "unknown keyword uniqueItems"),
        (NAME, {"patternProperties": {}}, "unknown keyword patternProperties"),
        (NAME, {"exclusiveMinimum": 0}, "exclusiveMinimum must be true or false"),
        (NAME, {"format": "uuid4"}, "format uuid4 is unknown"),
        (NAME, {"enum": ["a", "a"]}, "enum is empty or has doubles"),
        (NAME, {"pattern": "("}, "pattern is no regular expression"),
        (NAME, {"pattern": "(?=a)"}, "RE2 does not know"),
        (NAME, {"default": 7}, "is no string"),
        (NAME, {"default": "much too long"}, "too short or too long"),
        (NAME, {"default": False}, "is no string"),
        (NAME, {"items": STRING}, "is no array"),
        (NAME, {"properties": {}}, "is no object"),
        (NAME, {"x_kubernetes_validations": [{"message": "m"}]}, "needs a rule"),
        (NAME, {"x_kubernetes_validations": [{"rule": "true"}]}, "needs a message"),
        (NAME, {"x_kubernetes_validations": [{"rule": "true", "message": "a\nb"}]}, "one line"),
        (SPEC, {"x_kubernetes_validations": [{"rule": "true", "message": "a", "fieldPath": ".x"}]}, "does not exist"),
        (SPEC, {"additionalProperties": STRING}, "exclude each other"),
        (SPEC, {"x_kubernetes_preserve_unknown_fields": False}, "may only be true"),
        (SPEC, {"required": ["other"]}, "required other is no property"),
        (SPEC, {"anyOf": [{"type": "object"}]}, "type is not allowed inside a junctor"),
        (SPEC, {"oneOf": [{"properties": {"name": {"default": "a"}}}]}, "default is not allowed inside a junctor"),
        (SPEC, {"allOf": [{"properties": {"other": {"maxLength": 1}}}]}, "other is not declared outside"),
        (SPEC, {"not": {"x-kubernetes-list-type": "map"}}, "not allowed inside a junctor"),
        (SPEC, {"not": {"discriminator": {}}}, "unknown keyword discriminator"),
        (SPEC, {"default": {"other": 1, "name": "a"}}, "would be pruned"),
        (SPEC, {"default": {}}, "name is missing"),
        (MAP, {"additionalProperties": True}, "must be a schema"),
        (MAP, {"additionalProperties": {}}, "has no type"),
        (MAP, {"default": {"a": 1}}, "is no string"),
        (LIST, {"items": None}, "needs one schema of items"),
        (LIST, {"items": [STRING]}, "needs one schema of items"),
        (LIST, {"x_kubernetes_list_map_keys": None}, "go together"),
        (LIST, {"x_kubernetes_list_type": "set"}, "items of a set must be scalars"),
        (LIST, {"x_kubernetes_list_type": "bag"}, "list type bag is unknown"),
        (LIST, {"x_kubernetes_list_map_keys": ["other"]}, "no scalar property"),
        ((*LIST, "items"), {"required": None}, "must be required or have a default"),
        ((*SPEC, "properties", "size"), {"type": "string"}, "type string is not allowed"),
        ((*SPEC, "properties", "size"), {"anyOf": [{"type": "integer"}]}, "not allowed inside a junctor"),
        ((*SPEC, "properties"), {"bad": True}, "is no schema but bool"),
    ],
)
def test_every_planted_fault_is_found(path: tuple[str, ...], keywords: dict[str, Any], says: str) -> None:
    assert any(says in fault for fault in planted(*path, **keywords)), planted(*path, **keywords)


def test_a_null_default_is_found() -> None:
    schema = copy.deepcopy(SOUND)
    schema["properties"]["spec"]["properties"]["name"]["default"] = None
    assert faults(schema) == ["(root).spec.name: default is null"]


@pytest.mark.parametrize("kind", KINDS)
def test_our_schemas_are_structural(kind: type[Kind]) -> None:
    assert faults(openapi(kind)) == []


def test_the_generator_refuses_what_cannot_be_said() -> None:
    class Recursive(Model):
        child: Recursive | None = None

    class Union(Model):
        either: int | bool

    class Positive(Model):
        number: int = Field(gt=0)

    class Pair(Model):
        pair: tuple[int, str]

    Recursive.model_rebuild(_types_namespace={"Recursive": Recursive})
    for model, says in (
        (Recursive, "recursive"),
        (Union, "union"),
        (Positive, "exclusiveMinimum"),
        (Pair, "prefixItems"),
    ):
        with pytest.raises(ValueError, match=says):
            structural(model)


def test_the_validator_accepts_what_fits() -> None:
    spec = SOUND["properties"]["spec"]
    assert invalid({"name": "a", "size": 1, "any": {"x": [1]}, "map": {"k": "v"}, "list": [{"key": "a"}]}, spec) == []
    assert invalid({"name": "a", "size": "1Gi"}, spec) == []
    assert invalid({"name": "a", "size": True}, spec) == [".size is no int-or-string"]
