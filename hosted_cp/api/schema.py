"""From pydantic models to the structural schemas that the API server accepts.

pydantic writes JSON Schema 2020-12: `$ref`, `anyOf` with null, `const`, number-valued `exclusiveMinimum`, titles,
`default: null`. The API server rejects or drops all of these (rules: "Specifying a structural schema" in Kubernetes'
docs on CustomResourceDefinitions). What it needs beyond is given by `json_schema_extra` in the models.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from hosted_cp.api.base import Kind


class _Structural(GenerateJsonSchema):
    """pydantic's generator, whose defaults are what the user would have written: no unset fields. What stands below a
    field in the source is its description."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, text in _docstrings(model).items():
            made["properties"][model.model_fields[name].alias or name].setdefault("description", text)
        return made

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return super().encode_default(dft)


@functools.cache
def _docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """What stands below the fields of a model, and below those that it inherits.

    pydantic would read it when a class is made (`use_attribute_docstrings`): a sixth of the time that the operator
    takes to start, and it needs none of it.
    """
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if each is not BaseModel and issubclass(each, BaseModel):
            for field, text in itertools.pairwise([*_classes(each.__module__)[each.__name__].body, ast.Pass()]):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    found.pop(field.target.id, None)
                    if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                        found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return {name: text for name, text in found.items() if name in model.model_fields}


@functools.cache
def _classes(module: str) -> Mapping[str, ast.ClassDef]:
    """The classes in the source of a module."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: each for each in ast.walk(tree) if isinstance(each, ast.ClassDef)}


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of one model. Raises ValueError for what such a schema cannot say."""
    generated = model.model_json_schema(schema_generator=_Structural, by_alias=True)
    definitions = generated.pop("$defs", {})
    schema, _ = _convert(generated, definitions, where=model.__name__, enclosing=())
    return schema


def openapi(kind: type[Kind]) -> dict[str, Any]:
    """The schema of a whole object of a kind, for `openAPIV3Schema`."""
    parts: dict[str, Any] = {}
    for name in ("spec", "status"):
        schema, _ = _convert(*_field(kind, name), where=f"{kind.__name__}.{name}", enclosing=())
        parts[name] = schema
    parts["spec"].pop("default", None)
    if kind.spec_default is not None:
        parts["spec"]["default"] = kind.spec_default
    return {
        "description": _one_line(kind.__doc__ or ""),
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            **parts,
        },
    }


