"""Rules that every Containerfile here obeys, so that docker, podman and buildah all build it to the same effect."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FILES = sorted([*(PROJECT / "k0s_images/containers").glob("*/Containerfile"), PROJECT / "deploy/Containerfile"])
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


def instructions(file: Path) -> list[Instruction]:
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        Instruction(word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.split("\n") if line)
    ]


def stages(file: Path) -> dict[str, list[Instruction]]:
    """Instructions of each stage by its name; the last one, if it has none, is called `last`."""
    found: dict[str, list[Instruction]] = {}
    for instruction in instructions(file):
        if instruction.word == "FROM":
            found[instruction.rest.partition(" AS ")[2] or "last"] = [instruction]
        elif found:
            found[list(found)[-1]].append(instruction)
    return found


def with_parents(name: str, file: Path) -> list[Instruction]:
    """What makes an image: the instructions of its stage and of the stages that it is built upon."""
    all_stages = stages(file)
    own = all_stages[name]
    parent = own[0].rest.split()[0]
    return (with_parents(parent, file) if parent in all_stages else []) + own


def shipped(file: Path) -> list[str]:
    """Stages that become images: those that no other stage is built upon or copies from."""
    used = {i.rest.split()[0] for stage in stages(file).values() for i in stage if i.word == "FROM"}
    used |= set(re.findall(r"--from=(\S+)", file.read_text()))
    return [name for name in stages(file) if name not in used]


def test_all_images_are_looked_at() -> None:
    assert {file.parent.name for file in FILES} == {
        "deploy", "etcd", "k0s", "konnectivity-agent", "mariadb", "pause", "postgres", "toolbox",
    }  # fmt: skip


@each_file
def test_bases_are_the_argument_or_nothing(file: Path) -> None:
    for name, stage in stages(file).items():
        base = stage[0].rest.split()[0]
        assert base in ("${BASE}", "scratch", *stages(file)), f"{name} is built upon {base}"
    for instruction in instructions(file):
        if instruction.word == "ARG" and instruction.rest.startswith("BASE"):
            assert re.fullmatch(r"BASE=debian:[a-z]+-slim", instruction.rest)


@each_file
def test_no_tag_moves(file: Path) -> None:
    assert not re.search(r":latest\b", file.read_text())


@each_file
def test_the_user_is_a_number_so_that_a_kubelet_can_judge_it(file: Path) -> None:
    assert shipped(file)
    for name in shipped(file):
        users = [i.rest for i in with_parents(name, file) if i.word == "USER"]
        assert users, f"{name} names no user"
        assert re.fullmatch(r"\d+(:\d+)?", users[-1]), f"{name}: USER {users[-1]}"
        if file.parent.name != "k0s":
            assert not users[-1].startswith("0"), f"{name} runs as root"


@each_file
def test_no_shell_stands_between_a_signal_and_the_program(file: Path) -> None:
    for name in shipped(file):
        last = {i.word: i.rest for i in with_parents(name, file) if i.word in ("ENTRYPOINT", "CMD")}
        assert last, f"{name} starts nothing"
        for words in last.values():
            assert isinstance(json.loads(words), list)


@each_file
def test_nothing_is_fetched_but_packages_and_these_are_pinned(file: Path) -> None:
    for instruction in instructions(file):
        assert not re.search(r"https?://|\b(curl|wget)\b", instruction.rest)
        assert instruction.word != "ADD"
        if (
            "pip " in instruction.rest
            and " install " in instruction.rest
            and instruction.word == "RUN"
            and "apt-get" not in instruction.rest
        ):
            assert "--require-hashes" in instruction.rest or "--no-index" in instruction.rest
        if "apt-get install" in instruction.rest:
            assert "apt-get update" in instruction.rest, "a cached list of packages would be stale"
            assert "--no-install-recommends" in instruction.rest


@each_file
def test_what_is_shipped_carries_no_package_lists(file: Path) -> None:
    for name in shipped(file):
        for instruction in with_parents(name, file):
            if "apt-get install" in instruction.rest:
                assert "rm -rf /var/lib/apt/lists/*" in instruction.rest


@each_file
def test_secrets_are_mounted_and_never_arguments(file: Path) -> None:
    for instruction in instructions(file):
        if instruction.word in ("ARG", "ENV"):
            assert not re.search(r"PIP_|PASSWORD|TOKEN|INDEX|PROXY", instruction.rest)
        if instruction.word == "COPY":
            assert not re.search(r"pip\.conf|\.crt|\.key", instruction.rest)


@each_file
def test_every_source_lies_in_the_context_that_is_laid(file: Path) -> None:
    """What is copied is either in the repository or made by `k0s_images.images` for that build."""
    made = {"k0s": {"bin/", "standin/"}, "etcd": {"etcd"}, "pause": {"pause"}, "konnectivity-agent": {"proxy-agent"}}
    context = PROJECT if file.parent.name == "deploy" else file.parent
    for instruction in instructions(file):
        if instruction.word == "COPY" and "--from=" not in instruction.rest:
            *sources, _ = [word for word in instruction.rest.split() if not word.startswith("--")]
            for source in sources:
                assert source in made.get(file.parent.name, set()) or (context / source).exists(), source
