"""The arrows service → models ← pipelines, and what the serving install must never import."""

import ast
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.tiny import tiny_release

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "pipelines", "service")
HEAVY = ("torch", "transformers", "pandas")
# Of the packages, what may be imported by whom. The command line alone knows both ends.
ALLOWED = {
    "models": {"models"},
    "pipelines": {"models", "pipelines"},
    "service": {"models", "service"},
}


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_the_two_ends_meet_only_in_models(package):
    sources = list((ROOT / package).rglob("*.py"))
    assert sources
    for path in sources:
        wrong = _imported(path) & (set(PACKAGES) | {"esci", "tests"}) - ALLOWED[package]
        assert not wrong, f"{path} imports {wrong}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_of_the_other_end_hides_in_a_string(package):
    # import_module("service.app") would draw an arrow that no import statement shows.
    foreign = "|".join((set(PACKAGES) | {"esci"}) - ALLOWED[package])
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                hidden = re.fullmatch(rf"({foreign})[.:][\w.:]*\w", node.value)
                assert not hidden, f"{path} names {node.value}"


def test_the_serving_extra_requires_nothing_heavy():
    todo, seen = ["esci-ensemble[serving]"], set()
    while todo:
        wanted = Requirement(todo.pop())
        for extra in wanted.extras or {""}:
            if (wanted.name, extra) in seen:
                continue
            seen.add((wanted.name, extra))
            for line in requires(wanted.name) or []:
                found = Requirement(line)
                if found.marker is None or found.marker.evaluate({"extra": extra}):
                    todo.append(line)
    names = {name.lower() for name, _ in seen}
    assert {"fastapi", "uvicorn", "numpy"} <= names
    assert not names & {*HEAVY, "pyarrow", "scikit-learn", "matplotlib"}


TRIES_TO_IMPORT = """
import sys

class Refuse:
    tried = set()
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy}:
            self.tried.add(name)
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Refuse())
{code}
assert not Refuse.tried, Refuse.tried
"""


def _run_without(heavy: tuple[str, ...], code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRIES_TO_IMPORT.format(heavy=set(heavy), code=code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_import_guard_notices_an_import():
    with pytest.raises(AssertionError, match="pandas"):
        _run_without(HEAVY, "try:\n    import pandas\nexcept ImportError:\n    pass")


def test_the_command_line_imports_no_heavy_module():
    _run_without(
        (*HEAVY, "pyarrow", "sklearn", "scipy", "matplotlib", "numpy"),
        "import esci; esci.build(['--help'])",
    )


def test_a_pair_is_classified_over_http_without_any_heavy_module(tmp_path):
    release = tiny_release(tmp_path)
    code = f"""
import json
from urllib.request import Request, urlopen
from service import Settings, running

body = {{"query": "case", "locale": "us", "products": [{{"product_id": "P", "title": "Case"}}]}}
with running(Settings(release={str(release)!r}, port=0, cache="memory://")) as address:
    kind = {{"content-type": "application/json"}}
    request = Request(address + "/v1/classify", json.dumps(body).encode(), kind)
    with urlopen(request, timeout=30) as response:
        assert json.load(response)["results"][0]["label"] in "ESCI"
"""
    _run_without((*HEAVY, "pyarrow", "sklearn", "scipy", "matplotlib"), code)
