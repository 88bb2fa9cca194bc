"""The images as built: what is in them, who may read it, and that their programs start and stop as in a pod."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from k0s_images import buildah, images
from tests.k0s_images.unpacked import Image, output, read_until, running, stop, unpack

pytestmark = pytest.mark.e2e

STAND_IN = images.stand_in_name("v1.36.3+k0s.2")
#: The operator's name changes with its code, so it is asked for when it is needed.
OPERATOR = "operator"
USERS = {
    STAND_IN: "0", images.PAUSE: "65535:65535", images.TOOLBOX: "65534:65534", images.etcd_name(): "1001:1001",
    images.konnectivity_agent_name(): "65532:65532", images.POSTGRES: "999:999", images.MARIADB: "999:999",
    OPERATOR: "65532:65532",
}  # fmt: skip
Opened = Callable[[str], Image]


def _name(name: str) -> str:
    return images.operator_name() if name == OPERATOR else name


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Builds and unpacks an image once."""

    @cache
    def open_image(name: str) -> Image:
        (archive,) = images.archives(only=[_name(name)]).values()
        return unpack(archive, tmp_path_factory.mktemp("image"))

    return open_image


@pytest.mark.parametrize(("name", "user"), USERS.items())
def test_an_image_has_its_name_and_a_numeric_user(opened: Opened, name: str, user: str) -> None:
    image = opened(name)
    assert image.tags == (_name(name),)
    assert image.user == user
    assert image.command


@pytest.mark.parametrize("name", USERS)
def test_its_user_can_read_all_that_it_needs(opened: Opened, name: str) -> None:
    """Root in a pod without DAC_OVERRIDE reads only what is its own; other users read what all may read."""
    image = opened(name)
    uid = int(image.user.split(":")[0])
    private = ("etc/shadow", "etc/gshadow", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock", "etc/security", "root",
               "var/lib/dpkg", "var/cache", "var/lib/private", "var/spool", "var/lib/apt", "etc/ssl/private",
               "etc/passwd-", "etc/group-", "etc/subuid-", "etc/subgid-")  # fmt: skip
    unreadable = [
        path
        for path, member in image.files.items()
        if not member.issym() and member.uid != uid and not member.mode & 0o004 and not path.startswith(private)
    ]
    assert not unreadable


@pytest.mark.parametrize("name", USERS)
def test_nothing_of_the_building_machine_is_inside(opened: Opened, name: str) -> None:
    image = opened(name)
    for path, member in image.files.items():
        file = image.root / path
        if path.startswith("etc/") and file.name in ("resolv.conf", "hostname", "pip.conf", "machine-id"):
            assert member.size == 0, f"{path} is not empty"
        assert "pip-ca" not in path
        if member.isreg() and 0 < member.size < 65536:
            assert b"PRIVATE KEY-----\n" not in file.read_bytes(), path
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    history = json.dumps(image.config)
    for key in ("index-url", "extra-index-url", "proxy"):
        assert buildah.pip_settings(listed.stdout).get(key, "\0") not in history


def test_the_k0s_image_has_the_users_and_programs_that_k0s_expects(opened: Opened) -> None:
    image = opened(STAND_IN)
    users = {line.split(":")[0]: int(line.split(":")[2]) for line in image.text("etc/passwd").splitlines()}
    wanted = {"etcd", "kube-apiserver", "kube-scheduler", "konnectivity-server"}
    assert wanted <= set(users)
    assert len({users[name] for name in wanted} | {0}) == 5
    assert "127.0.0.1\tlocalhost" in image.text("etc/hosts")
    for program in (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "konnectivity-server",
        "etcd",
        "kine",
    ):
        assert "/" not in str(image.files[f"usr/local/bin/{program}"].linkname)
    assert output(image, ["/usr/local/bin/kube-apiserver", "--version"]).strip() == "Kubernetes v1.36.3"
    assert output(image, ["/usr/local/bin/kine", "--version"])
    assert image.text("usr/lib/k0s-stand-in/k0s_images/standin/VERSION") == "v1.36.3+k0s.2\n"
    script = "import yaml, cryptography.x509, k0s_images.standin.certificates as c; print(c.__cached__)"
    module = output(
        image, ["/usr/bin/python3", "-P", "-c", script], environment={"PYTHONPATH": "/usr/lib/k0s-stand-in"}
    )
    assert (image.root / module.strip().lstrip("/")).is_file(), "not compiled, and a read-only root cannot keep it"


