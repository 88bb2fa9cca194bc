"""What the pages say exists: reasons and conditions, options, metrics, make targets, links, files.

Reasons and conditions are read from the code's syntax tree, so that a new one cannot be forgotten here.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosted_cp.cli.main import main, run
from hosted_cp.hosting.etcd.health import REFUSALS
from hosted_cp.kube.metrics import Metrics

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CONDITIONS = (ROOT / "docs" / "conditions.md").read_text()
PLANNERS = sorted(each for room in ("hosting", "machines") for each in (ROOT / "hosted_cp" / room).rglob("*.py"))
#: Where reasons come from: what is wrong with writing is known to the executor alone.
SAYING = (*PLANNERS, ROOT / "hosted_cp" / "executor.py")

_WORD = re.compile(r"[A-Z][A-Za-z]+")
_LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")


# --- reasons and conditions -------------------------------------------------------------------------------------------


def _words(node: ast.AST) -> set[str]:
    """Constants in CamelCase that an expression may come to."""
    if isinstance(node, ast.IfExp):
        return _words(node.body) | _words(node.orelse)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _WORD.fullmatch(node.value):
        return {node.value}
    return set()


def _said(argument: str, variable: str, calls: tuple[str, ...]) -> set[str]:
    """Values of a keyword argument in calls of these names, of variables of its name, and of `of_problems`."""
    found: set[str] = set()
    for file in SAYING:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in calls:
                    for keyword in node.keywords:
                        found |= _words(keyword.value) if keyword.arg == argument else set()
                if argument == "reason" and node.func.id == "of_problems":
                    found |= _words(node.args[0])
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == variable for t in node.targets):
                found |= _words(node.value)
    return found


def reasons() -> set[str]:
    return _said("reason", "reason", ("Cause", "Condition", "Event", "Unclear")) | REFUSALS


def condition_types() -> set[str]:
    kinds = {"Service", "Secret", "StatefulSet", "Endpoints", "Pod", "NodePort", "LoadBalancer", "ClusterIP"}
    named = ("kind", "CONDITION", "KEPT_UP", "REVOKED")
    return set[str]().union(*(_said("type", each, ("Condition",)) for each in named)) - kinds


def _table_words(text: str) -> set[str]:
    """What stands in code type in the first column of the tables."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_the_code_says_something() -> None:
    assert {"Available", "FormerLife", "ChangeRefused", "ScalingUp", "Expired", "EtcdNoPermit"} <= reasons()
    assert {"Available", "EtcdHealthy", "ControlPlaneUpToDate", "JoinTokenSecretCreated"} <= condition_types()


def test_every_reason_and_condition_of_the_code_is_explained() -> None:
    explained = _table_words(CONDITIONS)
    assert sorted(reasons() - explained) == []
    explained |= set(re.findall(r"`([A-Z][A-Za-z]+)`", CONDITIONS))
    assert sorted(condition_types() - explained) == []


def test_nothing_is_explained_that_the_code_never_says() -> None:
    assert sorted(_table_words(CONDITIONS) - reasons() - condition_types()) == []


# --- options, metrics, commands ---------------------------------------------------------------------------------------


def test_every_option_of_run_is_in_the_readme_with_its_variable() -> None:
    readme = (ROOT / "README.md").read_text()
    for parameter in run.params:
        longest = max(parameter.opts, key=len)
        assert longest in readme, f"{longest} is missing"
        assert f"HOSTED_CP_{(parameter.name or '').upper()}`" in readme, f"variable of {longest}"
    for option in re.findall(r"^\| `(--[a-z0-9-]+)", readme, flags=re.MULTILINE):
        assert any(option in parameter.opts for parameter in run.params), f"{option} does not exist"


def test_every_command_that_pages_show_exists() -> None:
    shown = {
        word for page in PAGES for word in re.findall(r"hosted-cp (run|render|crds|[a-z]+(?=`))", page.read_text())
    }
    assert shown <= set(main.commands), shown - set(main.commands)


def test_metrics_on_the_page_exist() -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    named = set(re.findall(r"`(hosted_cp_[a-z_]+)`", page))
    source = (ROOT / "hosted_cp" / "kube" / "metrics.py").read_text()
    assert named
    for name in named - {"hosted_cp_clusters", "hosted_cp_jointokenrequests"}:
        assert f'"{name.removesuffix("_total")}"' in source, name
    assert b"hosted_cp_leader" in Metrics().text()


def _commands(page: Path) -> Iterator[str]:
    """Lines of code blocks (indented, or fenced) and code in the text."""
    text = page.read_text()
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        yield from (line.strip() for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", text)


def test_make_targets_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, flags=re.MULTILINE))
    named: dict[str, Path] = {}
    for page in PAGES:
        for command in _commands(page):
            for words in re.findall(r"(?:^|[$(; ])make ((?:-s )?[a-z][a-z0-9 -]*)", command):
                named |= {word: page for word in words.replace("-s ", "").split() if re.fullmatch(r"[a-z0-9-]+", word)}
    assert {"demo", "test", "demo-down", "preflight", "venv"} <= set(named)
    assert {word: page.name for word, page in named.items() if word not in targets} == {}


# --- links ------------------------------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in _anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_repository_that_pages_name_exist(page: Path) -> None:
    rooms = "hosted_cp|k0s_images|e2e|tests|deploy|examples|crds|docs|requirements"
    for name in re.findall(rf"`((?:{rooms})/[\w./-]+)`", page.read_text()):
        if name == "hosted_cp/etcd":
            continue  # decision 1 speaks of what is to come
        assert (ROOT / name).exists(), f"{name} does not exist"


def test_every_decision_is_listed() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    assert [page.name for page in pages if f"({page.name})" not in index] == []
    for number, page in enumerate(pages, start=1):
        assert page.name.startswith(f"{number:04}-")
        assert page.read_text().startswith(f"# {number}. ")


# --- the picture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parts", "cluster-api"])
def test_a_picture_is_what_its_script_draws(name: str, tmp_path: Path) -> None:
    """By its texts: shapes differ in the last digit from one release of matplotlib to the next."""
    fresh = tmp_path / f"{name}.svg"
    subprocess.run([sys.executable, ROOT / "docs" / "parts.py", fresh], check=True, timeout=120)
    drawn = (fresh, ROOT / "docs" / f"{name}.svg")
    texts = [re.findall(r"<text[^>]*>([^<]+)</text>", each.read_text()) for each in drawn]
    assert len(texts[0]) > 20
    assert texts[0] == texts[1], "run `python docs/parts.py`"
