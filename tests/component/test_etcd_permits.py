"""Real etcd under real permits: no acknowledged write is lost, in whatever order members come back.

The measurements behind this: with an empty volume and no answering peer, etcd starts under its old identity, and if a
lagging member joins it, writes that only the third member has are gone (`test_without_the_permit_writes_are_lost` shows
it). Everything here runs the planned pods (see `etcd_pods.py`).
"""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosted_cp.hosting.etcd import flags, permit
from hosted_cp.hosting.names import ADOPT
from k0s_images.golang import components
from tests.component import certificates
from tests.component.etcd_pods import SHELLS, World, marker, world
from tests.component.pod_play import CannotStart
from tests.hosting.etcd_world import FORMER_UID, NAMES, UID, a_tenant, claim, permit_data

BEFORE = [f"before-{i}" for i in range(10)]
ACKNOWLEDGED = [f"acknowledged-{i}" for i in range(40)]
MEMBERS = (0, 1, 2)


@pytest.fixture(scope="session")
def program() -> Path:
    return components("1.36") / "etcd"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(SHELLS[name][0]) is None:
        pytest.skip(f"{SHELLS[name][0]} is not installed")
    return name


@pytest.fixture
def one(tmp_path: Path, program: Path) -> Iterator[World]:
    with world(tmp_path / "world", program, members=1) as made:
        yield made


@pytest.fixture
def three(tmp_path: Path, program: Path) -> Iterator[World]:
    with world(tmp_path / "world", program, members=3) as made:
        yield made


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Iterator[World]:
    """Three members after a life: 10 keys are everywhere, 40 acknowledged ones only on members 0 and 1; all stopped."""
    with world(tmp_path_factory.mktemp("lived"), program, members=3) as made:
        for ordinal in MEMBERS:
            assert made.start(ordinal) == ""
        made.await_ready(*MEMBERS)
        made.grant(ready=True)
        made.write(0, BEFORE)
        deadline = time.monotonic() + 10
        while made.keys(2, serializable=True) != set(BEFORE):
            assert time.monotonic() < deadline
        made.stop(2)
        made.write(0, ACKNOWLEDGED)
        made.stop_all()
        yield made


@pytest.fixture
def again(lived: World, tmp_path: Path, program: Path) -> Iterator[World]:
    """The same volumes, certificates and permit once more, nothing running."""
    with world(tmp_path / "again", program, members=3) as made:
        made.authority, made.secrets = lived.authority, dict(lived.secrets)
        made.new_leaves()
        made.copy_volumes_from(lived)
        yield made


ORDERS = list(itertools.permutations(MEMBERS))


@pytest.mark.parametrize("lost", MEMBERS, ids=lambda i: f"lost={i}")
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("gap", [False, True], ids=["at-once", "one-by-one"])
def test_no_start_order_loses_a_write(again: World, lost: int, order: tuple[int, ...], gap: bool) -> None:
    """One volume is wiped, pods come back in any order: the wiped one stays out and says why, all writes are there."""
    again.new_volume(lost)
    again.shell = next(name for name, words in SHELLS.items() if shutil.which(words[0]))
    refusals = {}
    for ordinal in order:
        refusals[ordinal] = again.start(ordinal)
        if gap and ordinal != lost and len(again.running) == 1:
            # Alone it is alive, but must not call itself ready.
            while again.health(ordinal, "/livez") != 200:
                time.sleep(0.01)
            assert again.health(ordinal, "/readyz", timeout=0.3) in (0, 503)
    others = [ordinal for ordinal in order if ordinal != lost]
    name = f"{NAMES.etcd}-{lost}"
    assert refusals.pop(lost).startswith(
        f"EtcdMemberLostVolume: volume claim etcd-data-{name} is empty, but {name} is a member of an etcd that has"
    )
    assert refusals == dict.fromkeys(others, "")
    again.await_ready(*others)
    for ordinal in others:
        assert again.keys(ordinal) == {*BEFORE, *ACKNOWLEDGED}
    assert not list(again.volume(lost).glob("member")), "etcd was not started there"


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
def test_a_volume_emptied_under_its_pod_is_refused_by_etcd_itself(again: World, order: tuple[int, ...]) -> None:
    """A container that restarts inside its pod does not meet the init step again; the permit reaches etcd, too."""
    lost = 0
    again.new_volume(lost)
    for ordinal in order:
        again.start_etcd(ordinal)
        if ordinal == lost:
            assert again.ended(lost) == 1
            assert "couldn't find local name" in again.log(lost).read_text()
    others = [ordinal for ordinal in order if ordinal != lost]
    again.await_ready(*others)
    assert again.keys(others[0]) == {*BEFORE, *ACKNOWLEDGED}


