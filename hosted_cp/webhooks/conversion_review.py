"""The API server's question for another version (`ConversionReview`), answered: a dict in, a dict out.

What happens to the bytes, and over which connection, is the webhook server's. One object that cannot be converted
fails the whole review, as the protocol has it: so `hosted_cp.api.conversion` refuses nothing that can be stored, and
the message names the one. Source: Kubernetes' docs, "Webhook conversion".
"""

from __future__ import annotations

from typing import Any

from hosted_cp.api.conversion import ConversionError, convert

API_VERSION = "apiextensions.k8s.io/v1"


def review(body: object) -> dict[str, Any]:
    """The answer to a ConversionReview. Never raises: what is no review gets a failure for an answer."""
    request = body.get("request") if isinstance(body, dict) else None
    if not isinstance(request, dict):
        return _answer("", failure="this is no ConversionReview with a request")
    uid = str(request.get("uid", ""))
    group, _, version = str(request.get("desiredAPIVersion", "")).rpartition("/")
    objects = request.get("objects")
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        return _answer(uid, failure="request.objects is no list of objects")
    converted = []
    for each in objects:
        try:
            if str(each.get("apiVersion", "")).rpartition("/")[0] != group:
                raise ConversionError(f"there is no conversion of {each.get('apiVersion')} into another group, {group}")
            converted.append(convert(each, to=version))
        except (ConversionError, RecursionError) as error:
            why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            return _answer(uid, failure=f"{_name(each)}: {why}")
    return _answer(uid, objects=converted)


def _name(obj: dict[str, Any]) -> str:
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return f"{obj.get('kind', 'object')} {metadata.get('namespace', '')}/{metadata.get('name', '')}"


def _answer(uid: str, *, objects: list[dict[str, Any]] | None = None, failure: str = "") -> dict[str, Any]:
    result = {"status": "Failure", "message": failure} if failure else {"status": "Success"}
    return {
        "apiVersion": API_VERSION,
        "kind": "ConversionReview",
        "response": {"uid": uid, "convertedObjects": objects or [], "result": result},
    }
