"""Options of `hosted-cp run`: each setting of the planners can be set, by option and by environment variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest
from click.testing import CliRunner

from hosted_cp.api.kinds import PROVIDERS
from hosted_cp.cli import run as product
from hosted_cp.cli.main import main
from hosted_cp.hosting.settings import Settings

#: Field -> (arguments, environment, what the field is then).
GIVEN: Mapping[str, tuple[list[str], dict[str, str], Any]] = {
    "k0s_image": (["--k0s-image=r.example/k0s"], {"HOSTED_CP_K0S_IMAGE": "r.example/k0s"}, "r.example/k0s"),
    "etcd_image": (["--etcd-image=r.example/etcd:1"], {"HOSTED_CP_ETCD_IMAGE": "r.example/etcd:1"}, "r.example/etcd:1"),
    "cluster_domain": (["--cluster-domain=c.example"], {"HOSTED_CP_CLUSTER_DOMAIN": "c.example"}, "c.example"),
    "privileged_namespaces": (
        ["--privileged-namespace=a", "--privileged-namespace=b"],
        {"HOSTED_CP_PRIVILEGED_NAMESPACES": "a b"},
        frozenset({"a", "b"}),
    ),
    "network_policies": (["--network-policies"], {"HOSTED_CP_NETWORK_POLICIES": "true"}, True),
    "priority_class": (["--priority-class=high"], {"HOSTED_CP_PRIORITY_CLASS": "high"}, "high"),
}

#: The catalogue is data of the release; whether tenants can be reached follows from where the operator runs.
NOT_GIVEN = {"catalogue", "reaches_tenants"}


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What the command hands over, instead of running."""
    seen: list[Mapping[str, Any]] = []

    def run_operator(options: Mapping[str, Any]) -> int:
        seen.append(options)
        return 0

    monkeypatch.setattr(product, "run_operator", run_operator)
    return seen


def test_no_setting_is_forgotten() -> None:
    assert {each.name for each in fields(Settings)} == set(GIVEN) | NOT_GIVEN


@pytest.mark.parametrize("way", ["option", "environment"])
@pytest.mark.parametrize("name", GIVEN)
def test_a_setting(options: list[Mapping[str, Any]], name: str, way: str) -> None:
    arguments, environment, wanted = GIVEN[name]
    told = (
        CliRunner().invoke(main, ["run", *arguments])
        if way == "option"
        else CliRunner().invoke(main, ["run"], env=environment)
    )
    assert told.exit_code == 0, told.output
    [given] = options
    settings = product.settings_of(given, in_cluster=True)
    assert getattr(settings, name) == wanted
    usual = Settings(catalogue=settings.catalogue)
    others = {each.name for each in fields(Settings)} - {name}
    assert {other: getattr(settings, other) for other in others} == {other: getattr(usual, other) for other in others}


def test_tenants_are_not_asked_from_outside_the_cluster(options: list[Mapping[str, Any]]) -> None:
    assert CliRunner().invoke(main, ["run"]).exit_code == 0
    assert product.settings_of(options[0], in_cluster=True).reaches_tenants
    assert not product.settings_of(options[0], in_cluster=False).reaches_tenants


def test_all_namespaces_unless_some_are_named() -> None:
    [cluster_wide, *_] = product.kinds(Settings())
    [narrow, *_] = product.kinds(Settings(), cluster_wide=False)
    more = {each.resource.plural for each in cluster_wide.watched} - {each.resource.plural for each in narrow.watched}
    assert more == {"nodes", "storageclasses", "customresourcedefinitions"}


def test_one_provider_alone_runs_its_kinds_and_waits_for_nobody_elses() -> None:
    everything = [each.resource.kind for each in product.kinds(Settings())]
    parts = {each: product.kinds(Settings(), provider=each) for each in PROVIDERS}
    told = {name: [each.resource.kind for each in kinds] for name, kinds in parts.items()}
    assert told == {
        "control-plane": ["Cluster", "K0smotronControlPlane", "JoinTokenRequest"],
        "bootstrap": ["K0sWorkerConfig"],
    }
    assert [kind for some in told.values() for kind in some] == everything
    # The other provider need not be installed.
    for name, kinds in parts.items():
        others = {group for other, groups in PROVIDERS.items() if other != name for group in groups}
        watched = [each for kind in kinds for each in kind.watched if each.resource.group in others]
        assert all(each.optional for each in watched)


@pytest.mark.parametrize("provider", ["", *PROVIDERS])
def test_a_provider_is_chosen_by_name(options: list[Mapping[str, Any]], provider: str) -> None:
    arguments = [f"--provider={provider}"] if provider else []
    assert CliRunner().invoke(main, ["run", *arguments]).exit_code == 0
    assert (options[0]["provider"] or "") == provider
    assert CliRunner().invoke(main, ["run", "--provider=infrastructure"]).exit_code == 2