def test_without_the_permit_writes_are_lost(again: World) -> None:
    """What all this is for: the same volumes, with the permit as it was before the bootstrap."""
    forgetful = forgotten(again)
    again.new_volume(0)
    assert again.start(0, secrets=forgetful) == ""
    while again.health(0, "/livez") != 200:
        time.sleep(0.01)
    assert again.start(2, secrets=forgetful) == ""
    again.await_ready(0, 2)
    assert again.keys(0) == set(BEFORE)
    again.write(0, ["and it takes new ones"])


def forgotten(w: World) -> dict[str, dict[str, bytes]]:
    """The Secrets as they were before the bootstrap was recorded."""
    old = permit_data(a_first_permit(w.members))
    old["cluster-token"] = w.secrets[NAMES.etcd_permit]["cluster-token"]
    return {**w.secrets, NAMES.etcd_permit: old}


@pytest.mark.parametrize("ordinal", MEMBERS)
@pytest.mark.parametrize(
    "tools", ["all", "without head", "without tr", "without grep", "with a grep that finds nothing"]
)
def test_data_is_never_taken_for_an_interrupted_start(again: World, shell: str, ordinal: int, tools: str) -> None:
    """Even with a permit of before the bootstrap, and whatever the image lacks, the init step leaves data alone."""
    again.shell = shell
    log = next(again.volume(ordinal).glob("member/wal/*.wal"))
    before = log.read_bytes()
    if tools != "all":
        folder = again.folder / "tools"
        folder.mkdir()
        missing = tools.removeprefix("without ")
        for tool in ("head", "tr", "grep", "sync", "mv", "rm"):
            if tool != missing:
                (folder / tool).symlink_to(shutil.which(tool) or "/nonexistent")
        if missing not in ("head", "tr"):
            (folder / "grep").unlink(missing_ok=True)
            if missing != "grep":
                (folder / "grep").write_text("#!/bin/sh\nexit 1\n")
                (folder / "grep").chmod(0o755)
        again.path = f"{folder}"
    again.init(ordinal, secrets=forgotten(again))
    assert log.read_bytes() == before


@pytest.mark.parametrize("lost", MEMBERS, ids=lambda i: f"lost={i}")
def test_a_kubelet_that_has_not_seen_the_bootstrap_yet_is_stopped_by_the_peers(again: World, lost: int) -> None:
    """The init step is told an old permit; etcd asks the others, who know better."""
    for ordinal in MEMBERS:
        if ordinal != lost:
            assert again.start(ordinal) == ""
    again.await_ready(*again.running)
    again.new_volume(lost)
    assert again.start(lost, secrets=forgotten(again)) == ""
    assert again.ended(lost) == 1
    assert "has already been bootstrapped" in again.log(lost).read_text()
    assert again.keys(next(iter(again.running))) == {*BEFORE, *ACKNOWLEDGED}


def test_two_lost_volumes_stop_the_tenant_and_lose_nothing_more(lived: World, again: World) -> None:
    again.new_volume(1)
    again.new_volume(2)
    assert "EtcdMemberLostVolume" in again.start(1)
    assert again.start(0) == ""
    assert "EtcdMemberLostVolume" in again.start(2)
    while again.health(0, "/livez") != 200:
        time.sleep(0.01)
    assert again.health(0) == 503

    again.volume(1).rename(again.folder / "empty")
    subprocess.run(["cp", "-a", lived.volume(1), again.volume(1)], check=True, timeout=60)
    assert again.start(1) == "", "one of the two volumes is found again"
    again.await_ready(0, 1)
    assert again.keys(0) == {*BEFORE, *ACKNOWLEDGED}


