"""The k0s under test, and a controller of it as the tests see it: from outside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from e2e.contract.machine import Machine, Process, arguments, until

READY_WITHIN = 60.0
_SUFFIX = ".stand-in"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A k0s: its executable, the version it plays, and where the components are that it starts."""

    binary: Path
    version: str
    stand_in: bool
    components: Path

    @property
    def minor(self) -> str:
        """`1.36`."""
        return ".".join(self.version.removeprefix("v").split(".")[:2])

    @classmethod
    def of(cls, binary: Path, components: Callable[[str], Path]) -> Subject:
        """Ask the executable what it is."""
        said = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout.strip()
        version = said.removesuffix(_SUFFIX)
        minor = ".".join(version.removeprefix("v").split(".")[:2])
        return cls(binary=binary, version=version, stand_in=said.endswith(_SUFFIX), components=components(minor))


class Controller:
    """A `k0s controller` on a machine."""

    def __init__(self, subject: Subject, machine: Machine, arguments: Sequence[str], *, env: Mapping[str, str]) -> None:
        self.subject, self.machine = subject, machine
        self.log = machine.folder / "k0s.log"
        argv: list[str | Path] = [subject.binary, "controller", "--config=/etc/k0s/k0s.yaml", *arguments]
        self.process = Process(machine, argv, log=self.log, env=env)

    def k0s(self, *words: str, check: bool = True, seconds: float = 30.0, input: str | None = None) -> str:
        """What a k0s command prints on standard output."""
        return self.machine.run(self.subject.binary, *words, check=check, seconds=seconds, input=input).stdout

    def kubectl(self, *words: str, input: str | None = None) -> str:
        """What `k0s kubectl` prints."""
        return self.k0s("kubectl", *words, input=input)

    def get(self, *words: str) -> Any:
        """`kubectl get ... -o json`, decoded."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def data(self, name: str) -> Path:
        """A file below the data directory, from outside."""
        return self.machine.path(f"/var/lib/k0s/{name}")

    def ready(self, *, within: float = READY_WITHIN) -> float:
        """Wait until the API server answers /readyz and k0s is up; the seconds it took."""

        def listens() -> bool:
            if not self.process.running():
                raise AssertionError(f"k0s ended: {self.tail()}")
            return self.curl("/readyz")[0] != 0

        def answers() -> bool:
            return listens() and self.k0s("kubectl", "get", "--raw=/readyz") == "ok" and bool(self.k0s("status"))

        what = f"/readyz of {self.machine.name}; log: {self.log}"
        # Cheap questions first: for most of the time that a start takes nobody listens.
        begun = until(listens, within=within, what=what)
        return begun + until(answers, within=max(1.0, within - begun), what=what)

    def refused(self, *, within: float = 20.0) -> str:
        """Wait until k0s ends with an error; its output."""
        code = self.process.wait(within)
        assert code == 1, f"exit code {code}"
        return self.log.read_text()

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text()[-3000:]

    def certificate(self, name: str) -> x509.Certificate:
        """A certificate of the PKI directory."""
        return x509.load_pem_x509_certificate(self.data(f"pki/{name}.crt").read_bytes())

    def flags(self, program: str) -> dict[str, str]:
        """The flags of a running component, without their dashes. `LookupError` while it does not run."""
        children = self.process.children()
        if program not in children:
            raise LookupError(f"{program} does not run; there are {sorted(children)}")
        return dict(word.lstrip("-").partition("=")[::2] for word in arguments(children[program]))

    def curl(self, path: str, *options: str) -> tuple[int, str]:
        """Status and body of an HTTPS request to the API server, without any credentials unless options give them."""
        url = f"https://{self.machine.address}:6443{path}"
        out = self.machine.run("curl", "-sk", "-m", "5", "-w", "\n%{http_code}", *options, url, check=False).stdout
        body, _, code = out.rpartition("\n")
        return int(code), body

    def wait_for(self, ready: Callable[[], object], *, within: float, what: str) -> float:
        """`until`, with this controller's log named in the error."""
        return until(ready, within=within, what=f"{what}; log: {self.log}")
