"""Golden files: every object of every variant, as `hosted-cp render` would show it.

A change of what we create has to be looked at: `HOSTED_CP_GOLDEN=write pytest tests/hosting/test_golden.py` writes the
files anew, and the difference is for the reviewer. A document that is the same as in the variant's base is only named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from hosted_cp.hosting import scripts
from hosted_cp.hosting.rehearsal import marked, rehearse
from hosted_cp.hosting.wanted import Wanted
from tests.hosting.variants import VARIANTS, settled
from tests.hosting.world import START

FOLDER = Path(__file__).parent / "golden"
_SCRIPTS = {scripts.CERTS_INIT: "<scripts/certs-init.sh>", scripts.ETCD_PERMIT: "<scripts/etcd-permit.sh>"}
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@cache
def documents(variant: str) -> dict[str, str]:
    """Kind and name -> YAML, in writing order."""
    view = VARIANTS[variant].world().view()
    wanted, problems = rehearse(view)
    assert problems == []
    return {str(each.ref): _document(each, uid=view.owner.uid) for each in wanted}


def _document(each: Wanted, *, uid: str) -> str:
    body = dict(each.body)
    if each.recipe is not None:
        body["data"] = {"<made by>": marked(each.recipe.printed())}
    text: str = yaml.dump(_readable(body, uid), Dumper=_DUMPER, sort_keys=False, width=120, allow_unicode=True)
    return text


def _readable(value: Any, uid: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _readable(each, uid) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(each, uid) for each in value]
    if isinstance(value, str):
        return _SCRIPTS.get(value, value.replace(uid, "<UID>").replace(f"{START:%Y-%m-%dT%H:%M:%SZ}", "<now>"))
    return value


def golden(variant: str) -> str:
    base = VARIANTS[variant].base
    before = documents(base) if base != variant else {}
    parts = [
        f"# as in {base}.yaml: {name}\n" if before.get(name) == text else text
        for name, text in documents(variant).items()
    ]
    gone = [f"# not here, but in {base}.yaml: {name}\n" for name in before if name not in documents(variant)]
    return "---\n".join([*parts, *gone])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_objects_are_the_golden_ones(variant: str) -> None:
    file = FOLDER / f"{variant}.yaml"
    now = golden(variant)
    if os.environ.get("HOSTED_CP_GOLDEN") == "write":
        file.write_text(now, encoding="utf-8")
    assert now == file.read_text(encoding="utf-8"), "run with HOSTED_CP_GOLDEN=write and look at the difference"


def test_no_golden_file_is_left_over() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_knows_every_field(variant: str) -> None:
    wanted, _ = rehearse(VARIANTS[variant].world().view())
    base = VARIANTS[variant].base
    known = documents(base) if base != variant else {}
    for each in wanted:
        if documents(variant)[str(each.ref)] != known.get(str(each.ref)):  # the same was looked at there
            kubernetes_validate.validate(each.body, "1.36", strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_rendered_is_what_is_created(variant: str) -> None:
    """`render` must not promise anything else than what the loop makes: names, and which Secrets by which recipe."""
    rehearsed, _ = rehearse(VARIANTS[variant].world().view())
    world = settled(variant)
    assert {(each.ref.kind, each.ref.name) for each in rehearsed} == set(world.owned())


def test_two_documents_of_one_variant_differ_from_its_base_only_where_it_says_so() -> None:
    assert "# as in etcd-1.yaml: Secret tenants/demo-ca" in golden("resources")
    assert "ephemeral-storage" in golden("resources")