def test_one_member_with_an_empty_volume_does_not_begin_a_second_life(one: World, shell: str) -> None:
    one.shell = shell
    assert one.start(0) == ""
    one.await_ready(0)
    one.grant(ready=True)
    one.write(0, ACKNOWLEDGED)
    one.stop(0)
    kept = one.volume(0).rename(one.folder / "kept")
    one.new_volume(0)
    assert "EtcdMemberLostVolume" in one.start(0)
    one.start_etcd(0)
    assert one.ended(0) == 1

    one.new_volume(0)
    one.volume(0).rename(one.folder / "empty")
    kept.rename(one.volume(0))
    assert one.start(0) == "", "the old volume is back"
    one.await_ready(0)
    assert one.keys(0) == set(ACKNOWLEDGED)


# --- the bootstrap, interrupted --------------------------------------------------------------------------------------


def a_first_permit(members: int = 3) -> permit.PermitRecipe:
    return permit.recipe(a_tenant(replicas=members))


def test_permitted_but_never_started(one: World, shell: str) -> None:
    one.shell = shell
    assert one.init(0).returncode == 0
    assert marker(one.volume(0)).read_text() == f"{UID}\n"
    assert one.init(0).returncode == 0, "the pod is made again"
    # If the bootstrap is recorded all the same, the member was not part of it.
    one.grant(ready=True)
    assert one.init(0).stderr.startswith("EtcdMemberLostVolume: ")


@pytest.mark.parametrize("milliseconds", [1, 10, 20, 30, 40, 60, 80, 100, 150, 250])
def test_killed_while_it_forms_the_cluster(one: World, milliseconds: int) -> None:
    for _ in range(2):
        assert one.start(0) == ""
        time.sleep(milliseconds / 1000)
        one.stop(0)
    assert one.start(0) == ""
    one.await_ready(0)
    one.grant(ready=True)
    one.write(0, ["first"])
    one.stop(0)
    assert one.start(0) == ""
    one.await_ready(0)
    assert one.keys(0) == {"first"}


@pytest.mark.parametrize("milliseconds", [20, 60, 120, 250, 500])
def test_three_killed_while_they_form_the_cluster(three: World, milliseconds: int) -> None:
    for ordinal in MEMBERS:
        assert three.start(ordinal) == ""
    time.sleep(milliseconds / 1000)
    three.stop_all()
    for ordinal in reversed(MEMBERS):
        assert three.start(ordinal) == ""
    three.await_ready(*MEMBERS)
    three.grant(ready=True)
    three.write(1, ["first"])
    assert three.keys(2) == {"first"}


def test_a_data_directory_without_a_log_counts_as_empty(one: World, shell: str) -> None:
    """etcd makes `member/snap/db` before the log; killed in between, it would begin anew."""
    one.shell = shell
    one.grant(ready=True)
    one.start_etcd(0)
    assert one.ended(0) == 1
    assert (one.volume(0) / "member/snap/db").exists()
    marker(one.volume(0)).write_text(f"{UID}\n")
    assert "EtcdMemberLostVolume" in one.start(0)

    one.secrets[NAMES.etcd_permit] = permit_data(a_first_permit(1))
    assert one.start(0) == "", "nothing was served yet"
    one.await_ready(0)


