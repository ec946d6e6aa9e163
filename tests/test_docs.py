"""Every block of the documents runs, or says why not; every page made from code is up to date."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.pipeline.runs import Ended, process

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("workflows/**/*.md")])
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n+)?^```(?P<kind>python|bash)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_MADE = {
    r"^wsi-pipeline demo (\w+) --quiet$": r'cp -r "$DEMO" \1',
    r"^wsi-pipeline demo (\w+) --quiet --only-draw$": r'cp -r "$DEMO" \1 && rm -r \1/RUN',
    r"^wsi-pipeline tile demo/slides.csv -o (\w+) --tile-size 256 --min-tissue 0.1 --quiet$": (
        r'cp -r "$CUT" \1'
    ),
}
"""How pages begin: each is done once for all of them, and then copied."""

_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    kind: str
    text: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(kind=each["kind"], text=each["text"], reason=each["reason"]) for each in found]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


RUNNING = [page for page in PAGES if any(block.reason is None for block in blocks(page))]


@pytest.fixture(scope="module")
def cut(demo: tuple[Path, Ended], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's slides cut as most pages cut them."""
    run = tmp_path_factory.mktemp("docs") / "RUN"
    flags = ("--tile-size", "256", "--min-tissue", "0.1", "--quiet")
    ended = process("tile", demo[0] / "COPY" / "slides.csv", "-o", run, *flags)
    assert ended.code == 0, ended.err
    return run


@pytest.mark.parametrize("page", RUNNING, ids=named)
def test_the_blocks_of_a_page_run_one_after_another(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: tuple[Path, Ended], cut: Path
) -> None:
    monkeypatch.setenv("DEMO", str(demo[0] / "COPY"))
    monkeypatch.setenv("CUT", str(cut))
    monkeypatch.chdir(tmp_path)
    todo = [block for block in blocks(page) if block.reason is None]
    if page.name == "README.md" and page.parent == ROOT:
        todo.insert(0, Block(kind="bash", text=_PREPARE_README, reason=None))
    names: dict[str, Any] = {"__name__": "docs"}
    for block in todo:
        code, said = _run(block, tmp_path, names)
        assert code == 0, f"{block.text}\n{said}"


def _run(block: Block, folder: Path, names: dict[str, Any]) -> tuple[int, str]:
    """Return how a block ended and what it said; Python's asserts are in its text."""
    if block.kind == "python":
        exec(compile(block.text, "<documentation>", "exec"), names)  # noqa: S102  our own pages
        return 0, ""
    text = block.text
    for line, copied in _MADE.items():
        text = re.sub(line, copied, text, flags=re.MULTILINE)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],  # noqa: S607
        cwd=folder,
        env={**os.environ, "PATH": path, "PROJECT": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode, f"{answer.stdout}\n{answer.stderr}"


_PREPARE_README = """
wsi-pipeline demo DEMO --quiet --only-draw
wsi-pipeline tile DEMO/slides -o RUN --min-tissue 0.1 --quiet
"""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [page.parent / target for target in _LINK.findall(page.read_text(encoding="utf-8"))]
    assert [str(target) for target in targets if not target.exists()] == []


def reference() -> ModuleType:
    spec = spec_from_file_location("generate", ROOT / "docs" / "reference" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(reference().PAGES))
def test_reference_pages_say_what_the_code_says(path: str) -> None:
    made = reference().PAGES[path]()
    assert made == (ROOT / path).read_text(encoding="utf-8"), (
        "run: python docs/reference/generate.py"
    )


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = re.search(
        r"^python3 -m venv \.venv-test .*$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert command is not None
    assert command.group(0) in (ROOT / ".ci" / "run").read_text().splitlines()
