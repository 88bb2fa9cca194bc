"""The HTTPS server: what it answers, what it refuses, and what it never says."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from cryptography import x509

from hosted_cp.api.kinds import VERSIONED
from hosted_cp.webhooks import admission, certificates, conversion_review, server
from hosted_cp.webhooks.certificates import CertificateError
from tests.component.certificates import authority
from tests.webhooks.serving import AUTHORITY, pair, webhook, write
from tests.webhooks.test_admission import GOOD, obj

CANARY = "canary-7c1d"


async def test_conversion_and_admission_of_every_kind() -> None:
    async with webhook() as there:
        for versions in VERSIONED:
            kind, group = versions.hub.__name__, versions.hub.group
            stored = obj(kind, GOOD[kind])
            old = await there.convert([stored], f"{group}/v1beta1")
            assert old["result"] == {"status": "Success"}
            [shown] = old["convertedObjects"]
            assert shown["apiVersion"] == f"{group}/v1beta1"
            [back] = (await there.convert([shown], f"{group}/v1beta2"))["convertedObjects"]
            assert back["spec"].items() >= GOOD[kind].items()
            request = {
                "uid": "a",
                "operation": "CREATE",
                "kind": {"group": group, "version": "v1beta2", "kind": kind},
                "object": stored,
            }
            code, answer = await there.post(server.validate_path(group, kind), {"request": request})
            assert code == 200
            assert orjson.loads(answer)["response"] == {"uid": "a", "allowed": True}
        text = there.metrics.text().decode()
        assert 'hosted_cp_webhook_answers_total{code="200",what="convert"} 12.0' in text
        assert 'hosted_cp_webhook_answers_total{code="200",what="validate"} 6.0' in text


async def test_what_cannot_be_asked_is_refused_in_words() -> None:
    async with webhook() as there:
        assert await there.post(server.CONVERT, b"{", kind="application/json") == (400, b"the body is no JSON")
        assert await there.post(server.CONVERT, {}, kind="text/plain") == (415, b"the body must be application/json")
        code, answer = await there.post(server.CONVERT, {})
        assert code == 200
        assert "no ConversionReview" in orjson.loads(answer)["response"]["result"]["message"]
        for path in ("/", "/validate-other", "/convert/more"):
            assert (await there.post(path, {}))[0] == 404
        assert (await there.get(server.CONVERT))[0] == 405


async def test_too_much_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LARGEST", 1000)
    async with webhook() as there:
        code, said = await there.post(server.CONVERT, b'"' + b"x" * 1_000_000 + b'"')
        assert code == 413
        assert b"the question is larger than" in said
        assert (await there.get("/readyz"))[0] == 200


async def test_who_asks_too_slowly_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ARRIVAL", 0.05)
    monkeypatch.setattr(server, "AT_ONCE", 1)

    async def drip() -> Any:
        yield b"{"
        await asyncio.sleep(30)
        yield b"}"

    async with webhook() as there:
        headers = {"Content-Type": "application/json"}
        async with there.session.post(there.url + server.CONVERT, data=drip(), headers=headers) as answer:
            assert answer.status == 408
        # And its place is free again.
        assert (await there.post(server.CONVERT, {}))[0] == 200


async def test_what_is_nested_as_deeply_as_can_be_stored_is_converted() -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    async with webhook() as there:
        stored = obj("Cluster", {"k0sConfig": {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": {"x": deep}}})
        response = await there.convert([stored], "k0smotron.io/v1beta1")
        assert response["result"] == {"status": "Success"}, response["result"]
        assert response["convertedObjects"][0]["spec"]["k0sConfig"]["spec"]["x"] == deep


async def test_what_is_nested_too_deeply_to_be_read_is_said_to_be_so() -> None:
    async with webhook() as there:
        for path in (server.CONVERT, "/validate-k0smotron-io-v1beta2-cluster"):
            code, said = await there.post(path, b'{"request":' + b"[" * 50_000 + b"]" * 50_000 + b"}")
            assert code == 400
            assert b"nested too deeply to be read" in said
            assert b"flatten it" in said
        assert (await there.get("/healthz"))[0] == 200


async def test_a_large_question_holds_up_no_small_one() -> None:
    many = [obj("Cluster", GOOD["Cluster"], metadata={"name": f"c{number}"}) for number in range(2000)]
    async with webhook() as there:
        large = asyncio.create_task(there.convert(many, "k0smotron.io/v1beta1"))
        small = 0
        while not large.done():
            assert (await there.convert(many[:1], "k0smotron.io/v1beta1"))["result"] == {"status": "Success"}
            small += 1
        assert small > 2
        answer = await large
        assert [each["metadata"]["name"] for each in answer["convertedObjects"]] == [f"c{n}" for n in range(2000)]


@pytest.mark.parametrize("path", [server.CONVERT, "/validate-k0smotron-io-v1beta2-cluster"])
async def test_a_fault_of_ours_is_an_answer_and_a_line_in_the_log_without_what_was_asked(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(question: Any, *_: Any) -> Any:
        raise KeyError(question["request"]["uid"])

    monkeypatch.setattr(conversion_review, "review", broken)
    monkeypatch.setattr(admission, "review", broken)
    with caplog.at_level(logging.DEBUG):
        async with webhook() as there:
            code, said = await there.post(path, {"request": {"uid": CANARY}})
            assert code == 500
            assert b"hosted-cp webhook: a fault of its own" in said
            assert b"KeyError" in said
            assert CANARY not in said.decode()
            assert (await there.get("/healthz"))[0] == 200
    assert "KeyError in broken (test_server.py:" in caplog.text
    assert CANARY not in caplog.text


async def test_nothing_that_is_asked_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with webhook() as there:
            stored = obj("Cluster", {"storage": {"type": "kine", "kine": {"dataSourceURL": f"mysql://{CANARY}"}}})
            await there.convert([stored], "k0smotron.io/v1beta1")
            await there.convert([stored], f"{CANARY}/v1")
            await there.post(server.CONVERT, f'{{"{CANARY}'.encode())
    assert CANARY not in caplog.text


async def test_ready_when_it_listens_until_it_ends_and_then_connections_are_sent_away() -> None:
    async with webhook() as there:
        assert await there.get("/readyz") == (200, "ok\n")
        there.state.not_ready, there.state.ending = "ending", True
        assert await there.get("/readyz") == (503, "ending\n")
        async with there.session.get(there.url + "/healthz") as answer:
            assert answer.headers["Connection"] == "close"
        assert (await there.convert([], "k0smotron.io/v1beta1"))["result"] == {"status": "Success"}


def _served(port: int) -> int:
    """The serial number of the certificate that a new connection gets."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode()).serial_number


