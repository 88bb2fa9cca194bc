"""etcd's command line: releases with known defects, arguments of users, the quota."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.hosting.etcd import flags
from tests.component.pod_play import expand
from tests.hosting.etcd_world import CATALOGUE

MIB = 1024**2


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("quay.io/k0sproject/etcd:v3.6.14", (3, 6, 14)),
        ("registry:5000/etcd:3.7.1-0", (3, 7, 1)),
        ("registry:5000/etcd", None),
        ("etcd:v3.6.14@sha256:" + "0" * 64, (3, 6, 14)),
        ("etcd@sha256:" + "0" * 64, None),
        ("etcd:latest", None),
    ],
)
def test_the_release_is_read_from_the_tag(image: str, found: flags.Release | None) -> None:
    assert flags.release(image) == found


@pytest.mark.parametrize("tag", ["v3.4.42", "v3.5.32", "v3.6.13", "v3.7.0", "v3.8.0", "v4.0.0"])
def test_releases_with_known_defects_and_unknown_minors_are_refused(tag: str) -> None:
    problem = flags.release_problem(f"etcd:{tag}", CATALOGUE, field="spec.storage.etcd.image")
    assert problem is not None
    assert tag in problem.fault
    assert "v3." in problem.remedy


@pytest.mark.parametrize("tag", ["v3.5.33", "v3.6.14", "v3.6.99", "v3.7.1", "mine"])
def test_releases_at_the_floor_may_run(tag: str) -> None:
    assert flags.release_problem(f"etcd:{tag}", CATALOGUE, field="f") is None


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ("v3.6.14", "v3.5.33", True),
        ("v3.5.33", "v3.7.1", True),
        ("v3.5.33", "v3.6.14", False),
        ("v3.6.15", "v3.6.14", False),
        ("mine", "v3.5.33", False),
    ],
)
def test_minors_go_up_one_at_a_time(old: str, new: str, refused: bool) -> None:
    assert (flags.change_problem(f"etcd:{old}", f"etcd:{new}", field="f") is not None) == refused


@pytest.mark.parametrize(
    "arg",
    [
        "--data-dir=/elsewhere", "-data-dir", "--name=other", "--initial-cluster-state=new", "--initial-cluster",
        "--force-new-cluster", "-force-new-cluster=true", "--config-file=/x", "--listen-client-urls=http://0.0.0.0:1",
        "--peer-auto-tls", "--peer-client-cert-auth=false", "--client-cert-auth=false", "--wal-dir=/w", "--", "-",
        "--discovery-endpoints=x", "--unsafe-no-fsync", "--trusted-ca-file=/x", "---name=x", "--version",
    ],
)  # fmt: skip
def test_arguments_that_break_a_promise_are_refused_by_their_index(arg: str) -> None:
    refused = flags.denied(["--max-request-bytes=1", arg])
    assert [index for index, _ in refused] == [1]
    assert refused[0][1].field == "spec.storage.etcd.args[1]"
    assert flags.accepted(["--max-request-bytes=1", arg]) == []


def test_other_arguments_pass() -> None:
    args = ["--max-request-bytes=2097152", "--quota-backend-bytes", "8589934592", "--metrics=extensive"]
    assert flags.denied(args) == []
    assert flags.accepted(args) == args


@given(st.text(alphabet="$()AB_=-x ", max_size=20))
def test_an_argument_reaches_etcd_as_the_user_wrote_it(text: str) -> None:
    [literal] = flags.accepted([f"--x={text}"])
    assert expand(literal, {"A": "secret", "B": "secret"}) == f"--x={text}"


@pytest.mark.parametrize(
    ("size", "expected"),
    [("50Mi", 128), ("1Gi", 256), ("8Gi", 3123), ("10Gi", 3942), ("100Gi", 8192), ("1Ti", 8192)],
)
def test_the_quota_leaves_room_for_a_defragmentation_and_the_log(size: str, expected: int) -> None:
    assert flags.quota(size) // MIB == expected


def test_flags_fit_the_release_and_the_number_of_members() -> None:
    def argv(release: flags.Release, members: int = 3, peer_name: str | None = "etcd-peer") -> str:
        return " ".join(
            flags.argv(service="s", image_release=release, members=members, size="1Gi", peer_name=peer_name)
        )

    assert "--experimental-initial-corrupt-check=true" in argv((3, 5, 33))
    assert "--feature-gates" not in argv((3, 5, 33))
    assert "--experimental" not in argv((3, 6, 14))
    assert "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true" in argv((3, 6, 14))
    assert "--heartbeat-interval" in argv((3, 6, 14), members=1)
    assert "--heartbeat-interval" not in argv((3, 6, 14))
    assert "allowed-cn" not in argv((3, 6, 14), peer_name=None)
    assert "skip" not in argv((3, 6, 14), peer_name=None)
