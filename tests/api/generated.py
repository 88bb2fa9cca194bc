"""Objects made from the schemas of our kinds, for Hypothesis: everything that an API server admits, and sometimes more.

CEL rules are not looked at: objects may be older than a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from hosted_cp.api.base import Kind
from hosted_cp.api.conversion import STATUS_FIELD
from hosted_cp.api.core import QUANTITY_PATTERN
from hosted_cp.api.schema import cached_openapi, defaulted, defaults

#: Few and short, so that equal ones meet, and with what breaks naive code.
TEXTS = st.sampled_from(["", "a", "b", "é\n", "{{ x }}", '"', "0"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.5]) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
_PATTERNS = {
    QUANTITY_PATTERN: ["1Gi", "500m", "2"],
    r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$": ["Waiting", "A_b"],
    r"^[0-9a-fA-F]{64}$": ["0" * 64, "aF" * 32],
}
_OTHERS = st.dictionaries(st.sampled_from(["other", "more"]), JSON, max_size=1)
_TIMES = ["2026-11-21T10:00:00Z", "1970-01-01T00:00:00Z"]

SERVICE = "k0smotron.io/conversion-dropped-service"
#: What stands for a field of the other version, well-formed or not, and what does not.
ANNOTATIONS = st.dictionaries(
    st.sampled_from(
        [
            *(f"{SERVICE}.labels", f"{SERVICE}.annotations", f"{SERVICE}.externalTrafficPolicy"),
            *(f"{SERVICE}.loadBalancerClass", "k0smotron.io/cluster-ref-namespace", "example.org/a"),
        ]
    ),
    st.sampled_from(["", "{}", '{"a": "b"}', '{"a":"b"}', '{"a":1}', '"Local"', '"tape"', "other", "{", "[" * 2000]),
    max_size=3,
)


_CACHE: dict[tuple[int, int], tuple[Mapping[str, Any], st.SearchStrategy[Any]]] = {}


def values(schema: Mapping[str, Any], *, share: int = 5) -> st.SearchStrategy[Any]:
    """Values that fit a structural schema, with up to `share` of an object's optional fields."""
    key = id(schema), share
    if key not in _CACHE:
        # The schema is kept, so that its id stays its own.
        _CACHE[key] = schema, _values(schema, share=share)
    return _CACHE[key][1]


def _values(schema: Mapping[str, Any], *, share: int) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "pattern" in schema:
        numbers = st.integers(0, 3) if schema.get("x-kubernetes-int-or-string") else st.nothing()
        return st.sampled_from(_PATTERNS[schema["pattern"]]) | numbers
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 3) | TEXTS
    match schema.get("type"):
        case "string":
            if schema.get("format") == "date-time":
                return st.sampled_from(_TIMES)
            shortest = schema.get("minLength", 0)
            return TEXTS.map(lambda text: text or "a" * shortest)
        case "integer":
            return st.integers(max(schema.get("minimum", 0), 0), 3) | st.just(schema.get("minimum", -1))
        case "boolean":
            return st.booleans()
        case "array":
            return st.lists(values(schema["items"], share=2), min_size=schema.get("minItems", 0), max_size=2)
        case "object":
            if others := schema.get("additionalProperties"):
                return st.dictionaries(TEXTS, values(others), max_size=2)
            return _objects(schema, share=share)
    raise ValueError(f"no values for {schema}")


@st.composite
def _objects(draw: st.DrawFn, schema: Mapping[str, Any], *, share: int) -> dict[str, Any]:
    # What conversion keeps in a status is its own: nobody else writes it.
    fields = {name: each for name, each in schema.get("properties", {}).items() if name != STATUS_FIELD}
    required = set(schema.get("required", ()))
    made: dict[str, Any] = {}
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        made |= draw(_OTHERS)
    chosen: set[str] = set()
    if optional := sorted(set(fields) - required):
        least = max(0, schema.get("minProperties", 0) - len(required))
        chosen = draw(st.sets(st.sampled_from(optional), min_size=least, max_size=max(share, least)))
    return made | {name: draw(values(fields[name], share=3)) for name in sorted(chosen | required)}


@st.composite
def objects(draw: st.DrawFn, kind: type[Kind], *, complete: bool | None = None) -> dict[str, Any]:
    """Objects of a kind: with the schema's defaults filled in (as the API server has them), without, or either."""
    schema = cached_openapi(kind)["properties"]
    made: dict[str, Any] = {"apiVersion": f"{kind.group}/{kind.version}", "kind": kind.__name__}
    made["metadata"] = {"name": "demo", "namespace": "one", "uid": "u", "labels": {"a": "b"}, "generation": 3}
    if annotations := draw(ANNOTATIONS):
        made["metadata"]["annotations"] = annotations
    if draw(st.integers(0, 9)):
        made["spec"] = draw(values(schema["spec"], share=8))
    if draw(st.booleans()):
        made["status"] = draw(values(schema["status"], share=8))
    if draw(st.booleans()) if complete is None else complete:
        made = defaulted(made, defaults(kind))
    return made
