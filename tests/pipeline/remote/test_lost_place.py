"""A remote place that stops answering, or denies, in the middle of the work: one sentence, no traceback."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pipeline.remote import s3
from tests.pipeline.runs import CONFIG, Command, Drawn
from wsi_pipeline.calls import Answer, SerialPool
from wsi_pipeline.errors import OutputError, PipelineError
from wsi_pipeline.remote import (
    contents,
    get,
    is_there,
    names_in,
    place,
    remove_below,
    remove_object,
)
from wsi_pipeline.stages import remote_lease, tile
from wsi_pipeline.stages.run_directory import RunDirectory, read_record, read_run_json
from wsi_pipeline.stages.tile import TileOptions, tile_slides
from wsi_pipeline.stages.verify import verify_run

pytestmark = pytest.mark.filterwarnings("default")
SETTINGS = ("--tile-size", "128")
WAYS = {
    "gone": (s3.Mortal.go, "no answer ("),
    "denied": (s3.Mortal.deny, "access is denied ("),
}


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Mortal]:
    """A server with a bucket that a test takes away."""
    server = s3.Mortal()
    s3.set_up(monkeypatch, server.address)
    s3.file_system(server.bucket).mkdir(server.bucket)
    yield server
    server.end()
    s3.forget()


class LosingPool(SerialPool):
    """A serial pool before whose so many-th answer something happens to the place."""

    def __init__(self, happens: Callable[[], None], before: int) -> None:
        super().__init__()
        self._happens, self._left = happens, before

    def next_answer(self) -> Answer:
        if self._left == 0:
            self._happens()
        self._left -= 1
        return super().next_answer()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answers", [0, 1, 3])
def test_a_run_whose_place_is_lost_ends_with_one_sentence(
    way: str,
    answers: int,
    drawn: Drawn,
    mortal: s3.Mortal,
    wsi: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happens, words = WAYS[way]

    @contextmanager
    def pool(*_: object, **__: object) -> Iterator[SerialPool]:
        yield LosingPool(lambda: happens(mortal), answers)

    monkeypatch.setattr("wsi_pipeline.run.open_pool", pool)
    began_s = time.monotonic()
    ended = wsi("tile", drawn.folder, "-o", f"{mortal.bucket}/RUN", *SETTINGS, "--quiet")
    assert ended.code == 1
    (said,) = ended.err.strip().splitlines()
    assert said.startswith("error: cannot ")
    assert f"{mortal.bucket}/RUN" in said
    assert words in said
    assert time.monotonic() - began_s < 60


@pytest.mark.parametrize("way", WAYS)
def test_every_look_at_a_lost_place_is_answered_by_one_sentence(
    way: str, drawn: Drawn, mortal: s3.Mortal
) -> None:
    tile_slides([str(drawn.plain)], f"{mortal.bucket}/RUN", CONFIG)
    happens, words = WAYS[way]
    happens(mortal)
    s3.forget()
    run = RunDirectory(path=place(f"{mortal.bucket}/RUN"))
    looks: dict[str, Callable[[], object]] = {
        "get": lambda: get(run.run_json),
        "is_there": lambda: is_there(run.run_json),
        "names_in": lambda: names_in(run.records),
        "contents": lambda: contents(run.records, ".json"),
        "remove_object": lambda: remove_object(run.run_json),
        "remove_below": lambda: remove_below(run.store),
        "read_record": lambda: read_record(run, "plain"),
        "read_run_json": lambda: read_run_json(run),
        "verify": lambda: verify_run(f"{mortal.bucket}/RUN"),
        "slides": lambda: tile_slides([f"{mortal.bucket}/RUN/*.svs"], "RUN", CONFIG),
    }
    for name, look in looks.items():
        with pytest.raises(PipelineError) as caught:
            look()
        assert words in str(caught.value), name
        assert "\n" not in str(caught.value)


def test_the_first_error_is_told_and_not_what_fails_because_of_it(
    drawn: Drawn, mortal: s3.Mortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutputError("the table cannot be written either")

    monkeypatch.setattr(tile, "publish_slides_table", fail)

    class Failing(SerialPool):
        def next_answer(self) -> Answer:
            raise OutputError("the network is gone")

    with pytest.raises(OutputError, match="the network is gone"):
        tile_slides([str(drawn.plain)], f"{mortal.bucket}/RUN", CONFIG, pool=Failing())
    with pytest.raises(OutputError, match="cannot be written either"):
        tile_slides([str(drawn.plain)], f"{mortal.bucket}/RUN", CONFIG)


@pytest.mark.parametrize("way", WAYS)
def test_a_redo_of_remote_slides_that_are_lost_leaves_what_is_done(
    way: str, drawn: Drawn, mortal: s3.Mortal, tmp_path: Path
) -> None:
    s3.upload(drawn.folder, f"{mortal.bucket}/slides")
    table, run = tmp_path / "slides.csv", tmp_path / "RUN"
    table.write_text(f"path\n{mortal.bucket}/slides/plain.tif\n", encoding="utf-8")
    tile_slides([str(table)], run, CONFIG)
    before = {path: path.read_bytes() for path in (run / "tiles.zarr").rglob("*") if path.is_file()}
    happens, words = WAYS[way]
    happens(mortal)
    outcome = tile_slides([str(table)], run, CONFIG, options=TileOptions(overwrite=True))
    (failed,) = outcome.with_status("failed")
    assert failed.reason is not None
    assert words in failed.reason
    assert failed.reason.endswith("what was done of it before is untouched")
    assert {path: path.read_bytes() for path in before} == before
    assert verify_run(run).findings == ()


def test_a_remote_run_that_was_taken_over_stops(
    drawn: Drawn, mortal: s3.Mortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, lease = s3.file_system(mortal.bucket), f"{mortal.bucket}/RUN/.state/leases/1-of-1.json"
    monkeypatch.setattr(remote_lease, "RENEWED_S", 0.05)

    class TakenOver(SerialPool):
        """Another machine takes the run over during the first call."""

        def next_answer(self) -> Answer:
            system.pipe_file(lease, b'{"owner": "node7-0-1", "time": 4e9, "token": "other"}')
            time.sleep(0.5)
            return super().next_answer()

    with pytest.raises(OutputError, match="was taken over by another"):
        tile_slides([str(drawn.folder)], f"{mortal.bucket}/RUN", CONFIG, pool=TakenOver())
    assert system.exists(lease)