def unknown_fields(kind: type[Kind], body: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths in `spec` that the schema does not know: what a strict client refuses, and the API server would drop.

    For objects that never met an API server (`hosted-cp render`).
    """
    schema = cached_openapi(kind)["properties"]["spec"]
    return tuple(_unknown(body.get("spec"), schema, "spec"))


@functools.cache
def cached_openapi(kind: type[Kind]) -> Mapping[str, Any]:
    """`openapi`, made once. Not to be changed."""
    return openapi(kind)


@functools.cache
def defaults(kind: type[Kind]) -> Mapping[str, Any]:
    """The part of a kind's schema that has defaults, for `defaulted`: most of an object need not be walked."""
    return _only_defaults(cached_openapi(kind)) or {}


def _only_defaults(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    kept: dict[str, Any] = {key: schema[key] for key in ("default", "nullable") if key in schema}
    if properties := {
        name: reduced for name, inner in schema.get("properties", {}).items() if (reduced := _only_defaults(inner))
    }:
        kept["properties"] = properties
    for keyword in ("items", "additionalProperties"):
        if keyword in schema and (reduced := _only_defaults(schema[keyword])):
            kept[keyword] = reduced
    return kept if kept.keys() - {"nullable"} else None


def defaulted(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value as the API server completes it: defaults of the schema where nothing is given, or null where the
    schema has a default and no null. Shares with `value` what does not change, and is `value` if nothing does.

    Source: Kubernetes' docs on CustomResourceDefinitions, "Defaulting" and "Defaulting and Nullable".
    """
    if isinstance(value, dict):
        done = dict(value)
        for name, inner in schema.get("properties", {}).items():
            if "default" in inner and (name not in done or (done[name] is None and not inner.get("nullable"))):
                done[name] = _copy(inner["default"])
            if name in done:
                done[name] = defaulted(done[name], inner)
        if each := schema.get("additionalProperties"):
            done = {name: defaulted(inner, each) for name, inner in done.items()}
        return _shared(value, done)
    if isinstance(value, list) and (each := schema.get("items")):
        return _shared_list(value, [defaulted(inner, each) for inner in value])
    return value


def pruned(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value without what the schema does not know, as the API server prunes it. Shares what does not change.

    What is of another type than the schema says is left as it is: that is for validation.
    """
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        keeps_all = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        if schema.get("type") != "object" and not keeps_all:
            return value
        done = {}
        for name, inner in value.items():
            if name in known:
                done[name] = pruned(inner, known[name])
            elif others is not None:
                done[name] = pruned(inner, others)
            elif keeps_all:
                done[name] = inner
        return _shared(value, done)
    if isinstance(value, list) and "items" in schema:
        return _shared_list(value, [pruned(inner, schema["items"]) for inner in value])
    return value


def _shared(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    unchanged = old.keys() == new.keys() and all(inner is old[name] for name, inner in new.items())
    return old if unchanged else new


def _shared_list(old: list[Any], new: list[Any]) -> list[Any]:
    return old if all(one is other for one, other in zip(old, new, strict=True)) else new


def _unknown(value: object, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from _unknown(each, schema["items"], f"{path}[{index}]")
    if not isinstance(value, Mapping):
        return
    for name, each in value.items():
        if name in schema.get("properties", {}):
            yield from _unknown(each, schema["properties"][name], f"{path}.{name}")
        elif "additionalProperties" in schema:
            yield from _unknown(each, schema["additionalProperties"], f"{path}.{name}")
        elif schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}"


def _field(kind: type[Kind], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    generated = kind.model_json_schema(schema_generator=_Structural, by_alias=True)
    return generated["properties"][name], generated["$defs"]


def _convert(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], *, where: str, enclosing: tuple[str, ...]
) -> tuple[dict[str, Any], bool]:
    """(structural form, whether the field is required although it has a default) of one node."""
    node = _resolved(schema, definitions, where=where, enclosing=enclosing)
    enclosing = (*enclosing, *_references(schema))
    required = bool(node.pop("x-required", False))
    node.pop("title", None)
    if "description" in node:
        node["description"] = _one_line(node["description"])
    if node.get("default", 0) is None or node.get("default") == []:
        del node["default"]
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if {"exclusiveMinimum", "exclusiveMaximum", "prefixItems", "uniqueItems", "oneOf", "allOf"} & set(node):
        raise ValueError(f"{where}: {sorted(node)} cannot be said in a structural schema")
    if node.get("x-kubernetes-int-or-string"):
        return node, required
    if "anyOf" in node:
        raise ValueError(f"{where}: a union cannot be said in a structural schema")
    if "properties" in node:
        node.pop("additionalProperties", None)
        needed = set(node.get("required", ()))
        for name, inner in node["properties"].items():
            node["properties"][name], also = _convert(inner, definitions, where=f"{where}.{name}", enclosing=enclosing)
            needed |= {name} if also else set()
        node["required"] = sorted(needed)
        if not needed:
            del node["required"]
    elif node.get("additionalProperties") is True:
        del node["additionalProperties"]
        node["x-kubernetes-preserve-unknown-fields"] = True
    elif "additionalProperties" in node:
        node["additionalProperties"], _ = _convert(
            node["additionalProperties"], definitions, where=f"{where}[]", enclosing=enclosing
        )
    if "items" in node:
        node["items"], _ = _convert(node["items"], definitions, where=f"{where}[]", enclosing=enclosing)
    return node, required


def _resolved(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], *, where: str, enclosing: tuple[str, ...]
) -> dict[str, Any]:
    """The node with its reference inlined and its null branch dropped; what stands beside these wins."""
    node = dict(schema)
    for reference in _references(node):
        if reference in enclosing:
            raise ValueError(f"{where}: {reference} contains itself; a structural schema cannot be recursive")
        del node["$ref"]
        target = {key: value for key, value in definitions[reference].items() if key != "title"}
        node = {**_copy(target), **node}
    branches = [each for each in node.get("anyOf", ()) if each != {"type": "null"}]
    if not node.get("x-kubernetes-int-or-string") and "anyOf" in node:
        if sorted(str(each.get("type")) for each in branches) == ["integer", "string"]:
            node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
            node["x-kubernetes-int-or-string"] = True
        elif len(branches) == 1:
            del node["anyOf"]
            inner = _resolved(branches[0], definitions, where=where, enclosing=enclosing)
            node = {**inner, **node}
    return node


def _references(node: Mapping[str, Any]) -> tuple[str, ...]:
    return (node["$ref"].removeprefix("#/$defs/"),) if "$ref" in node else ()


def _copy(node: Any) -> Any:
    """A deep copy, so that a definition used twice is converted twice, and YAML needs no anchors."""
    if isinstance(node, Mapping):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(each) for each in node] if isinstance(node, list | tuple) else node


def _one_line(text: str) -> str:
    return " ".join(text.split())
