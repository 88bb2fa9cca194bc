"""The only code that changes anything anywhere: it carries out plans.

Every action is one request with a precondition, in the order of the plan; the first that fails ends the run, and
nothing is retried here. Before each write it is asked whether we are still the leader. The answer to each write enters
the caches before the key is planned again, so that the next plan sees what this one has done.

Four ends of a run (`Verdict`): everything is done; the world is not as the plan thought, and is now known better (plan
again at once); something refused or did not answer (come back later); we are not the leader any more.

Secrets: data are made at the last moment and handed to the request; they are never logged, and errors about Secrets are
told by reason and field alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from hosted_cp.kube import errors
from hosted_cp.kube.bodies import annotated, encoded, is_ours, merge_difference, with_foreign_metadata
from hosted_cp.kube.cache import Caches
from hosted_cp.kube.client import Answer, ApiClient
from hosted_cp.kube.errors import ApiError
from hosted_cp.kube.events import event_body
from hosted_cp.kube.fights import Fights
from hosted_cp.kube.lease import Leadership
from hosted_cp.kube.managed_fields import migrated
from hosted_cp.kube.material import Sources
from hosted_cp.kube.observing import secret_data
from hosted_cp.kube.outcome import Result, Verdict
from hosted_cp.kube.resources import EVENT, resource_for
from hosted_cp.kube.secret_data import SecretData
from hosted_cp.kube.tenant import TenantAccess, TenantClients
from hosted_cp.planning import diff, overlay
from hosted_cp.planning.actions import (
    HASH_ANNOTATION,
    Action,
    AnnotatePods,
    Apply,
    Create,
    Delete,
    Event,
    IdentifyNode,
    MovePort,
    Object,
    PatchMetadata,
    Plan,
    PublishEndpoint,
    Ref,
    Replace,
    Target,
)
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import (
    Amending,
    Inputs,
    MaterialError,
    Recipe,
    Reusable,
    config_map_name,
    is_annotating,
    kept_by,
)

log = logging.getLogger(__name__)

#: PatchMetadata writes under a name of its own: an apply must not think that these fields are its to remove.
METADATA_MANAGER = "hosted-cp-metadata"

#: Seconds for writing a status or an Event.
_REPORT_DEADLINE = 10.0

_FOREIGN = "an object of this name exists that does not carry our labels; delete it there if nobody needs it"

_ONE_OPERATOR = "let one operator look after a namespace (--namespace), or let all of them elect one by the same Lease"

#: How many objects that were given away (`ours=False`) are remembered.
_GIVEN = 10_000


@dataclass(frozen=True, kw_only=True)
class StatusWrite:
    """The writing of a status, as hooks see it."""

    ref: Ref


Step: TypeAlias = Action | StatusWrite | Event


def _nothing(step: Step, number: int) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Called around each step with its number within the run. A hook that raises ends the run as a crash would."""

    before: Callable[[Step, int], None] = _nothing
    after: Callable[[Step, int], None] = _nothing


class _Stale(Exception):
    """The plan was made for another world; the caches have been told."""


class _Deposed(Exception):
    """We do not lead any more."""


