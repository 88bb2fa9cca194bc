"""What of a server's refusal may be told of a Secret."""

from __future__ import annotations

import orjson
import pytest

from hosted_cp.kube.errors import Invalid, ServerFault, error_from

CANARY = "canary-5f0a9c"


def public(code: int, reason: str, message: str) -> str:
    return error_from(code, orjson.dumps({"code": code, "reason": reason, "message": message})).public()


@pytest.mark.parametrize(
    "message",
    [
        'secrets is forbidden: User "system:serviceaccount:a:b" cannot create resource "secrets" in API group "" in the'
        ' namespace "default"',
        'secrets "a-ca" is forbidden: exceeded quota: none, requested: count/secrets=1, used: count/secrets=3, limited:'
        " count/secrets=3",
        'secrets "a-ca" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you'
        " can't set finalizers on",
        'secrets "a-ca" is forbidden: unable to create new content in namespace b because it is being terminated',
    ],
)
def test_the_servers_own_words_are_told(message: str) -> None:
    assert public(403, "Forbidden", message) == f"Forbidden (403): {message}"


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        (403, 'admission webhook "w.x" denied the request: %s', ': admission webhook "w.x" denied the request'),
        (
            422,
            "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: %s",
            ": secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request",
        ),
        (403, "%s is not allowed", ""),
        (403, 'secrets "a" is forbidden: no %s here', ""),
        (409, "the object %s has been modified", ""),
        (500, "failed to convert: %s", ""),
    ],
)
def test_what_may_quote_is_left_out(code: int, message: str, told: str) -> None:
    assert public(code, "Because", message % CANARY) == f"Because ({code}){told}"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("duplicate nodePort: {TCP 31000}", Invalid),
        ("Internal error occurred: duplicate nodePort: {TCP 31000}", Invalid),
        ("Internal error occurred: etcd is away", ServerFault),
    ],
)
def test_a_node_port_asked_for_twice_is_no_fault_of_the_server(message: str, kind: type[Exception]) -> None:
    error = error_from(500, orjson.dumps({"code": 500, "reason": "InternalError", "message": message}))
    assert type(error) is kind