async def test_a_new_certificate_serves_new_connections_and_ends_none() -> None:
    async with webhook() as there:
        port = int(there.url.rpartition(":")[2])
        await there.get("/healthz")
        before = await asyncio.to_thread(_served, port)
        renewed = pair()
        there.tls.use(renewed.certificate, renewed.key)
        assert await asyncio.to_thread(_served, port) != before
        assert (await there.get("/healthz"))[0] == 200
        # What does not serve changes nothing.
        for bad in (
            (pair().certificate, pair().key),
            (b"nothing", renewed.key),
            (pair().certificate, b"nothing"),
        ):
            with pytest.raises(CertificateError):
                there.tls.use(*bad)
        assert await asyncio.to_thread(_served, port) not in (before, 0)
        stranger = ssl.create_default_context(cadata=authority("other").certificate.decode())
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await there.session.get(there.url, ssl=stranger)


async def test_files_are_taken_into_use_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificates, "_LOOK", 0.01)
    async with webhook() as there:
        port = int(there.url.rpartition(":")[2])
        files = write(tmp_path, pair())
        following = asyncio.create_task(certificates.follow_files(*files, there.tls))
        try:
            numbers = set()
            async with asyncio.timeout(20):
                for made in (pair(), pair()):
                    files[1].unlink()  # both change, one after the other
                    write(tmp_path, made)
                    wanted = x509.load_pem_x509_certificate(made.certificate).serial_number
                    while await asyncio.to_thread(_served, port) != wanted:
                        pass
                    numbers.add(wanted)
            assert len(numbers) == 2
        finally:
            following.cancel()
    with pytest.raises(CertificateError, match="No such file"):
        await certificates.follow_files(tmp_path / "none", tmp_path / "none", there.tls)
    assert AUTHORITY.key.decode() not in caplog.text
