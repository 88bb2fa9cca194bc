"""The plan of one `JoinTokenRequest`: a bootstrap token in the tenant, and the join token made of it in a Secret here.

The order makes a crash harmless (DESIGN 5): the id is reserved by the request's UID, then the tenant's Secret is made,
then ours. If ours is missing, or leads to where the tenant is no longer, the same two steps are planned again: what the
tenant holds is used again as long as it serves, so that a token which was handed out goes on working
(docs/decisions/0007). Every token expires. It is revoked with its request; the finalizer is let go when that is done,
or pointless, or when the user forces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hosted_cp.api.join_token_request import DEFAULT_EXPIRY, JoinTokenRequestSpec
from hosted_cp.api.problems import Problem
from hosted_cp.hosting.names import COMPONENT
from hosted_cp.hosting.tenant import Decisions
from hosted_cp.k0s import tokens
from hosted_cp.planning import diff
from hosted_cp.planning.actions import Action, Create, Delete, PatchMetadata, Plan, Ref, Replace, Target
from hosted_cp.planning.conditions import Cause, Condition, events, merge, of_problems, parse_rfc3339, rfc3339
from hosted_cp.planning.observed import Observed

FINALIZER = "jointokenrequests.k0smotron.io/finalizer"
#: Put by the user on a request that is being deleted, to let it go although its token could not be revoked.
FORCE = "hosted-cp.io/force-delete"
CONDITION = "JoinTokenSecretCreated"
#: There only while something fails that does not take the token away: what the Secret and the request look like.
KEPT_UP = "JoinTokenSecretUpToDate"


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """Everything that one reconcile of a request may know; all objects are of its namespace."""

    now: datetime
    owner: Observed
    spec: JoinTokenRequestSpec | None
    problems: tuple[Problem, ...] = ()
    #: The tenant that the request names.
    cluster: Observed | None = None
    #: Whether it has ever answered.
    initialized: bool = False
    #: What was decided for that tenant (from its config Secret), and the Secret with its CA.
    decisions: Decisions = field(default_factory=Decisions)
    authority: Observed | None = None
    #: The object under the request's name, whoever owns it.
    secret: Observed | None = None
    #: Why the last plan could not be carried out.
    failure: str = ""
    reaches_tenants: bool = True


def plan(view: TokenView) -> Plan:
    """What to do for a request, and what to say about it."""
    if view.owner.deleting:
        return _end(view)
    if view.spec is None or view.problems:
        return Plan(**_report(view, of_problems("SpecInvalid", view.problems)))
    if (secret := _ours(view)) is not None:
        return _kept(view, view.spec, secret)
    waits = _expired(view) or _waits(view)
    if waits is not None:
        return Plan(actions=tuple(_finalizer(view)), **_report(view, waits))
    return _minting(view, view.spec)


def _minting(view: TokenView, spec: JoinTokenRequestSpec) -> Plan:
    """Make the token, or make it again of what the tenant holds. It ends when the one before it would have ended."""
    expires = _end_of(view, spec)
    return Plan(
        actions=(*_finalizer(view), *_mint(view, spec, expires)),
        retry_after=(expires - view.now).total_seconds(),
        **_report(view, _failed(view) or Cause(reason="Minting", message="the token is being made", starting=True)),
    )


def _failed(view: TokenView) -> Cause | None:
    """What the last plan failed of."""
    return Cause(reason="WriteFailed", message=f"{view.failure}; it is tried again") if view.failure else None


def _ours(view: TokenView) -> Observed | None:
    """The Secret with the token, if it is this request's."""
    return view.secret if view.secret is not None and view.secret.controller_uid == view.owner.uid else None


def token_id(view: TokenView) -> str:
    """The public half of the token: fixed by the request's UID, so that no crash can lose it."""
    return tokens.token_id(view.owner.uid)


def _mint(view: TokenView, spec: JoinTokenRequestSpec, expires: datetime) -> list[Action]:
    identifier = token_id(view)
    body, recipe, secret = _body(view, spec, expires), _recipe(view, spec), _ours(view)
    assert recipe is not None
    return [
        Create(
            target=Target.TENANT,
            body=tokens.bootstrap_secret(id=identifier, request_uid=view.owner.uid),
            recipe=tokens.BootstrapRecipe(id=identifier, role=spec.role, expires=expires),
            material=tokens.material_name(identifier),
        ),
        Create(body=body, recipe=recipe)
        if secret is None
        else Replace(body=body, recipe=recipe, uid=secret.uid, resource_version=secret.resource_version),
    ]