def test_no_shell_stands_between_the_init_and_k0s(opened: Opened) -> None:
    image = opened(STAND_IN)
    assert image.command == ["/sbin/tini", "--", "/entrypoint.sh", "k0s", "controller", "--enable-worker"]
    # A shell would keep signals from k0s and drop variables whose names it cannot have itself.
    assert image.text("usr/local/bin/k0s").startswith("#!/usr/bin/python3 -P\n")
    assert image.text("entrypoint.sh").rstrip().endswith('\nexec "$@"')


def test_the_init_of_the_k0s_image_forwards_signals_and_reaps(opened: Opened) -> None:
    image = opened(STAND_IN)
    # The subshell leaves an orphan that ends soon after; as a zombie it would still be there a second later.
    orphan = "(sleep 0.2 & exec sleep 0) & wait; sleep 1"
    zombies = "grep -l '^State:.Z' /proc/[0-9]*/status"
    with running(
        image, [*image.command[:3], "/bin/sh", "-c", f"{orphan}; {zombies}; echo ready; exec sleep 60"]
    ) as process:
        assert read_until(process, "ready") == "ready\n"
        assert stop(process) < 2
        assert process.returncode == 128 + signal.SIGTERM


def test_pause_ends_when_told_to(opened: Opened) -> None:
    image = opened(images.PAUSE)
    with running(image, image.command) as process:
        _wait_for_program(process, "pause")
        assert stop(process) < 2
        assert process.returncode == 0


def test_the_toolbox_serves_and_ends_when_told_to(opened: Opened) -> None:
    image = opened(images.TOOLBOX)
    serve = "echo hello > /tmp/index.html; httpd -p 127.0.0.1:8080 -h /tmp; wget -qO- http://127.0.0.1:8080/"
    said = output(image, ["/bin/sh", "-c", f"{serve}; nc 2>&1 | head -1"])
    assert said.startswith("hello\n")
    assert "BusyBox" in said
    with running(image, image.command) as process:
        _wait_for_program(process, "sh")
        assert stop(process) < 2
        assert process.returncode == 0