class _Failed(Exception):
    """An action cannot be carried out now."""

    def __init__(self, failure: str, *, retry_after: float | None = None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.retry_after = retry_after


class _Held(_Failed):
    """An action has to wait, because another undoes it again and again (see `fights`)."""


@dataclass(kw_only=True)
class _Run:
    """One plan on its way."""

    about: Observed
    tenant: TenantAccess | None
    by: object
    #: Data made in this run, by the name later recipes know it by.
    made: dict[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    number: int = 0
    writes: int = 0


class Executor:
    """Carries out plans. One for all workers."""

    def __init__(
        self,
        *,
        client: ApiClient,
        caches: Caches,
        secrets: SecretData,
        leadership: Leadership,
        sources: Sources,
        tenants: TenantClients | None = None,
        hooks: Hooks = Hooks(),
    ) -> None:
        self._client = client
        self._caches = caches
        self._secrets = secrets
        self._leadership = leadership
        self._sources = sources
        self._tenants = tenants
        self._hooks = hooks
        self._given: OrderedDict[Hashable, None] = OrderedDict()
        self._fights = Fights()

    async def execute(
        self, plan: Plan, *, about: Observed, tenant: TenantAccess | None = None, by: object = None
    ) -> Result:
        """Carry out actions, then status, then Events (some come first: `Event.first`).

        `about` is the user's object that the plan is for, as the plan saw it; `by` is passed on to those who are told
        of changes (`Change.by`).
        """
        run = _Run(about=about, tenant=tenant, by=by)
        held: _Held | None = None
        try:
            for action in plan.actions:
                try:
                    await self._step(run, action)
                except _Held as wait:
                    if not (isinstance(action, PatchMetadata) and action.finalizers is None):
                        raise  # what comes behind may build upon it
                    held = held or wait
            for event in plan.events:
                if event.first:
                    await self._say(run, event)
            if plan.status is not None:
                await self._write_status(run, plan.status)
            for event in plan.events:
                if not event.first:
                    await self._say(run, event)
            if held is not None:
                raise held
        except _Stale as stale:
            log.debug("%s: planned for another world: %s", about.ref, stale)
            return Result(verdict=Verdict.REPLAN, writes=run.writes)
        except _Failed as failed:
            log.warning("%s: %s", about.ref, failed.failure)
            return Result(
                verdict=Verdict.DEFERRED, writes=run.writes, failure=failed.failure, retry_after=failed.retry_after
            )
        except _Deposed:
            return Result(verdict=Verdict.DEPOSED, writes=run.writes)
        return Result(verdict=Verdict.DONE, writes=run.writes)

    # -- one step ------------------------------------------------------------------------------------------------

    async def _step(self, run: _Run, action: Action) -> None:
        if isinstance(action, Create) and not action.ours and (run.about.uid, action.target, action.ref) in self._given:
            return  # it was there once; from then on it is somebody else's
        if isinstance(action, IdentifyNode) and (run.about.uid, action.uid, action.provider_id) in self._given:
            return
        try:
            async with (
                self._around(run, action),
                asyncio.timeout(action.deadline),
                self._speaking(run, action) as client,
            ):
                match action:
                    case Create():
                        await self._create(run, client, action)
                    case Apply():
                        await self._apply(run, client, action)
                    case Replace():
                        await self._replace(run, client, action)
                    case PatchMetadata():
                        await self._patch_metadata(run, client, action)
                    case Delete():
                        await self._delete(run, client, action)
                    case PublishEndpoint() | AnnotatePods():
                        await self._patch(run, client, action)
                    case IdentifyNode():
                        await self._identify(run, client, action)
                    case MovePort():
                        await self._move_port(run, client, action)
        except TimeoutError:
            raise _Failed(f"{_words(action)}: not done within {action.deadline:g} s") from None
        except MaterialError as fault:
            raise _Failed(f"{_words(action)}: {fault}") from None
        except ApiError as error:
            # A server, or a webhook that it asks, may quote what it was sent. (Without an answer the words are ours.)
            said = error.public() if action.ref.kind == "Secret" and error.code else str(error)
            raise _Failed(f"{_words(action)}: {said}", retry_after=error.retry_after) from None

    @asynccontextmanager
    async def _around(self, run: _Run, step: Step) -> AsyncIterator[None]:
        if not self._leadership.held():
            raise _Deposed
        self._hooks.before(step, run.number)
        yield
        self._hooks.after(step, run.number)
        run.number += 1

    @asynccontextmanager
    async def _speaking(self, run: _Run, action: Action) -> AsyncIterator[ApiClient]:
        if action.target is not Target.TENANT:
            yield self._client
            return
        if self._tenants is None or run.tenant is None:
            raise _Failed(f"{_words(action)}: the tenant's API server is not known")
        async with self._tenants.client(run.tenant, deadline=action.deadline) as client:
            yield client

    # -- the actions ---------------------------------------------------------------------------------------------

    async def _create(self, run: _Run, client: ApiClient, action: Create) -> None:
        resource, ref = resource_for(action.ref), action.ref
        body = diff.stamped(action.body, action.recipe) if action.ours else dict(action.body)
        data = None
        if action.recipe is not None:
            inputs = await self._inputs(run, action.recipe, action)
            data = await self._sources.fulfil(action.recipe, inputs.secrets)
            body = {**annotated(body, action.recipe, inputs), "data": encoded(data)}
        try:
            answer = await client.create(resource, body, deadline=action.deadline)
        except errors.AlreadyExists:
            if not action.ours:
                self._remember_given((run.about.uid, action.target, action.ref))
                return
            if isinstance(action.recipe, Reusable):
                run.made[action.material or ref.name] = await self._reuse(run, client, action, action.recipe, inputs)
                return
            await self._look_again(run, client, action)
            raise _Stale(f"{ref} exists") from None
        run.writes += 1
        if not action.ours:
            self._remember_given((run.about.uid, action.target, action.ref))
        seen = self._feed(run, action, answer)
        if data is not None:
            run.made[action.material or ref.name] = data
            if seen is not None and action.recipe is not None and not action.recipe.needs:
                # What was made from others is not what others are made from.
                self._secrets.remember(seen, data)

    async def _reuse(
        self, run: _Run, client: ApiClient, action: Create, recipe: Reusable, inputs: Inputs
    ) -> Mapping[str, bytes]:
        """What is there already, if it serves: its data, in a tenant; else the caches learn of it, for the next plan.

        Anything is deleted only by the UID of what was found useless. So whoever comes late deletes nothing newer, and
        goes on with what the first has made.
        """
        resource, ref, in_tenant = resource_for(action.ref), action.ref, action.target is Target.TENANT
        try:
            live = await client.get(resource, ref.namespace, ref.name, deadline=action.deadline)
        except errors.NotFound:
            raise _Stale(f"{ref} has come and gone") from None
        seen = self._feed(run, action, live)
        if in_tenant and not is_ours(live.body, action.body):
            raise _Failed(f"{_words(action)}: {_FOREIGN}")
        if in_tenant and "deletionTimestamp" in live["metadata"]:
            raise _Failed(f"{_words(action)}: a former one is still being deleted")
        if not is_ours(live.body, action.body):
            raise _Stale(f"{ref} exists")
        held = secret_data(live.raw)
        fault = "its type is another" if live["type"] != action.body["type"] else recipe.fault(held, inputs)
        if fault:
            log.warning("%s is made anew: %s", ref, fault)
            uid = live["metadata"]["uid"]
            await self._delete(run, client, Delete(ref=ref, uid=uid, target=action.target, deadline=action.deadline))
            raise _Stale(f"{ref} was of no use")
        if not in_tenant:
            if seen is not None:
                self._secrets.remember(seen, held)
            raise _Stale(f"{ref} exists, as it should be")
        change = recipe.amendment(held, inputs) if isinstance(recipe, Amending) else {}
        if not change:
            return held
        about = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
        patch = {"metadata": about, "data": encoded(change)}
        try:
            await client.merge_patch(resource, ref.namespace, ref.name, patch, deadline=action.deadline)
        except (errors.Conflict, errors.NotFound):
            raise _Stale(f"{ref} has changed") from None
        run.writes += 1
        return {**held, **change}

    async def _apply(self, run: _Run, client: ApiClient, action: Apply) -> None:
        resource, ref = resource_for(action.ref), action.ref
        known = self._caches.known(ref) if action.target is not Target.TENANT else None
        body = diff.stamped(action.body)
        body["metadata"] = {**body["metadata"], "uid": action.uid}
        stamp = await self._brake(run, action, body, known)
        try:
            if known is None or known.posted:
                await self._migrate(run, client, action)
            try:
                answer = await client.apply(resource, body, deadline=action.deadline)
            except errors.Invalid as refused:
                answer = await self._clear(run, client, action, body, refused)
        except (errors.Conflict, errors.NotFound):
            await self._look_again(run, client, action)
            raise _Stale(f"{ref} is another one, or gone") from None
        run.writes += 1
        self._fights.wrote(action.uid, stamp)
        self._feed(run, action, answer)

    async def _brake(self, run: _Run, action: Apply | Replace, body: Object, known: Observed | None) -> str:
        """Wait with a write that another operator undoes again and again. Returns the stamp of what is wanted."""
        stamp = str(body["metadata"]["annotations"][HASH_ANNOTATION])
        there = known.annotations.get(HASH_ANNOTATION, "") if known is not None else ""
        if len(there) == len(stamp) and there != stamp:
            await self._hold(run, action.uid, stamp, _words(action))
        return stamp

    async def _hold(self, run: _Run, place: Hashable, mark: str, what: str) -> None:
        """Raise, and say so once, if this write has to wait (see `fights`)."""
        held = self._fights.held(place, mark)
        if held is None:
            return
        why = f"{what}: it is undone again and again, as by another hosted-cp; {_ONE_OPERATOR}"
        if held.first:
            now = rfc3339(self._sources.now())
            await self._say(run, Event(type="Warning", reason="Contended", message=why, condition="", transition=now))
        raise _Held(why, retry_after=held.seconds)

    async def _clear(
        self, run: _Run, client: ApiClient, action: Apply, body: Object, refused: errors.Invalid
    ) -> Answer:
        """Clear the way where an apply was refused because of what somebody else wrote into the object (see `overlay`).

        By a patch: of these kinds we may do no PUT, and need none. Raises `refused` where nothing of others is in the
        way, or where that was not all.
        """
        resource, ref = resource_for(action.ref), action.ref
        live = await client.get(resource, ref.namespace, ref.name, deadline=action.deadline)
        if live["metadata"]["uid"] != action.uid:
            self._feed(run, action, live)
            raise _Stale(f"{ref} is another one")
        whole, removed = overlay.laid_over(live.body, body)
        if not removed:
            raise refused
        try:
            operations = overlay.operations(live.body, whole)
            answer = await client.json_patch(resource, ref.namespace, ref.name, operations, deadline=action.deadline)
            self._feed(run, action, answer)
        except errors.Invalid:
            raise refused from None
        run.writes += 1
        log.info("%s: removed from %s what stood in the way: %s", run.about.ref, ref, ", ".join(removed))
        # Now the merge is one that can be taken; it removes what we had applied and no longer want.
        return await client.apply(resource, body, deadline=action.deadline)

    async def _migrate(self, run: _Run, client: ApiClient, action: Apply) -> None:
        """Make the fields of our POST those of our apply (see `managed_fields`), unless that was done before."""
        resource, ref = resource_for(action.ref), action.ref
        live = await client.get(resource, ref.namespace, ref.name, deadline=action.deadline)
        metadata = live["metadata"]
        if metadata["uid"] != action.uid:
            self._feed(run, action, live)
            raise _Stale(f"{ref} is another one")
        entries = migrated(metadata.get("managedFields") or ())
        if entries is None:
            self._feed(run, action, live)
            return
        operations = [
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
            # A precondition: if somebody has written meanwhile, what we send is old.
            {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        ]
        answer = await client.json_patch(resource, ref.namespace, ref.name, operations, deadline=action.deadline)
        run.writes += 1
        self._feed(run, action, answer)

    async def _replace(self, run: _Run, client: ApiClient, action: Replace) -> None:
        resource, ref = resource_for(action.ref), action.ref
        known = self._caches.known(ref)
        if known is None or known.uid != action.uid or known.resource_version != action.resource_version:
            raise _Stale(f"{ref} has changed")  # the caches know more than the plan did: no need to ask
        inputs = await self._inputs(run, action.recipe, action)
        if action.keep and is_annotating(action.recipe):
            said = action.recipe.annotations(inputs)
            if known.annotations.get(action.keep) == said.get(action.keep):
                annotations = {key: value for key, value in said.items() if known.annotations.get(key) != value}
                if annotations:
                    await self._patch_metadata(
                        run, client,
                        PatchMetadata(
                            ref=ref, uid=action.uid, resource_version=action.resource_version, annotations=annotations
                        ),
                    )  # fmt: skip
                return
        data = await self._sources.fulfil(action.recipe, inputs.secrets)
        wanted = annotated(diff.stamped(action.body, action.recipe), action.recipe, inputs)
        body = {**with_foreign_metadata(wanted, known), "data": encoded(data)}
        kept = kept_by(action.recipe)
        stamp = await self._brake(run, action, body, known)
        try:
            if kept:
                patch = _patch_beside(kept, body, known)
                answer = await client.merge_patch(resource, ref.namespace, ref.name, patch, deadline=action.deadline)
            else:
                answer = await client.replace(resource, body, deadline=action.deadline)
        except (errors.Conflict, errors.NotFound):
            await self._look_again(run, client, action)
            raise _Stale(f"{ref} has changed") from None
        run.writes += 1
        self._fights.wrote(action.uid, stamp)
        if not kept:
            run.made[ref.name] = data
        self._feed(run, action, answer)

    async def _patch_metadata(self, run: _Run, client: ApiClient, action: PatchMetadata) -> None:
        resource, ref = resource_for(action.ref), action.ref
        metadata: dict[str, Any] = {"uid": action.uid, "resourceVersion": action.resource_version}
        if action.labels:
            metadata["labels"] = dict(action.labels)
        if action.annotations:
            metadata["annotations"] = dict(action.annotations)
        if action.owner_references is not None:
            metadata["ownerReferences"] = [dict(each) for each in action.owner_references]
        if action.finalizers is not None:
            metadata["finalizers"] = list(action.finalizers)
        place, mark = (action.uid, "metadata"), _metadata_mark(metadata, self._caches.known(ref))
        await self._hold(run, place, mark, _words(action))
        try:
            answer = await client.merge_patch(
                resource, ref.namespace, ref.name, {"metadata": metadata}, manager=METADATA_MANAGER,
                deadline=action.deadline,
            )  # fmt: skip
        except (errors.Conflict, errors.NotFound):
            await self._look_again(run, client, action)
            raise _Stale(f"{ref} has changed, or is gone") from None
        run.writes += 1
        self._fights.wrote(place, mark)
        seen = self._feed(run, action, answer)
        if seen is not None and seen.deleting and not seen.finalizers and action.finalizers is not None:
            self._caches.forget(ref, uid=seen.uid, by=run.by)  # that was the last thing that held it

    async def _patch(self, run: _Run, client: ApiClient, action: PublishEndpoint | AnnotatePods) -> None:
        resource, ref = resource_for(action.ref), action.ref
        try:
            answer = await client.merge_patch(
                resource, ref.namespace, ref.name, action.patch(), manager=METADATA_MANAGER, deadline=action.deadline
            )
        except (errors.Conflict, errors.NotFound):
            await self._look_again(run, client, action)
            raise _Stale(f"{ref} has changed, or is gone") from None
        run.writes += 1
        self._feed(run, action, answer)

    async def _identify(self, run: _Run, client: ApiClient, action: IdentifyNode) -> None:
        resource, ref = resource_for(action.ref), action.ref
        try:
            await client.merge_patch(
                resource, None, ref.name, action.patch(), manager=METADATA_MANAGER, deadline=action.deadline
            )
        except (errors.Conflict, errors.NotFound):
            raise _Failed(f"{_words(action)}: it is another one than a moment ago") from None
        run.writes += 1
        self._remember_given((run.about.uid, action.uid, action.provider_id))

    async def _move_port(self, run: _Run, client: ApiClient, action: MovePort) -> None:
        resource, ref = resource_for(action.ref), action.ref
        with suppress(errors.NotFound, errors.Invalid):
            await client.json_patch(resource, ref.namespace, ref.name, action.patch(), deadline=action.deadline)
            run.writes += 1

    async def _delete(self, run: _Run, client: ApiClient, action: Delete) -> None:
        resource, ref = resource_for(action.ref), action.ref
        uid = action.uid
        try:
            if uid is None:
                live = await client.get(resource, ref.namespace, ref.name, deadline=action.deadline)
                if not is_ours(live.body, {"metadata": {"labels": action.labels}}):
                    log.info("%s in the tenant is not ours and stays", ref)
                    return
                uid = live["metadata"]["uid"]
            answer = await client.delete(
                resource, ref.namespace, ref.name, uid=uid, resource_version=action.resource_version,
                propagation=action.propagation, deadline=action.deadline,
            )  # fmt: skip
        except errors.NotFound:
            self._gone(run, action)
            return
        except errors.Conflict:
            if action.uid is None or action.resource_version:
                raise _Stale(f"{ref} is another one than a moment ago") from None
            # Another life of this name: the one that was meant is gone.
            self._gone(run, action)
            await self._look_again(run, client, action)
            return
        run.writes += 1
        if answer.body.get("kind") == "Status":
            self._gone(run, action)
        else:
            self._feed(run, action, answer)

    # -- the report ----------------------------------------------------------------------------------------------

    async def _write_status(self, run: _Run, wanted: Object) -> None:
        # What this run itself has written (a finalizer) must not look like somebody else's change.
        about = self._own_answers(run)
        change = merge_difference(about.get("status", default={}), wanted)
        if not change:
            return
        resource, ref = resource_for(about.ref), about.ref
        place, mark = (about.uid, "status"), _status_mark(wanted)
        await self._hold(run, place, mark, f"the status of {ref}")
        patch = {"metadata": {"uid": about.uid, "resourceVersion": about.resource_version}, "status": change}
        try:
            async with self._around(run, StatusWrite(ref=ref)):
                answer = await self._client.merge_patch(
                    resource, ref.namespace, ref.name, patch, subresource="status", deadline=_REPORT_DEADLINE
                )
        except (errors.Conflict, errors.NotFound):
            await self._refresh(run, self._client, ref, about.uid)
            raise _Stale(f"the status of {ref} was made for an older object") from None
        except ApiError as error:
            raise _Failed(f"writing the status of {ref}: {error}", retry_after=error.retry_after) from None
        run.writes += 1
        self._fights.wrote(place, mark)
        self._caches.feed(answer, ref, by=run.by)

    def _own_answers(self, run: _Run) -> Observed:
        """The user's object as this run has left it."""
        known = self._caches.known(run.about.ref)
        if known is not None and known.uid == run.about.uid and known.generation == run.about.generation:
            return known
        return run.about

    async def _say(self, run: _Run, event: Event) -> None:
        body = event_body(run.about, event)
        try:
            async with self._around(run, event):
                await self._client.create(EVENT, body, deadline=_REPORT_DEADLINE)
            run.writes += 1
        except errors.AlreadyExists:
            pass  # said before a crash
        except ApiError as error:
            # An Event is a courtesy: what it says stands in the conditions too.
            log.warning("%s: an Event could not be written: %s", run.about.ref, error)

    # -- helpers -------------------------------------------------------------------------------------------------

    async def _inputs(self, run: _Run, recipe: Recipe, action: Create | Replace) -> Inputs:
        """What the recipe of an action needs, from the Secrets of the tenant's namespace."""
        namespace = run.about.ref.namespace or ""
        needed: dict[str, Mapping[str, bytes]] = {}
        for name in recipe.needs:
            if name in run.made:
                needed[name] = run.made[name]
                continue
            config_map = config_map_name(name)
            try:
                needed[name] = await (
                    self._secrets.read(namespace, name, deadline=action.deadline)
                    if config_map is None
                    else self._secrets.config_map(namespace, config_map, deadline=action.deadline)
                )
            except errors.NotFound:
                what = f"Secret {namespace}/{name}" if config_map is None else f"ConfigMap {namespace}/{config_map}"
                raise MaterialError(f"{what} does not exist") from None
        return self._sources.inputs(needed)

    def _feed(self, run: _Run, action: Action, answer: Answer) -> Observed | None:
        if action.target is Target.TENANT:
            return None  # the caches follow the management cluster
        return self._caches.feed(answer, action.ref, by=run.by)

    def _gone(self, run: _Run, action: Delete) -> None:
        if action.target is not Target.TENANT and action.uid is not None:
            self._caches.forget(action.ref, uid=action.uid, by=run.by)

    async def _look_again(self, run: _Run, client: ApiClient, action: Action) -> None:
        if action.target is Target.TENANT:
            return
        known = self._caches.known(action.ref)
        await self._refresh(run, client, action.ref, known.uid if known is not None else None)

    async def _refresh(self, run: _Run, client: ApiClient, ref: Ref, uid: str | None) -> None:
        """Tell the caches what is there now, so that the next plan is not made for the same old world."""
        try:
            answer = await client.get(resource_for(ref), ref.namespace, ref.name)
        except errors.NotFound:
            if uid is not None:
                self._caches.forget(ref, uid=uid, by=run.by)
            return
        except ApiError as error:
            raise _Failed(f"reading {ref}: {error.public()}", retry_after=error.retry_after) from None
        if uid is not None and answer["metadata"]["uid"] != uid:
            self._caches.forget(ref, uid=uid, by=run.by)
        self._caches.feed(answer, ref, by=run.by)

    def _remember_given(self, what: Hashable) -> None:
        self._given[what] = None
        if len(self._given) > _GIVEN:
            self._given.popitem(last=False)


def _patch_beside(kept: frozenset[str], body: Object, live: Observed) -> dict[str, Any]:
    """The merge patch that does what a PUT of the body would, but for those keys of the data that are `kept`."""
    metadata = body["metadata"]
    there = live.secret.digests if live.secret is not None else {}
    return {
        "metadata": {
            **{key: metadata[key] for key in ("uid", "resourceVersion", "ownerReferences")},
            "labels": merge_difference(live.labels, metadata["labels"]),
            "annotations": merge_difference(live.annotations, metadata["annotations"]),
        },
        "data": {**dict.fromkeys(there.keys() - kept), **body["data"]},
    }


def _status_mark(status: Object) -> str:
    """What tells one status from another, whenever it was written."""
    conditions = [{**each, "lastTransitionTime": ""} for each in status.get("conditions") or ()]
    return _digest({**status, "conditions": conditions})


def _metadata_mark(wanted: Mapping[str, Any], there: Observed | None) -> str:
    """What is to be written, and over what: another operator puts the same there each time, people do not."""
    found: dict[str, Any] = {}
    if there is not None:
        for part, live in (("labels", there.labels), ("annotations", there.annotations)):
            found[part] = {key: live.get(key) for key in wanted.get(part, {})}
        found["ownerReferences"] = [dict(each) for each in there.owner_references]
    return _digest({"wanted": {**wanted, "resourceVersion": ""}, "found": found})


def _digest(value: Object) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _words(action: Action) -> str:
    """An action in a sentence for people."""
    verb = {
        Create: "creating", Apply: "changing", Replace: "renewing", PatchMetadata: "labelling", Delete: "deleting",
        PublishEndpoint: "publishing the endpoint in", IdentifyNode: "giving its providerID to",
        MovePort: "changing the port of", AnnotatePods: "restarting the pods of",
    }  # fmt: skip
    where = " in the tenant" if action.target is Target.TENANT else ""
    return f"{verb[type(action)]} {action.ref}{where}"
