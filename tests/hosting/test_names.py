"""Names of children, and back from them to the tenants that may have them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.hosting.names import LONGEST_NAME, Names, children_of, tenants_with
from tests.hosting.variants import VARIANTS, settled

TENANTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,41}[a-z0-9])?", fullmatch=True).filter(lambda n: len(n) <= LONGEST_NAME)


@given(TENANTS | st.sampled_from(["kmc-a", "a-etcd", "etcd", "a-etcd-permit", "kmc-a-config", "lb"]))
def test_every_child_leads_back_to_its_tenant(tenant: str) -> None:
    for kind, name in children_of(tenant):
        assert tenant in set(tenants_with(kind, name))


def test_a_name_may_belong_to_several_tenants_and_others_to_none() -> None:
    assert set(tenants_with("Service", "kmc-a-etcd")) == {"a", "a-etcd"}
    assert set(tenants_with("Secret", "a-etcd-ca")) == {"a-etcd"}
    assert list(tenants_with("Secret", "default-token")) == []
    assert list(tenants_with("Secret", "-ca")) == []
    assert list(tenants_with("Pod", "kmc-a")) == []


def test_these_are_the_names_that_tenants_use() -> None:
    used = {each for variant in VARIANTS for each in settled(variant).owned()}
    names = Names("demo")
    known = set(children_of("demo"))
    assert used <= known
    assert {("Secret", names.config), ("Secret", names.kubeconfig), ("Secret", names.etcd_permit)} <= known