def _recipe(view: TokenView, spec: JoinTokenRequestSpec) -> tokens.TokenRecipe | None:
    """The token for where the tenant is now; None while that is not known."""
    facts = view.authority.secret if view.authority is not None else None
    certificate = facts.certificates.get("tls.crt") if facts is not None else None
    if view.cluster is None or view.authority is None or certificate is None or not view.decisions.exposed:
        return None
    return tokens.TokenRecipe(
        id=token_id(view),
        role=spec.role,
        server=tokens.server_url(view.decisions.address, view.decisions.apiPort),
        ca_secret=view.authority.ref.name,
        ca_fingerprint=certificate.fingerprint,
        tenant_uid=view.cluster.uid,
    )


def _body(view: TokenView, spec: JoinTokenRequestSpec, expires: datetime) -> dict[str, Any]:
    """The Secret with the token, without its data."""
    owner = view.owner
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": owner.ref.name,
            "namespace": owner.ref.namespace,
            "labels": {
                **owner.labels,
                "k0smotron.io/cluster": spec.cluster_name,
                "k0smotron.io/role": spec.role,
                "k0smotron.io/token-request": owner.ref.name,
                COMPONENT: "jointoken",
            },
            "annotations": {tokens.EXPIRES: rfc3339(expires)},
            "ownerReferences": [
                {
                    "apiVersion": owner.ref.api_version,
                    "kind": owner.ref.kind,
                    "name": owner.ref.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
    }


def _waits(view: TokenView) -> Cause | None:
    """What has to come first, or None."""
    assert view.spec is not None
    name = view.spec.cluster_name
    if view.secret is not None and view.secret.controller_uid != view.owner.uid:
        return Cause(
            reason="NameConflict",
            message=f"Secret {view.secret.ref.name} exists and belongs to somebody else; delete it, or create the"
            " JoinTokenRequest under another name",
        )
    if (role := tokens.role_problem(view.spec.role)) is not None:
        return of_problems("RoleNotSupported", [role])
    if (gone := _no_cluster(view)) is not None:
        return gone
    if (cut_off := _cut_off(view)) is not None:
        return cut_off
    return _unanswered(view) or (_not_ready(name) if _recipe(view, view.spec) is None else None)


def _cut_off(view: TokenView) -> Cause | None:
    """The operator is where no tenant can be reached."""
    if view.reaches_tenants:
        return None
    return Cause(
        reason="TenantNotReachable",
        message="the operator runs outside the cluster and cannot reach tenants; run it in the cluster",
    )


def _unanswered(view: TokenView) -> Cause | None:
    """The tenant has not answered yet: it is new, or another one than a token was made for."""
    assert view.spec is not None
    return None if view.cluster is not None and view.initialized else _not_ready(view.spec.cluster_name)


def _not_ready(name: str) -> Cause:
    message = f"Cluster {name} has not answered yet; its conditions say why"
    return Cause(reason="ClusterNotReady", message=message, starting=True)


def _no_cluster(view: TokenView) -> Cause | None:
    """The tenant is not there, or not for long; a token for it is good for nothing."""
    assert view.spec is not None
    name = view.spec.cluster_name
    if view.cluster is None:
        return Cause(
            reason="ClusterNotFound",
            message=f"Cluster {name} does not exist in namespace {view.owner.ref.namespace}; create it, or create a"
            " JoinTokenRequest for another",
        )
    if view.cluster.deleting:
        return Cause(reason="ClusterDeleting", message=f"Cluster {name} is being deleted; there is nothing to join")
    return None


def _kept(view: TokenView, spec: JoinTokenRequestSpec, secret: Observed) -> Plan:
    """The token exists: keep its labels, say how long it can be used, and wake when it ends.

    It is made again when it is not for where the tenant is now: the tenant has another address or CA, or is another one
    under the same name; or when somebody took it out. The tenant is asked then for what it holds. If that serves, the
    token is the same and leads to the new place; the old one goes on working for as long as the old place does.
    """
    actions = _finalizer(view)
    useless = _expired(view) or _no_cluster(view) or _unanswered(view)
    if useless is not None:
        return Plan(actions=tuple(actions), **_report(view, useless))
    expires = _end_of(view, spec)
    body, recipe = _body(view, spec, expires), _recipe(view, spec)
    if not secret.deleting:
        taken_out = secret.secret is not None and tokens.TOKEN_KEY not in secret.secret.digests
        if recipe is not None and (taken_out or diff.recipe_differs(body, recipe, secret)):
            cut_off = _cut_off(view)
            return _minting(view, spec) if cut_off is None else Plan(actions=tuple(actions), **_report(view, cut_off))
        if (patch := diff.metadata_patch(body, secret)) is not None:
            actions.append(patch)
    return Plan(actions=tuple(actions), retry_after=(expires - view.now).total_seconds(), **_report(view, None))


def _end_of(view: TokenView, spec: JoinTokenRequestSpec) -> datetime:
    """When the token ends. One that no longer says when is taken for as young as its request allows: all end."""
    return _expires(view) or view.now.replace(microsecond=0) + spec.life


def _expired(view: TokenView) -> Cause | None:
    expires = _expires(view)
    if expires is None or expires > view.now:
        return None
    return Cause(
        reason="Expired",
        message=f"the token expired at {rfc3339(expires)}; create another JoinTokenRequest for more machines",
    )


def _expires(view: TokenView) -> datetime | None:
    """When the token ends: as its Secret says, or as the status remembers."""
    secret = _ours(view)
    for text in (secret.annotations.get(tokens.EXPIRES) if secret else None, view.owner.get("status", "expiration")):
        try:
            return parse_rfc3339(str(text))
        except ValueError:
            continue
    return None


def _end(view: TokenView) -> Plan:
    """Revoke, then let go."""
    owner = view.owner
    if FINALIZER not in owner.finalizers:
        return Plan()
    expires = _expires(view) or _latest_end(view)
    pointless = (
        view.cluster is None
        or view.cluster.deleting
        or not view.initialized  # it never had a token
        or (expires is not None and expires + timedelta(minutes=1) < view.now)
        or owner.annotations.get(FORCE) == "true"
    )
    revoke: list[Action] = []
    if not pointless:
        ref = Ref(api_version="v1", kind="Secret", namespace="kube-system", name=tokens.secret_name(token_id(view)))
        labels = {tokens.REQUEST_LABEL: owner.uid}
        revoke = [Delete(target=Target.TENANT, ref=ref, uid=None, labels=labels)]
    release = PatchMetadata(
        ref=owner.ref,
        uid=owner.uid,
        resource_version=owner.resource_version,
        finalizers=tuple(each for each in owner.finalizers if each != FINALIZER),
    )
    if not view.failure or pointless:
        return Plan(actions=(*revoke, release))
    waiting = Cause(
        reason="RevocationFailed",
        message=f"the token cannot be revoked yet: {view.failure}. It ends by itself"
        f"{' at ' + rfc3339(expires) if expires else ''}; to delete the request now, put the annotation {FORCE}=true on"
        " it",
    )
    return Plan(actions=(*revoke, release), **_report(view, waiting))


def _latest_end(view: TokenView) -> datetime | None:
    """When a token ends that a crash may have left in the tenant without a word about it here: none is made after the
    request was deleted."""
    life = view.spec.life if view.spec is not None else DEFAULT_EXPIRY
    try:
        return parse_rfc3339(str(view.owner.get("metadata", "deletionTimestamp"))) + life
    except ValueError:
        return None


def _finalizer(view: TokenView) -> list[Action]:
    owner = view.owner
    if FINALIZER in owner.finalizers:
        return []
    return [
        PatchMetadata(
            ref=owner.ref,
            uid=owner.uid,
            resource_version=owner.resource_version,
            finalizers=(*owner.finalizers, FINALIZER),
        )
    ]


def _found_in(view: TokenView) -> str:
    return f"the token is in the Secret {view.owner.ref.name}, under the key {tokens.TOKEN_KEY}"


def _report(view: TokenView, cause: Cause | None) -> dict[str, Any]:
    """Status and Events; `cause` says why there is no usable token."""
    old_status: Mapping[str, Any] = view.owner.get("status", default={})
    old = old_status.get("conditions") or []
    wanted = (
        Condition(type=CONDITION, status="True", reason="Created", message=_found_in(view))
        if cause is None
        else Condition(type=CONDITION, status="False", reason=cause.reason, message=cause.message)
    )
    failed = _failed(view) if cause is None else None
    beside = [Condition(type=KEPT_UP, status="False", reason=failed.reason, message=failed.message)] if failed else []
    merged = merge(wanted=[wanted, *beside], old=old, generation=view.owner.generation, now=view.now)
    status: dict[str, Any] = {"conditions": merged, "observedGeneration": view.owner.generation}
    if _ours(view) is not None:
        status["tokenID"] = token_id(view)
        if (expires := _expires(view)) is not None:
            status["expiration"] = rfc3339(expires)
    elif "tokenID" in old_status:
        status |= {key: old_status[key] for key in ("tokenID", "expiration") if key in old_status}
    last = cause or failed
    outcome = f"{last.reason}: {last.message}"[:1024] if last else "Reconciliation successful"
    status["deprecated"] = {"v1beta1": {"reconciliationStatus": outcome}}
    starting = cause is not None and cause.starting
    said = events(merged=merged, old=old, about=CONDITION, starting=starting)
    return {"status": status, "events": (*said, *events(merged=merged, old=old, about=KEPT_UP))}
