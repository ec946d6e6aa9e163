"""Parts that end one after another: slides.parquet has all of them, and nobody writes it for ever."""

import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.runs import CONFIG, Drawn, slides_of, tile
from wsi_pipeline.calls import Answer, SerialPool
from wsi_pipeline.errors import OutputError
from wsi_pipeline.stages import run_directory
from wsi_pipeline.stages.lease import leases, sole_use
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    publish_slides_table,
    write_record,
)
from wsi_pipeline.stages.tile import TileOptions, tile_slides

Table = frozenset[str]


def record(name: str) -> SlideRecord:
    return SlideRecord(slide_id=name, path=f"/{name}", status="failed", reason="drawn")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(path=tmp_path / "RUN")
    write_record(run, record("a"))
    return run


def test_a_table_that_others_go_on_to_write_is_left_to_them(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, real = count(), run_directory.write_slides_table

    def beside_a_part_that_works(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        write_record(run, record(f"other-{next(numbers)}"))

    monkeypatch.setattr(run_directory, "write_slides_table", beside_a_part_that_works)
    publish_slides_table(run, others_at_work=lambda: True)
    assert next(numbers) == 1


def test_what_a_part_has_written_that_has_ended_is_added(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, real = list[int](), run_directory.write_slides_table

    def while_another_ends(*arguments: object) -> None:
        if not rounds:
            write_record(run, record("of the other"))
        rounds.append(1)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(run_directory, "write_slides_table", while_another_ends)
    publish_slides_table(run, others_at_work=lambda: False)
    assert slides_of(run.path).keys() == {"a", "of the other"}
    assert len(rounds) == 2


class Model:
    """The parts of a run as they publish: each step of each is one look at, or one write to, the disk."""

    def __init__(self, parts: int) -> None:
        self.records: set[str] = set()
        self.table: Table = frozenset()
        self.rounds = [0] * parts
        self._working = set(range(parts))
        self.parts = {part: self._publishing(part) for part in range(parts)}

    def step(self, part: int) -> None:
        """Have a part take its next step, or end."""
        if next(self.parts[part], None) is None:
            del self.parts[part]

    def _publishing(self, part: int) -> Iterator[str]:
        for number in range(2):
            self.records.add(f"{part}-{number}")
            yield "has done a slide"
        self._working.discard(part)
        yield "has said that it ends"
        read = frozenset(self.records)
        yield "has read the records"
        while True:
            self.table = read
            self.rounds[part] += 1
            yield "has written the table"
            before, read = read, frozenset(self.records)
            yield "has read the records again"
            if read == before or self._working:
                return


@given(parts=st.integers(2, 4), data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_the_order_the_last_table_has_all_records_after_few_rounds(
    parts: int, data: st.DataObject
) -> None:
    model = Model(parts)
    while model.parts:
        model.step(data.draw(st.sampled_from(sorted(model.parts))))
    assert model.table == model.records
    assert max(model.rounds) <= 3


def test_a_part_that_ends_is_not_waited_for_and_one_that_works_is(run: RunDirectory) -> None:
    with sole_use(run, part=1, parts=3) as one, sole_use(run, part=2, parts=3) as two:
        assert one.others_at_work(run)
        two.end_soon()
        assert not one.others_at_work(run)
        assert two.others_at_work(run)
        assert len(leases(run)) == 2
    assert leases(run) == []


class SlowPool(SerialPool):
    """A serial pool whose answers take a moment of chance."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def next_answer(self) -> Answer:
        time.sleep(self._seconds)
        return super().next_answer()


def test_parts_that_end_at_once_leave_a_table_of_all(drawn: Drawn, tmp_path: Path) -> None:
    run, errors = tmp_path / "RUN", list[BaseException]()
    tile(run, drawn.he)

    def work(part: int) -> None:
        try:
            options = TileOptions(part=part, parts=4)
            tile_slides([str(drawn.folder)], run, CONFIG, options=options, pool=SlowPool(0.01))
        except BaseException as error:  # noqa: BLE001  told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert slides_of(run).keys() == {"he", "plain", "dark", "flat"}


def test_a_part_that_breaks_off_writes_the_table_too(drawn: Drawn, tmp_path: Path) -> None:
    class Breaking(SerialPool):
        """Gives one answer and breaks off."""

        answers = 0

        def next_answer(self) -> Answer:
            self.answers += 1
            if self.answers == 2:
                raise OutputError("enough")
            return super().next_answer()

    with pytest.raises(OutputError, match="enough"):
        tile_slides([str(drawn.folder)], tmp_path / "RUN", CONFIG, pool=Breaking())
    assert len(slides_of(tmp_path / "RUN")) == 1
