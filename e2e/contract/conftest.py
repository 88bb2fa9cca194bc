"""Which k0s is tested, and controllers to test it on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.contract.k0s import Controller, Subject
from e2e.contract.machine import Machine, machine, remove
from k0s_images.golang import components
from k0s_images.standin_launcher import launcher

_FACTS = Path(__file__).parent / "facts"
#: What a hosted control plane does without; the rest of k0s is what the contract is about.
HOSTED = "control-api,update-prober,autopilot,windows-node,helm,coredns,kube-proxy,network-provider,metrics-server"

#: The least that a k0s wants to be told.
PLAIN = {"storage": {"type": "kine"}, "network": {"provider": "custom"}}

Facts = Callable[[str], Any]
Start = Callable[..., Controller]


#: Files that take longest, the longest first: where some run side by side, one that comes last is waited for alone.
LONG = ("test_restart", "test_config", "test_life", "test_cluster", "test_etcd", "test_pki", "test_facts")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first."""
    here, places = Path(__file__).parent, {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)) if here in item.path.parents else len(LONG))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A given k0s is tested as what it is; the stand-in in each version it plays.

    The older version is compared with its facts every time; what the versions have in common runs for it in sweeps.
    """
    if "subject" not in metafunc.fixturenames:
        return
    given = os.environ.get("K0S_BINARY")
    if given:
        chosen = [pytest.param(f"binary:{path}", id=Path(path).name) for path in given.split(os.pathsep)]
    else:
        module = metafunc.module.__name__.rpartition(".")[2]
        marks = () if module in ("test_facts", "test_config", "test_installation") else (pytest.mark.sweep,)
        chosen = [pytest.param("stand-in:1.36"), pytest.param("stand-in:1.35", marks=marks)]
    metafunc.parametrize("subject", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The k0s under test."""
    kind, _, which = request.param.partition(":")
    if kind == "binary":
        return Subject.of(Path(which), components)
    return Subject.of(launcher(which), components)


@pytest.fixture
def facts(subject: Subject) -> Facts:
    """Reads a file of facts of the version under test."""

    def read(name: str) -> Any:
        file = _FACTS / subject.version / f"{name}.yaml"
        if not file.is_file():
            pytest.skip(f"no facts about {name} of {subject.version}")
        return yaml.safe_load(file.read_text())

    return read


def controller_on_machine(
    stack: ExitStack, subject: Subject, folder: Path, *, spec: Mapping[str, Any] | None = None, name: str = "c0",
    on: Machine | None = None, disable: str = HOSTED, arguments: tuple[str, ...] = (), config: str | None = None,
    files: Mapping[str, str | bytes] | None = None, env: Mapping[str, str] | None = None, address: str = "10.99.0.2",
    link: Callable[[int], None] | None = None,
) -> Controller:  # fmt: skip
    """Start a controller on a machine of its own (or on a given one), which ends with the stack.

    `files` are laid into the machine first; `config` is the whole k0s.yaml where `spec` does not do.
    """
    path = [subject.binary.parent, subject.components]
    place = on or stack.enter_context(machine(name, folder / name, path=path, address=address, link=link))
    texts = {"/etc/k0s/k0s.yaml": config if config is not None else json.dumps({"spec": spec or {}}), **(files or {})}
    for where, content in texts.items():
        file = place.path(where)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    disabled = [f"--disable-components={disable}"] if disable else []
    controller = Controller(subject, place, [*disabled, *arguments], env=env or {})
    stack.callback(controller.process.end)
    return controller


@pytest.fixture(scope="session")
def plain(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller that is up, for all tests that need nothing special of one and leave it as it was."""
    folder = tmp_path_factory.mktemp("plain")
    with ExitStack() as stack:
        controller = controller_on_machine(stack, subject, folder, spec=PLAIN)
        controller.ready()
        yield controller
    remove(folder)


@pytest.fixture
def start(subject: Subject, tmp_path: Path) -> Iterator[Start]:
    """Starts controllers; all of them are gone after the test."""
    with ExitStack() as stack:
        yield partial(controller_on_machine, stack, subject, tmp_path)
    remove(tmp_path)
