"""Slides drawn once, and the command run in this process without workers."""

import logging
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.pipeline.runs import CONFIG, SIZE, Command, Drawn, Ended, tile, write_svs
from wsi_pipeline.calls import SerialPool
from wsi_pipeline.cli import app
from wsi_pipeline.config import TileConfig
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread in this process: networks of tests are too small for more."""
    torch = pytest.importorskip("torch", reason="needs the extra train")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Four small slides; tests copy what they damage."""
    folder = tmp_path_factory.mktemp("drawn")
    names = ("he", "plain", "dark", "flat")
    rgb = {
        name: draw_slide(SIZE, seed=[7, number], dark_field=name == "dark").rgb
        for number, name in enumerate(names)
    }
    slides = Drawn(folder=folder, rgb=rgb)
    write_svs(slides.he, rgb["he"])
    write_pyramid(slides.plain, rgb["plain"], mpp=0.5, compression="deflate")
    write_pyramid(slides.dark, rgb["dark"], mpp=0.5)
    Image.fromarray(rgb["flat"]).save(slides.flat)
    return slides


@pytest.fixture(scope="session")
def undisturbed(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on all drawn slides that nothing has interrupted; never written to by a test."""
    run = tmp_path_factory.mktemp("undisturbed") / "RUN"
    tile(run, drawn.folder, config=CONFIG)
    return run


@pytest.fixture(scope="session")
def graded(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the four slides, every tile of them, whose table has patients, grades and groups."""
    folder = tmp_path_factory.mktemp("graded")
    grades = {drawn.dark: "0", drawn.flat: "", drawn.he: "2", drawn.plain: "3"}
    lines = [
        f"{path},{path.stem},P{path.stem},{grade},g{path.stem}" for path, grade in grades.items()
    ]
    (folder / "slides.csv").write_text("\n".join(["path,slide_id,patient_id,grade,group", *lines]))
    tile(folder / "RUN", folder / "slides.csv", config=TileConfig(tile_size=128, min_tissue=0))
    return folder / "RUN"


@pytest.fixture
def run(graded: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    shutil.copytree(graded, tmp_path / "RUN")
    return tmp_path / "RUN"


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """An empty folder for annotations."""
    folder = tmp_path / "drawings"
    folder.mkdir()
    return folder


@contextmanager
def _serial_pool(_cluster: object, **_: object) -> Iterator[SerialPool]:
    yield SerialPool()


@pytest.fixture
def wsi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Give the command, run in this process with its calls in this thread: no start-up to wait for."""
    monkeypatch.setattr("wsi_pipeline.run.open_pool", _serial_pool)
    logger = logging.getLogger("wsi_pipeline")
    before = (list(logger.handlers), logger.level, logger.propagate)
    on_term = signal.getsignal(signal.SIGTERM)

    def command(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["wsi-pipeline", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            app.main()
        said = capsys.readouterr()
        code = left.value.code
        return Ended(code=code if isinstance(code, int) else 0, out=said.out, err=said.err)

    yield command
    logger.handlers, logger.level, logger.propagate = before
    signal.signal(signal.SIGTERM, on_term)
