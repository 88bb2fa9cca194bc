"""The command line of a hosted controller, and the files that keep its add-ons from being pruned."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hosted_cp.k0s.command import PENDING, controller_argv, flag_problems, pending_manifests
from hosted_cp.k0s.versions import parse

NEWEST, OLD = parse("v1.36.3+k0s.2"), parse("v1.33.4+k0s.0")
CONFIG = "/etc/k0s/k0s.yaml"
OURS = "--disable-components=autopilot,control-api,helm,update-prober,windows-node"


def argv(*flags: str, config: Any = None, version: Any = NEWEST) -> list[str]:
    return controller_argv(version=version, config=CONFIG, k0s_config=config, flags=flags)


def test_the_command_without_wishes() -> None:
    assert argv() == ["k0s", "controller", f"--config={CONFIG}", OURS]
    assert controller_argv(version=NEWEST, config=CONFIG, k0s_config=None, flags=None) == argv()


def test_only_components_that_the_version_knows_are_named() -> None:
    assert argv(version=OLD)[3] == OURS.replace(",update-prober", "")


def test_helm_stays_where_the_config_speaks_of_it() -> None:
    sections: list[Any] = [{"charts": []}, {}, None]
    for helm in sections:
        assert "helm" not in argv(config={"spec": {"extensions": {"helm": helm}}})[3]


def test_the_users_components_replace_ours_except_for_the_one_that_hands_out_keys() -> None:
    assert argv("--disable-components=metrics-server,coredns")[3:] == [
        "--disable-components=control-api,coredns,metrics-server"
    ]
    assert argv("--disable-components=")[3:] == ["--disable-components=control-api"]
    assert argv("--disable-components=coredns", "--disable-components helm")[3:] == [
        "--disable-components=control-api,coredns,helm"
    ]


def test_the_users_flags_come_last_as_a_shell_would_have_split_them() -> None:
    found = argv("--debug", "--logging etcd=debug", '--kube-controller-manager-extra-args="--a=$(b) --c"', "-v")
    assert found[4:] == ["--debug", "--logging=etcd=debug", "--kube-controller-manager-extra-args=--a=$(b) --c", "-v"]


@pytest.mark.parametrize("flag", ["--enable-dynamic-config=false", "--data-dir=/var/lib/k0s/", "--single=false"])
def test_refused_flags_that_say_what_is_so_anyway_are_left_out(flag: str) -> None:
    assert flag_problems([flag], version=NEWEST) == []
    assert argv(flag) == argv()


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--enable-worker", "--enable-worker cannot be used: a hosted control plane runs no workers"),
        ("--enable-worker=true", "--enable-worker cannot be used"),
        ("--single", "--single cannot be used"),
        ("--data-dir=/data", "--data-dir cannot be used"),
        ("--data-dir /data", "--data-dir cannot be used"),
        ("--config=/my.yaml", "write the settings to spec.k0sConfig"),
        ("-c=/my.yaml", "--config cannot be used"),
        ("--token-file=/t", "--token-file cannot be used"),
        ("--enable-dynamic-config", "is static"),
        ("--init-only", "--init-only cannot be used"),
        ("--enable-metric-scraper", "did you mean --enable-metrics-scraper?"),
        ("--force", "does not know the flag --force"),
        ("-x", "does not know the flag -x"),
        ("join-token", "is no flag"),
        ('--labels="a', "a quotation mark is not closed"),
        ("--disable-components=coredns,metric-server", "did you mean metrics-server?"),
    ],
)
def test_flags_with_which_k0s_cannot_be_hosted_are_refused_by_index(flag: str, says: str) -> None:
    [problem] = flag_problems(["--debug", flag], version=NEWEST)
    assert problem.field == "spec.controlPlaneFlags[1]"
    assert says in f"{problem.fault}; {problem.remedy}"


def test_flags_and_components_of_newer_versions() -> None:
    for flag in ("--feature-gates=A=true", "--api-server-stop-timeout=10s", "--disable-components=update-prober"):
        assert flag_problems([flag], version=NEWEST) == []
        assert len(flag_problems([flag], version=OLD)) == 1
    assert flag_problems(["--disable-components=worker-config"], version=NEWEST) == []
    assert flag_problems(None, version=NEWEST) == []


# --- add-ons ---------------------------------------------------------------------------------------------------------

DEFAULT = (
    "coredns/coredns.yaml",
    "kubeproxy/kube-proxy.yaml",
    "kuberouter/kube-router.yaml",
    "metricserver/metric_server.yaml",
)


@pytest.mark.parametrize(
    ("network", "flags", "expected"),
    [
        ({}, [], DEFAULT),
        ({"provider": "custom"}, [], tuple(name for name in DEFAULT if "router" not in name)),
        (
            {"provider": "calico"},
            ["--disable-components=coredns,kube-proxy,metrics-server"],
            (
                "calico/calico-ServiceAccount-calico-node.yaml",
                "calico_init/calico-crd-tiers.crd.projectcalico.org.yaml",
            ),
        ),
        ({"kubeProxy": {"disabled": True}}, [], tuple(name for name in DEFAULT if "proxy" not in name)),
        ({}, ["--disable-components=network-provider,coredns,kube-proxy,metrics-server"], ()),
        ({}, ["--enable-metrics-scraper"], tuple(sorted({*DEFAULT, "metrics/pushgateway.yaml"}))),
        ({}, ["--enable-metrics-scraper=false"], DEFAULT),
    ],
)
def test_add_ons_that_k0s_will_write_are_kept_from_being_pruned(
    network: dict[str, Any], flags: list[str], expected: tuple[str, ...]
) -> None:
    assert pending_manifests(k0s_config={"spec": {"network": network}}, flags=flags) == expected


def test_the_placeholder_is_no_kubernetes_object_and_not_nothing() -> None:
    assert set(yaml.safe_load(PENDING)) == {"placeholder"}
