"""A linter for structural schemas: what the API server would refuse, drop or mangle, found without a server.

Rules: Kubernetes' docs "Specifying a structural schema", "Defaulting", "Merge strategy" and the validation of
apiextensions. `faults(schema)` names each by its path. `invalid(value, schema)` is a small validator for defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: The keywords of apiextensions' JSONSchemaProps that a structural schema may use. Others are dropped or refused.
_KEYWORDS = {
    "description", "type", "format", "default", "enum", "nullable", "example",
    "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "multipleOf",
    "maxLength", "minLength", "pattern", "maxItems", "minItems", "maxProperties", "minProperties",
    "items", "properties", "additionalProperties", "required", "allOf", "anyOf", "oneOf", "not",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-validations",
}  # fmt: skip
_TYPES = {"array", "boolean", "integer", "number", "object", "string"}
#: Not allowed inside allOf, anyOf, oneOf and not.
_OUTER_ONLY = {"description", "type", "default", "nullable", "additionalProperties", "format"}
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_FORMATS = {"int32", "int64", "date-time", "byte", "double", "float"}


def faults(schema: Mapping[str, Any]) -> list[str]:
    """All faults of the schema of a whole object (`openAPIV3Schema`)."""
    found = []
    if schema.get("type") != "object":
        found.append("(root): type must be object")
    metadata = schema.get("properties", {}).get("metadata", {})
    found += [
        f".metadata: may only constrain name and generateName, not {name}"
        for name in metadata.get("properties", {})
        if name not in ("name", "generateName")
    ]
    return found + list(_node(schema, "(root)"))


def _node(node: object, path: str) -> Iterator[str]:
    if not isinstance(node, Mapping):
        yield f"{path}: is no schema but {type(node).__name__}"
        return
    yield from (f"{path}: unknown keyword {each}" for each in sorted(set(node) - _KEYWORDS))
    int_or_string = bool(node.get("x-kubernetes-int-or-string"))
    if "type" not in node and not int_or_string and not node.get("x-kubernetes-preserve-unknown-fields"):
        yield f"{path}: has no type"
    if "type" in node and (int_or_string or node["type"] not in _TYPES):
        yield f"{path}: type {node['type']} is not allowed"
    yield from _scalars(node, path)
    yield from _object(node, path)
    yield from _array(node, path)
    yield from _junctors(node, path, int_or_string=int_or_string)
    yield from _rules(node, path)
    if "default" in node:
        if node["default"] is None and not node.get("nullable"):
            yield f"{path}: default is null"
        else:
            yield from (f"{path}: default {fault}" for fault in invalid(node["default"], node))


def _scalars(node: Mapping[str, Any], path: str) -> Iterator[str]:
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if bound in node and not isinstance(node[bound], bool):
            yield f"{path}: {bound} must be true or false beside a bound"
    if node.get("format") not in (None, *_FORMATS):
        yield f"{path}: format {node['format']} is unknown to the API server"
    if "enum" in node and (not node["enum"] or len(set(map(str, node["enum"]))) != len(node["enum"])):
        yield f"{path}: enum is empty or has doubles"
    if "pattern" in node:
        try:
            re.compile(node["pattern"])
        except re.error:
            yield f"{path}: pattern is no regular expression"
        if re.search(r"\(\?[=!<]|\\[1-9]", node["pattern"]):
            yield f"{path}: pattern uses what RE2 does not know"


def _object(node: Mapping[str, Any], path: str) -> Iterator[str]:
    if "properties" in node and "additionalProperties" in node:
        yield f"{path}: properties and additionalProperties exclude each other"
    if node.get("x-kubernetes-preserve-unknown-fields") is False:
        yield f"{path}: x-kubernetes-preserve-unknown-fields may only be true"
    if isinstance(node.get("additionalProperties"), bool):
        yield f"{path}: additionalProperties must be a schema; use x-kubernetes-preserve-unknown-fields"
    elif "additionalProperties" in node:
        yield from _node(node["additionalProperties"], f"{path}.*")
    if ("properties" in node or "required" in node) and node.get("type") != "object":
        yield f"{path}: has properties but is no object"
    for name, inner in node.get("properties", {}).items():
        yield from _node(inner, f"{path}.{name}")
    for name in node.get("required", ()):
        if name not in node.get("properties", {}):
            yield f"{path}: required {name} is no property"


def _array(node: Mapping[str, Any], path: str) -> Iterator[str]:
    list_type = node.get("x-kubernetes-list-type")
    keys = node.get("x-kubernetes-list-map-keys")
    if node.get("type") != "array":
        if "items" in node or list_type or keys:
            yield f"{path}: has items or a list type but is no array"
        return
    if not isinstance(node.get("items"), Mapping):
        yield f"{path}: an array needs one schema of items"
        return
    items = node["items"]
    yield from _node(items, f"{path}[]")
    if list_type not in (None, "atomic", "set", "map"):
        yield f"{path}: list type {list_type} is unknown"
    if (list_type == "map") != bool(keys):
        yield f"{path}: list type map and map keys go together"
    if (
        list_type == "set"
        and items.get("type") in ("object", "array")
        and items.get("x-kubernetes-map-type") != "atomic"
    ):
        yield f"{path}: the items of a set must be scalars"
    for key in keys or ():
        inner = items.get("properties", {}).get(key)
        if inner is None or inner.get("type") not in ("string", "integer", "boolean", "number"):
            yield f"{path}: map key {key} is no scalar property of the items"
        elif key not in items.get("required", ()) and "default" not in inner:
            yield f"{path}: map key {key} must be required or have a default"


def _junctors(node: Mapping[str, Any], path: str, *, int_or_string: bool) -> Iterator[str]:
    for junctor in ("allOf", "anyOf", "oneOf", "not"):
        if junctor not in node:
            continue
        if junctor == "anyOf" and int_or_string and node["anyOf"] == _INT_OR_STRING:
            continue
        branches = [node["not"]] if junctor == "not" else node[junctor]
        for index, branch in enumerate(branches):
            yield from _branch(branch, node, f"{path}.{junctor}[{index}]")


def _branch(branch: Mapping[str, Any], outer: Mapping[str, Any], path: str) -> Iterator[str]:
    for keyword in sorted(branch):
        if keyword in _OUTER_ONLY or keyword.startswith("x-kubernetes-"):
            yield f"{path}: {keyword} is not allowed inside a junctor"
        elif keyword not in _KEYWORDS:
            yield f"{path}: unknown keyword {keyword}"
    for name, inner in branch.get("properties", {}).items():
        if name not in outer.get("properties", {}):
            yield f"{path}: property {name} is not declared outside"
        else:
            yield from _branch(inner, outer["properties"][name], f"{path}.{name}")


def _rules(node: Mapping[str, Any], path: str) -> Iterator[str]:
    for rule in node.get("x-kubernetes-validations", ()):
        if not rule.get("rule", "").strip():
            yield f"{path}: a validation needs a rule"
        if not rule.get("message") and not rule.get("messageExpression"):
            yield f"{path}: a validation needs a message, or users see the rule"
        if "\n" in rule.get("message", ""):
            yield f"{path}: the message of a validation must be one line"
        target = rule.get("fieldPath", "")
        if target and not _has_path(node, target):
            yield f"{path}: fieldPath {target} does not exist"


def _has_path(node: Mapping[str, Any], target: str) -> bool:
    for step in target.strip(".").split("."):
        node = node.get("properties", {}).get(step)
        if node is None:
            return False
    return True


def invalid(value: object, schema: Mapping[str, Any]) -> list[str]:
    """Why a value does not fit the schema, fields that would be pruned included. CEL rules are not looked at."""
    return list(_invalid(value, schema, ""))


def _invalid(value: object, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if value is None:
        if not schema.get("nullable"):
            yield f"{path} is null"
        return
    kind = schema.get("type")
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,),
        "array": (list,),
    }  # fmt: skip
    allowed = kinds[kind] if kind else (str, int) if schema.get("x-kubernetes-int-or-string") else (object,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed and object not in allowed):
        yield f"{path} is no {kind or 'int-or-string'}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path} is not in the enum"
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{path} is too short or too long"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path} does not match the pattern"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{path} is out of bounds"
    elif isinstance(value, dict):
        yield from _invalid_object(value, schema, path)
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{path} has too few or too many items"
        for index, each in enumerate(value):
            yield from _invalid(each, schema["items"], f"{path}[{index}]")


def _invalid_object(value: dict[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    if len(value) < schema.get("minProperties", 0):
        yield f"{path} has too few fields"
    for name in schema.get("required", ()):
        if name not in value and "default" not in properties[name]:
            yield f"{path}.{name} is missing"
    for name, each in value.items():
        if name in properties:
            yield from _invalid(each, properties[name], f"{path}.{name}")
        elif isinstance(schema.get("additionalProperties"), Mapping):
            yield from _invalid(each, schema["additionalProperties"], f"{path}.{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name} would be pruned"
