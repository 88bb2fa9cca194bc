"""How images are named, what their cache depends on, and how pip's configuration reaches a build; nothing is built."""

from __future__ import annotations

import configparser
import os
import stat
import time
from pathlib import Path

import pytest

from k0s_images import buildah, cache, catalogue, golang, images
from k0s_images.cache import BuildError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTED_CP_CACHE", str(tmp_path / "cache"))


def test_the_names_that_others_rely_on() -> None:
    names = list(images.builders())
    assert {
        "hosted-cp.local/k0s-stand-in:v1.36.3-k0s.2", "hosted-cp.local/k0s-stand-in:v1.35.4-k0s.0",
        "hosted-cp.local/etcd:v3.6.14", "hosted-cp.local/pause:1", "hosted-cp.local/toolbox:1",
        "hosted-cp.local/konnectivity-agent:v0.36.0", "hosted-cp.local/mariadb:10.11", "hosted-cp.local/postgres:15",
    } == {name for name in names if "/hosted-cp:" not in name}  # fmt: skip
    assert [name for name in names if "/hosted-cp:" in name] == [images.operator_name()]


def test_no_image_is_called_latest_or_lacks_a_tag() -> None:
    for name in images.builders():
        tag = name.rpartition("/")[2].partition(":")[2]
        assert tag
        assert tag != "latest"


def test_the_etcd_image_is_the_one_that_the_catalogue_names() -> None:
    loaded = catalogue.load()
    assert images.etcd_name().endswith(f":{loaded.etcd.default}")
    newest = loaded.release(loaded.default)
    assert images.konnectivity_agent_name().endswith(f":{newest.components['konnectivity']}")


@pytest.mark.parametrize(("version", "minor"), images.STAND_INS.items())
def test_the_stand_in_plays_listed_releases_with_the_components_they_pin(version: str, minor: str) -> None:
    assert catalogue.minor_of(version) == minor
    assert catalogue.load().release(version).components["kubernetes"] == golang.COMPONENTS[minor].kubernetes


def test_the_stand_in_plays_no_other_version() -> None:
    with pytest.raises(BuildError, match=r"plays v1\.36\.3"):
        images.stand_in("v1.34.10+k0s.0")


