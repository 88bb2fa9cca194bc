"""Which k0s runs: the order, and that what is said is what runs."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from k0s_images import choice, images
from k0s_images.cache import BuildError
from k0s_images.choice import Unavailable, choose

NEWEST, OLDER = "v1.36.3+k0s.2", "v1.35.4+k0s.0"
BINARY = Path("/somewhere/k0s")


def _must_not(*_: object) -> Path:
    pytest.fail("this image was not to be asked for")


def _no_registry(_: str) -> Path:
    raise Unavailable("the registry is down")


def _archive(kind: str) -> Callable[[object], Path]:
    return lambda asked: Path(f"/cache/{kind}-{asked}".replace("/somewhere/", ""))


def test_a_given_binary_comes_first_and_says_its_own_version() -> None:
    chosen = choose(binary=BINARY, given=_archive("given"), version_of=lambda _: OLDER, official=_must_not,
                    stand_in=_must_not)  # fmt: skip
    assert (chosen.kind, chosen.name) == ("given", "hosted-cp.local/k0s:v1.35.4-k0s.0")
    assert chosen.archive == Path("/cache/given-k0s")
    assert "K0S_BINARY" in chosen.says
    assert str(BINARY) in chosen.says


def test_a_given_binary_does_not_play_another_version() -> None:
    chosen = choose(OLDER, binary=BINARY, given=_must_not, version_of=lambda _: NEWEST, official=_no_registry,
                    stand_in=_archive("stand-in"))  # fmt: skip
    assert chosen.kind == "stand-in"
    assert "K0S_BINARY is v1.36.3+k0s.2" in chosen.says


def test_the_official_image_comes_before_the_stand_in() -> None:
    chosen = choose(official=_archive("official"), given=_must_not, stand_in=_must_not)
    assert (chosen.kind, chosen.name) == ("official", "quay.io/k0sproject/k0s:v1.36.3-k0s.2")
    assert chosen.archive == Path(f"/cache/official-{NEWEST}")
    assert "official" in chosen.says


def test_the_stand_in_comes_last_and_says_what_it_is_and_why() -> None:
    chosen = choose(official=_no_registry, given=_must_not, stand_in=_archive("stand-in"))
    assert (chosen.kind, chosen.name) == ("stand-in", "hosted-cp.local/k0s-stand-in:v1.36.3-k0s.2")
    assert "STAND-IN" in chosen.says
    assert "the registry is down" in chosen.says
    assert "K0S_BINARY is not set" in chosen.says


def test_a_version_that_nothing_plays_is_an_error_that_names_what_is_played() -> None:
    with pytest.raises(BuildError, match=r"no k0s v1\.33\.13.*the registry is down.*plays v1\.36\.3"):
        choose("v1.33.13+k0s.1", official=_no_registry, stand_in=_must_not)


def test_a_failed_build_of_the_stand_in_is_not_hidden() -> None:
    def broken(_: str) -> Path:
        raise BuildError("no space left")

    with pytest.raises(BuildError, match="no space left"):
        choose(official=_no_registry, stand_in=broken)


def test_k0s_binary_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("K0S_BINARY", raising=False)
    assert choice.given_binary() is None
    monkeypatch.setenv("K0S_BINARY", str(tmp_path / "k0s"))
    with pytest.raises(BuildError, match="no such file"):
        choice.given_binary()
    (tmp_path / "k0s").write_text("#!/bin/sh\n")
    assert choice.given_binary() == tmp_path / "k0s"


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("#!/bin/sh\necho v1.36.3+k0s.2\n", "v1.36.3+k0s.2"),
        ("#!/bin/sh\necho 'v1.36.3+k0s.2 (stand-in)'\n", "not a released k0s"),
        ("#!/bin/sh\nexit 3\n", "exit status 3"),
        ("no program\n", "Exec format error"),
    ],
)
def test_what_a_binary_says_is_judged(script: str, result: str, tmp_path: Path) -> None:
    binary = tmp_path / "k0s"
    binary.write_text(script)
    binary.chmod(0o755)
    if result.startswith("v"):
        assert images.k0s_version(binary) == result
        assert images.k0s_name(binary) == "hosted-cp.local/k0s:v1.36.3-k0s.2"
    else:
        with pytest.raises(BuildError, match=result):
            images.k0s_version(binary)


@pytest.fixture
def registry() -> Iterator[Callable[[int], str]]:
    """Starts a server on loopback that answers /v2/ with a status; gives its address."""
    servers: list[http.server.HTTPServer] = []

    def start(status: int) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/v2/" else 500)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "reason"), [(200, ""), (401, ""), (403, "status 403"), (503, "status 503")])
def test_a_registry_is_known_by_its_answer(registry: Callable[[int], str], status: int, reason: str) -> None:
    said = choice.silence(registry(status), seconds=4, connect=HTTPConnection)
    assert said == reason if not reason else reason in said


def test_a_registry_that_takes_no_connection_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "cannot be reached" in choice.silence(f"127.0.0.1:{port}", seconds=4, connect=HTTPConnection)


def test_a_registry_that_hangs_costs_the_limit_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        begun = time.monotonic()
        said = choice.silence(f"127.0.0.1:{server.getsockname()[1]}", seconds=0.3, connect=HTTPConnection)
        assert time.monotonic() - begun < 3
    assert said


def test_the_registry_is_tried_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def silent(registry: str, *, seconds: float) -> str:
        tries.append(registry)
        return "no answer"

    monkeypatch.delenv("HOSTED_CP_OFFLINE", raising=False)
    monkeypatch.setattr(choice, "silence", silent)
    choice._pulled.cache_clear()
    for _ in range(2):
        with pytest.raises(Unavailable, match="no answer"):
            choice.official_image(NEWEST)
    choice._pulled.cache_clear()
    assert tries == ["quay.io"]


def test_no_registry_is_tried_when_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTED_CP_OFFLINE", "1")
    monkeypatch.setattr(choice, "silence", _must_not)
    choice._pulled.cache_clear()
    with pytest.raises(Unavailable, match="HOSTED_CP_OFFLINE"):
        choice.official_image(NEWEST)
    choice._pulled.cache_clear()