def test_a_log_without_entries_is_begun_anew(one: World, shell: str) -> None:
    """etcd killed between making its log and writing to it would wait for a leader for ever."""
    one.shell = shell
    assert one.init(0).returncode == 0
    one.start_etcd(0)
    one.await_ready(0)
    one.stop(0)
    [log] = one.volume(0).glob("member/wal/*.wal")
    head = log.read_bytes()[:4096]
    # The records before the first entry: checksum and metadata.
    with log.open("r+b") as file:
        file.truncate(head.index(b"https://") // 8 * 8 - 40)
        file.truncate(64 * 1024 * 1024)
    again = one.init(0)
    assert again.returncode == 0
    assert "is removed" in again.stderr
    assert not (one.volume(0) / "member").exists()
    one.start_etcd(0)
    one.await_ready(0)

    # After the bootstrap the same log is nobody's to remove.
    one.stop(0)
    one.grant(ready=True)
    with log.open("r+b") as file:
        file.truncate(0)
    assert one.init(0).returncode == 0
    assert log.exists()


def test_a_volume_lost_before_the_bootstrap_was_recorded(three: World) -> None:
    """Two are up, the third lost its volume before anything was written: etcd refuses, nobody calls it formed."""
    for ordinal in MEMBERS:
        assert three.start(ordinal) == ""
    three.await_ready(*MEMBERS)
    three.stop(2)
    three.new_volume(2)
    assert three.start(2) == "", "nothing of the tenant was written yet, so the permit still stands"
    assert three.ended(2) == 1
    assert "has already been bootstrapped" in three.log(2).read_text()


def test_an_interrupted_marker_is_written_again(one: World, shell: str) -> None:
    one.shell = shell
    (one.volume(0) / ".hosted-cp-tenant.new").write_text("6b1f0d5e-00")
    assert one.init(0).returncode == 0
    assert marker(one.volume(0)).read_text() == f"{UID}\n"
    assert sorted(path.name for path in one.volume(0).iterdir()) == [".hosted-cp-tenant", "lost+found"]


def test_without_a_permit_nothing_starts(one: World) -> None:
    del one.secrets[NAMES.etcd_permit]
    with pytest.raises(CannotStart, match="kmc-demo-etcd-permit"):
        one.start(0)


@pytest.mark.parametrize("value", [b"", b"True", b"no", b"false "])
def test_only_a_clear_no_lets_an_empty_volume_begin(one: World, shell: str, value: bytes) -> None:
    one.shell = shell
    one.secrets[NAMES.etcd_permit]["bootstrapped"] = value
    assert one.init(0).stderr.startswith("EtcdMemberLostVolume: ")


@pytest.mark.parametrize("value", [b"", b"learner", b"newer", b"* ?", b" new"])
def test_an_unknown_grant_lets_nobody_start(one: World, shell: str, value: bytes) -> None:
    one.shell = shell
    one.secrets[NAMES.etcd_permit]["member-0"] = value
    assert one.init(0).stderr.startswith("EtcdNoPermit: ")


# --- volumes of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bootstrapped", [False, True])
def test_a_volume_of_a_former_life_is_refused_until_it_is_adopted(one: World, shell: str, bootstrapped: bool) -> None:
    one.shell = shell
    assert one.start(0) == ""
    one.await_ready(0)
    one.write(0, ["of the former life"])
    one.stop(0)
    marker(one.volume(0)).write_text(f"{FORMER_UID}\n")
    if bootstrapped:
        one.grant(ready=True)
    refusal = one.start(0)
    assert refusal.startswith("EtcdFormerLife: volume claim etcd-data-kmc-demo-etcd-0 holds the data of another tenant")
    assert FORMER_UID in refusal

    adopted = a_tenant(claims=[claim(0, tenant_uid=FORMER_UID, annotations={ADOPT: UID})])
    one.secrets[NAMES.etcd_permit] = permit_data(permit.wanted(adopted).recipe)
    assert one.start(0) == ""
    one.await_ready(0)
    assert one.keys(0) == {"of the former life"}
    assert marker(one.volume(0)).read_text() == f"{UID}\n{FORMER_UID}\n"


@pytest.mark.parametrize("first", [FORMER_UID, None])
def test_a_volume_can_be_adopted_again_and_again(one: World, shell: str, first: str | None) -> None:
    """Its claim keeps the label of the first tenant (or none), and names nobody between."""
    one.shell = shell
    assert one.start(0) == ""
    one.await_ready(0)
    one.write(0, ["of the first life"])
    one.stop(0)
    if first is None:
        marker(one.volume(0)).unlink()
    else:
        marker(one.volume(0)).write_text(f"{first}\n")
    adopted = a_tenant(claims=[claim(0, tenant_uid=first, annotations={ADOPT: UID})])
    for life in (2, 3):
        one.grant(ready=True)
        assert one.start(0).startswith("EtcdFormerLife: "), "not without being adopted"
        one.secrets[NAMES.etcd_permit] = permit_data(permit.wanted(adopted).recipe)
        assert one.start(0) == ""
        one.await_ready(0)
        assert one.keys(0) == {"of the first life"}
        one.stop(0)
        # What was written in this life is another one's in the next.
        marker(one.volume(0)).write_text(marker(one.volume(0)).read_text().replace(UID, f"life-{life}"))


def test_data_that_nobody_marked_is_refused(one: World, shell: str) -> None:
    one.shell = shell
    assert one.start(0) == ""
    one.await_ready(0)
    one.stop(0)
    marker(one.volume(0)).unlink()
    assert one.start(0).startswith(
        "EtcdFormerLife: volume claim etcd-data-kmc-demo-etcd-0 holds etcd data that no tenant"
    )


def test_a_refusal_is_one_line_that_fits_a_termination_message(one: World, shell: str) -> None:
    one.shell = shell
    one.grant(ready=True)
    said = one.init(0)
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr.count("\n") == 1
    assert len(said.stderr) < 2048


# --- certificates, probes, exposure, speed ------------------------------------------------------------------------


def test_a_renewed_leaf_is_served_without_a_restart(one: World) -> None:
    assert one.start(0) == ""
    one.await_ready(0)

    def served() -> bytes:
        with one.dial(0, one.client()) as connection:
            certificate = connection.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate

    first, process = served(), one.running[0].pid
    one.write(0, ["before"])
    one.new_leaves()
    assert served() != first
    one.write(0, ["after"])
    assert one.running[0].pid == process
    assert one.running[0].poll() is None


def test_members_take_each_other_s_renewed_leaves(three: World) -> None:
    for ordinal in MEMBERS:
        assert three.start(ordinal) == ""
    three.await_ready(*MEMBERS)
    three.new_leaves()
    three.stop(2, signal.SIGTERM)
    assert three.start(2) == "", "it dials its peers with the new leaf"
    three.await_ready(2)
    three.write(2, ["through all"])
    assert three.keys(0) == {"through all"}


def test_alive_without_a_quorum_is_not_ready(three: World) -> None:
    assert three.start(0) == ""
    while three.health(0, "/livez") == 0:
        time.sleep(0.01)
    assert three.health(0, "/livez") == 200, "the kubelet must not restart it"
    assert three.health(0, "/readyz") == 503
    assert three.health(0, "/livez") == 200


def test_what_is_open_without_a_certificate(one: World) -> None:
    assert one.start(0) == ""
    one.await_ready(0)
    assert one.health(0, "/metrics") == 200
    for path in (
        "/v3/kv/range",
        "/version",
        "/debug/pprof/",
        "/debug/vars",
        "/members",
        "/v2/keys",
        "/config/local/log",
    ):
        assert one.health(0, path) == 404, path
    stranger = certificates.leaf(certificates.authority("another-ca"), "apiserver-etcd-client")
    for pair in (None, stranger):
        assert not speaks(one, 2379, pair)
        assert not speaks(one, 2380, pair)
    assert speaks(one, 2379, one.client())
    # A certificate that is good for the API server is none for a peer.
    assert not speaks(one, 2380, one.client())
    peer = certificates.leaf(one.authority, flags.PEER_COMMON_NAME)
    assert speaks(one, 2380, peer)
    for port in (2379, 2380):
        with socket.create_connection((one.address(0), port), timeout=5) as plain:
            plain.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            assert b"etcdserver" not in plain.recv(4096)


def speaks(w: World, port: int, pair: certificates.Pair | None) -> bool:
    """Whether a member answers `/version` on this port to a client with this certificate."""
    try:
        with w.dial(0, pair, port=port) as connection:
            connection.sendall(b"GET /version HTTP/1.0\r\nHost: x\r\n\r\n")
            return b"etcdserver" in connection.recv(4096)
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return False


def test_the_running_etcd_has_our_settings(one: World) -> None:
    assert one.start(0) == ""
    one.await_ready(0)
    log = one.log(0).read_text()
    assert '"quota-backend-bytes":268435456' in log
    assert '"compact-check-time-enabled":true' in log or "CompactHashCheck=true" in log


def test_it_ends_by_itself_when_told_to(one: World) -> None:
    assert one.start(0) == ""
    one.await_ready(0)
    begun = time.monotonic()
    one.stop(0, signal.SIGTERM)
    assert time.monotonic() - begun < 5


def test_one_member_is_ready_soon(tmp_path: Path, program: Path) -> None:
    """From the start of the process to the first `/readyz` 200. etcd's own timeouts alone would take 0.1-1 s of it."""
    taken = []
    for attempt in range(5):
        with world(tmp_path / str(attempt), program, members=1) as made:
            assert made.init(0).returncode == 0
            made.start_etcd(0)
            taken.append(made.await_ready(0))
    print(f"one member is ready after {min(taken):.2f}-{max(taken):.2f} s, median {statistics.median(taken):.2f} s")
    assert statistics.median(taken) < 2.0