def _wait_for_program(process: subprocess.Popen[str], name: str) -> None:
    """Until the container's PID 1 has become its program and has set up its signals (it sleeps then)."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for child in children.read_text().split():
            state = Path(f"/proc/{child}/status").read_text()
            masks = [line.split()[1] for line in state.splitlines() if line.startswith("SigCgt")]
            if f"Name:\t{name}\n" in state and int(masks[0], 16) & 1 << (signal.SIGTERM - 1):
                return
        time.sleep(0.02)
    raise AssertionError(f"{name} did not start")


def test_etcd_runs_as_any_user_beside_a_shell(opened: Opened, tmp_path: Path) -> None:
    image = opened(images.etcd_name())
    assert output(image, ["/bin/sh", "-ec", "id -u; test -w /tmp; [ -x /usr/local/bin/etcd ]; echo ok"]) == "1001\nok\n"
    assert "etcd Version: 3.6.14" in output(image, [*image.command, "--version"])
    with running(image, [*image.command, "--data-dir=/tmp/data", "--log-format=console"]) as process:
        read_until(process, "ready to serve client requests")
        assert stop(process) < 5


def test_the_konnectivity_agent_knows_the_arguments_that_k0s_gives(opened: Opened) -> None:
    image = opened(images.konnectivity_agent_name())
    said = output(image, [*image.command, "--logtostderr=true", "--agent-identifiers=host=192.0.2.1", "--help"])
    for flag in ("--proxy-server-host", "--service-account-token-path", "--agent-id", "--ca-cert"):
        assert flag in said


def test_postgres_makes_its_database_once_and_wants_the_password(opened: Opened, tmp_path: Path) -> None:
    image = opened(images.POSTGRES)
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["chown", "999:999", data], check=True)
    volumes = {data: "/var/lib/postgresql/data"}

    with running(image, image.command, volumes=volumes) as process:
        read_until(process, "set POSTGRES_PASSWORD")
        assert process.wait(timeout=10) == 1

    query = "psql -h 127.0.0.1 -U tenant -d tenant -tAc"
    script = f"""/entrypoint.sh postgres & until pg_isready -q -h 127.0.0.1; do sleep 0.1; done
        PGPASSWORD=wrong {query} 'select 1' && echo let in
        export PGPASSWORD=canary; {query} 'create table if not exists t(x int)'; {query} 'insert into t values (1)'
        echo rows: $({query} 'select count(*) from t'); kill -INT $!; wait"""
    environment = {"POSTGRES_PASSWORD": "canary", "POSTGRES_USER": "tenant"}
    first = output(image, ["/bin/sh", "-c", script], environment=environment, volumes=volumes)
    assert "rows: 1\n" in first
    assert "let in" not in first
    assert "canary" not in first
    second = output(image, ["/bin/sh", "-c", script], volumes=volumes)
    assert "rows: 2\n" in second

    with running(image, image.command, volumes=volumes) as process:
        read_until(process, "ready to accept connections")
        assert stop(process, by=signal.SIGINT) < 5
        assert process.returncode == 0


def test_mariadb_makes_its_database_once_and_wants_all_it_needs(opened: Opened, tmp_path: Path) -> None:
    image = opened(images.MARIADB)
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["chown", "999:999", data], check=True)
    volumes = {data: "/var/lib/mysql/data"}

    with running(image, image.command, volumes=volumes) as process:
        read_until(process, "set MARIADB_USER")
        assert process.wait(timeout=10) == 1

    password = r"""canary's \ "`%s"""
    client = "mariadb --no-defaults -h 127.0.0.1 -u tenant -N"
    script = f"""/entrypoint.sh mariadbd & export MYSQL_PWD=$GIVEN
        until {client} kine -e 'select 1' >/dev/null 2>&1; do sleep 0.1; done
        MYSQL_PWD=wrong {client} kine -e 'select 1' && echo let in
        {client} kine -e 'create table if not exists t(x int); insert into t values (1)'
        echo rows: $({client} kine -e 'select count(*) from t'); kill $!; wait"""
    made = {"MARIADB_USER": "tenant", "MARIADB_PASSWORD": password, "MARIADB_DATABASE": "kine"}
    first = output(image, ["/bin/sh", "-c", script], environment={**made, "GIVEN": password}, volumes=volumes)
    assert "rows: 1\n" in first
    assert "let in" not in first
    assert "canary" not in first
    second = output(image, ["/bin/sh", "-c", script], environment={"GIVEN": password}, volumes=volumes)
    assert "rows: 2\n" in second


def test_the_operator_image_holds_the_package_its_catalogue_and_no_pip(opened: Opened) -> None:
    image = opened(OPERATOR)
    script = "import importlib.resources as r, kopf; print((r.files('hosted_cp') / 'catalogue.json').read_text())"
    said = output(image, ["/opt/hosted-cp/bin/python", "-c", script])
    assert json.loads(said)["k0s"]["default"] == "v1.36.3+k0s.2"
    assert not [path for path in image.files if "/site-packages/pip/" in path]
    assert image.command == ["/opt/hosted-cp/bin/hosted-cp", "run"]


def test_a_second_asking_for_all_images_takes_no_time() -> None:
    names = [_name(name) for name in USERS]
    images.archives(only=names)
    begun = time.monotonic()
    images.archives(only=names)
    assert time.monotonic() - begun < 1