def test_an_unknown_name_is_refused_before_anything_is_built() -> None:
    with pytest.raises(BuildError, match=r"no image is called hosted-cp\.local/nothing:1"):
        images.archives(only=["hosted-cp.local/nothing:1"])
    assert not cache.root().exists()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Stands in for buildah: notes the files of each context and writes an archive."""
    contexts: list[dict[str, str]] = []

    def build(context: Path, *, out: Path, **_: object) -> None:
        contexts.append({str(f.relative_to(context)): f.read_text() for f in context.rglob("*") if f.is_file()})
        out.write_bytes(b"archive")

    monkeypatch.setattr(buildah, "build", build)
    return contexts


def _recipe(folder: Path, /, **context: Path | str) -> images.Recipe:
    containerfile = folder / "Containerfile"
    if not containerfile.exists():
        containerfile.write_text("FROM scratch\n")
    return images.Recipe(image="hosted-cp.local/x:1", containerfile=containerfile, context=context, base=False)


def test_an_image_is_built_again_when_any_of_its_inputs_changes_and_only_then(
    tmp_path: Path, built: list[dict[str, str]]
) -> None:
    program, folder = tmp_path / "program", tmp_path / "folder"
    folder.mkdir()
    program.write_text("one")
    (folder / "inner").write_text("one")

    def archive() -> Path:
        return images.build(_recipe(tmp_path, program=program, folder=folder, text="one"))

    first = archive()
    assert first.read_bytes() == b"archive"
    assert built == [{"Containerfile": "FROM scratch\n", "program": "one", "folder/inner": "one", "text": "one"}]
    assert archive() == first

    seen = {first}
    for change in (
        lambda: program.write_text("two"),
        lambda: program.chmod(0o755),
        lambda: (folder / "inner").write_text("two"),
        lambda: (folder / "more").write_text(""),
        lambda: (tmp_path / "Containerfile").write_text("FROM scratch\nUSER 1\n"),
    ):
        change()
        seen.add(archive())
        assert len(seen) == len(built), "a change went unseen"
    (folder / ".mypy_cache").mkdir()
    (folder / ".mypy_cache" / "of a tool").write_text("")
    assert archive() in seen
    assert not [name for name in built[-1] if "of a tool" in name]
    assert len(seen) == 6
    seen.add(images.build(_recipe(tmp_path, program=program, folder=folder, text="two")))
    assert len(seen) == len(built) == 7


def test_what_the_cache_itself_built_counts_by_its_name_and_is_not_read(
    tmp_path: Path, built: list[dict[str, str]]
) -> None:
    def compiled(out: Path) -> None:
        (out / "program").write_text("compiled")

    entry = cache.cached("go-x", "inputs", build=compiled)
    first = images.build(_recipe(tmp_path, program=entry / "program"))
    (entry / "program").write_text("the same entry always holds the same")
    assert images.build(_recipe(tmp_path, program=entry / "program")) == first
    other = cache.cached("go-x", "other inputs", build=compiled)
    assert images.build(_recipe(tmp_path, program=other / "program")) != first
    assert len(built) == 2


def test_laying_out_a_context_leaves_the_sources_alone(tmp_path: Path, built: list[dict[str, str]]) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "VERSION").write_text("of the source")
    context: dict[str, Path | str] = {"package": folder, "package/VERSION": "of the image"}
    images.build(_recipe(tmp_path, **context))
    assert built[0]["package/VERSION"] == "of the image"
    assert (folder / "VERSION").read_text() == "of the source"


def test_pip_settings_are_those_that_tell_where_packages_come_from() -> None:
    listed = "\n".join([
        ":env:.cert='/etc/ca.crt'", ":env:.default-timeout='180'", ":env:.find-links='/opt/wheels'",
        ":env:.index-url='https://user:word@mirror.test/simple'", "global.index-url='https://elsewhere.test/simple'",
        "global.extra-index-url='\\nhttps://a.test\\nhttps://b.test'", "list.format='json'",
        "global.break-system-packages='1'",
    ])  # fmt: skip
    assert buildah.pip_settings(listed) == {
        "cert": "/etc/ca.crt", "timeout": "180", "index-url": "https://user:word@mirror.test/simple",
        "extra-index-url": "\nhttps://a.test\nhttps://b.test",
    }  # fmt: skip


def test_pip_secrets_are_readable_by_us_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorities = tmp_path / "ca.crt"
    authorities.write_text("certificates")
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("PIP_CERT", str(authorities))
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:word@mirror.test/simple")
    secrets = buildah.pip_secrets(tmp_path / "secrets")
    assert stat.S_IMODE(secrets["pip-conf"].stat().st_mode) == 0o600
    config = configparser.RawConfigParser()
    config.read(secrets["pip-conf"])
    assert config["global"]["index-url"] == "https://user:word@mirror.test/simple"
    assert config["global"]["cert"] == "/run/secrets/pip-ca.crt"
    assert secrets["pip-ca"].read_text() == "certificates"


def test_old_images_are_forgotten_soon_and_what_is_in_use_is_not(tmp_path: Path, built: list[dict[str, str]]) -> None:
    def archive(text: str) -> Path:
        return images.build(_recipe(tmp_path, text=text))

    old, used = archive("old"), archive("used")
    killed = cache.root() / ".image-x-1-killed"
    killed.mkdir()
    for folder, hours in ((old.parent, 2), (used.parent, 2), (killed, 30)):
        os.utime(folder, times=(time.time() - hours * 3600,) * 2)
    assert archive("used") == used
    new = archive("new")
    assert [used.exists(), new.exists(), old.exists(), killed.exists()] == [True, True, False, False]
    assert len(built) == 3
