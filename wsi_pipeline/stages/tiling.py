"""Which calls a run makes, given what the earlier ones gave: slides begun, cut and finished."""

import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from wsi_pipeline.calls import Answer, Call, Pool, run_all
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import ConfigError, LateError, OutputError, PipelineError, SlideError
from wsi_pipeline.files import remove_tree
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.open import MPP_FROM_TABLE
from wsi_pipeline.slides.staging import same_slide_today
from wsi_pipeline.stages.attempt import done_since, is_untouched, mark_of
from wsi_pipeline.stages.cut import (
    Begun,
    UnitDone,
    begin_slide,
    clear_slide,
    cut_unit,
    finish_slide,
    open_slide,
)
from wsi_pipeline.stages.lease import Held, Holder
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    read_record,
    read_records,
    record_fingerprint,
    with_columns,
    write_record,
    write_slides_table,
)
from wsi_pipeline.stages.stage import Observer
from wsi_pipeline.stages.tries import end_try, fail_try, interrupt_try, read_tries
from wsi_pipeline.stages.units import SlideJob, units_of

_LOG = logging.getLogger(__name__)
_UNTOUCHED = "what was done of it before is untouched"


@dataclass(frozen=True, slots=True, kw_only=True)
class TileOptions:
    """How a run is carried out; nothing here changes what it makes."""

    part: int = 1
    parts: int = 1
    """This job takes every ``parts``-th slide, beginning with number ``part``."""
    overwrite: bool = False
    """Redo slides that are done."""
    stop_on_error: bool = False
    """Begin no further slide after one has failed."""

    def __post_init__(self) -> None:
        if not 1 <= self.part <= self.parts:
            raise ConfigError(f"part: expected I/N with 1 ≤ I ≤ N, got {self.part}/{self.parts}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TileOutcome:
    """What a run came to."""

    run: RunDirectory
    records: tuple[SlideRecord, ...]
    """One per slide of this run, ordered by slide_id."""
    already_done: frozenset[str] = frozenset()
    """slide_ids that an earlier run had finished."""

    def with_status(self, status: Literal["done", "failed", "skipped"]) -> tuple[SlideRecord, ...]:
        """Return the slides that ended so."""
        return tuple(record for record in self.records if record.status == status)

    @property
    def tiles(self) -> int:
        """Tiles of all slides that are done."""
        return sum(record.tiles for record in self.with_status("done"))


@dataclass(slots=True)
class Tiling:
    """Which calls are to be made, given what the earlier ones gave."""

    run: RunDirectory
    config: TileConfig
    options: TileOptions
    pool: Pool
    observer: Observer
    lease: Held | None = None
    waiting: deque[tuple[SlideJob, Call]] = field(default_factory=deque)
    under_way: dict[str, SlideJob] = field(default_factory=dict)
    units_left: dict[str, int] = field(default_factory=dict)
    records: dict[str, SlideRecord] = field(default_factory=dict)
    already_done: set[str] = field(default_factory=set)
    attempt: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def _holder(self) -> Holder | None:
        """Return whose tries are kept; nobody's in a remote run."""
        return None if self.lease is None else self.lease.holder

    def check_sources(self, sources: Sequence[SlideSource]) -> None:
        """Open the slides that were made with other settings, all of which are removed before any is redone.

        Before anything is written: a source or a cluster that cannot be reached must cost nothing.

        Raises
        ------
        ConfigError
            One cannot be opened, so nothing was removed.
        """
        others = self._of_other_settings({source.slide_id for source in sources})
        jobs = [self._job(source, None) for source in sources if source.slide_id in others]
        calls = [_call("open", open_slide, job, job.source.slide_id) for job in jobs]
        failed = [
            f"{answer.call.argument.source.slide_id} ({_reason(answer.error)})"
            for answer in run_all(self.pool, calls)
            if answer.error is not None
        ]
        if failed:
            raise ConfigError(
                f"{self.run.path}: slides that are done with other settings cannot be opened, so nothing was "
                f"changed: {', '.join(failed[:5])}{', …' if len(failed) > 5 else ''}; make them reachable, "
                "or choose another folder with -o"
            )

    def take(self, sources: Iterable[SlideSource]) -> None:
        """Sort slides into those that are to be cut and those of which nothing is left to do."""
        tried = read_tries(self.run).keys() if self._holder is not None else set()
        before = {record.slide_id: record for record in read_records(self.run)}
        for source in sources:
            job = self._job(source, before.get(source.slide_id))
            if (record := self._settled(job)) is not None:
                if source.slide_id in tried:
                    end_try(self.run, source.slide_id)
                self._end(record)
                continue
            self.waiting.append((job, _call("begin", begin_slide, job, source.slide_id)))
        # Interrupted slides first (stages/tries.py says why); the others stay in their order.
        self.waiting = deque(
            sorted(self.waiting, key=lambda each: each[0].source.slide_id not in tried)
        )
        redone = {job.source.slide_id for job, _ in self.waiting}
        for slide_id in self._of_other_settings(redone):  # one manifest, one setting
            clear_slide(self.run, slide_id)
        kept = [record for record in read_records(self.run) if record.slide_id not in redone]
        write_slides_table(
            self.run, kept
        )  # so that a kill leaves no row of a slide that is cleared

    def _job(self, source: SlideSource, before: SlideRecord | None) -> SlideJob:
        return SlideJob(
            source=source,
            run=self.run,
            config=self.config,
            redo=self.options.overwrite,
            attempt=self.attempt,
            before=mark_of(before),
            holder=self._holder,
        )

    def _of_other_settings(self, slide_ids: Set[str]) -> set[str]:
        """Return which of these slides have a record of other settings."""
        digest = self.config.digest()
        return {
            record.slide_id
            for record in read_records(self.run)
            if record.slide_id in slide_ids and record.values.get("config_digest", digest) != digest
        }

    def drive(self) -> None:
        """Keep the pool busy until nothing is left; at most a window of calls is under way."""
        try:
            while self.waiting or self.under_way:
                if self.lease is not None:
                    self.lease.check()
                while self.waiting and len(self.under_way) < self.pool.window:
                    job, call = self._next_call()
                    self.under_way[call.name] = job
                    self.pool.submit(call)
                answer = self.pool.next_answer()
                if self.lease is not None:
                    self.lease.check()  # an error may come of another having taken over meanwhile
                self._advance(self.under_way.pop(answer.call.name), answer)
        except BaseException:
            self._break_off()
            raise

    def _break_off(self) -> None:
        """End what is under way while the run is still held: no worker writes beside the next command."""
        try:
            self.pool.drop()
        finally:
            if self._holder is not None:
                for slide_id in self.units_left.keys() | self._slides_under_way():
                    interrupt_try(self.run, slide_id)

    def _next_call(self) -> tuple[SlideJob, Call]:
        """Take the next call: a slide has at most half of the pool to itself while another waits.

        Without this a slide of 15 000 tiles would keep every worker until its last unit, and hundreds of
        small ones from beginning. Slides that are begun go before new ones, so few are half done at once.
        """
        share = max(1, self.pool.window // 2)
        busy = Counter(job.source.slide_id for job in self.under_way.values())
        free = (
            position
            for position, (job, _) in enumerate(self.waiting)
            if busy[job.source.slide_id] < share
        )
        position = next(free, 0)
        chosen = self.waiting[position]
        del self.waiting[position]
        return chosen

    def _slides_under_way(self) -> set[str]:
        return {job.source.slide_id for job in self.under_way.values()}

    def outcome(self) -> TileOutcome:
        """Return what became of every slide."""
        ordered = sorted(self.records.values(), key=lambda record: record.slide_id)
        return TileOutcome(
            run=self.run, records=tuple(ordered), already_done=frozenset(self.already_done)
        )

    def _settled(self, job: SlideJob) -> SlideRecord | None:
        """Return the record of a slide of which nothing is left to do."""
        source = job.source
        if source.refused is not None:
            record = _record_of(source, source.refused.status, source.refused.reason)
            write_record(self.run, record)
            return record
        before = None if job.redo else read_record(self.run, source.slide_id)
        if before is None or before.status != "done":
            return None
        if before.values["config_digest"] != self.config.digest():
            return None  # left over from an --overwrite with other settings that was interrupted
        today = _brought_up_to_date(before, source)
        if isinstance(today, str):
            return _record_of(source, "failed", today)
        self.already_done.add(source.slide_id)
        remove_tree(self.run.work(source.slide_id))  # a kill may have left it
        if today != before:
            write_record(self.run, today)  # the table knows more of the slide than before
        return today

    def _advance(self, job: SlideJob, answer: Answer) -> None:
        """Note what a call gave and queue what follows; slides that are begun go before new ones."""
        slide_id = job.source.slide_id
        if slide_id in self.records:  # failed while this call was under way
            self._clean_up(job, self.records[slide_id])
            return
        if answer.error is not None:
            self._fail(job, answer.error)
            return
        match answer.value:
            case Begun(record=None, tiles=tiles):
                self.observer.slide_planned(slide_id, tiles)
                units = units_of(job, tiles)
                self.units_left[slide_id] = len(units)
                calls = [_call("cut", cut_unit, unit, f"{slide_id}:{unit.first}") for unit in units]
                self.waiting.extendleft((job, call) for call in reversed(calls))
            case Begun(record=SlideRecord() as record, tiles=tiles):
                self.observer.slide_planned(slide_id, tiles)
                self.observer.unit_cut(slide_id, tiles, record.values["stored_bytes"])
                self._end(record)
            case UnitDone(tiles=tiles, stored_bytes=stored_bytes):
                self.observer.unit_cut(slide_id, tiles, stored_bytes)
                self.units_left[slide_id] -= 1
                if self.units_left[slide_id] == 0:
                    self.waiting.appendleft((job, _call("finish", finish_slide, job, slide_id)))
            case SlideRecord() as record:
                self._end(record)
            case other:
                raise TypeError(f"{answer.call.name}: expected a known answer, got {other!r}")

    def _fail(self, job: SlideJob, error: BaseException) -> None:
        """Record why a slide failed and drop what was still to be done for it."""
        late = isinstance(error, LateError)
        if isinstance(error, OutputError) and not late:
            raise error
        slide_id = job.source.slide_id
        begun = self.units_left.keys()
        self.waiting = deque(
            (other, call)
            for other, call in self.waiting
            if other.source.slide_id != slide_id
            and (not self.options.stop_on_error or other.source.slide_id in begun)
        )
        # Another command, that took the run over when this one was not heard of, may have finished it;
        # the error then comes of the work that it tidied away.
        if (done := done_since(job)) is not None:
            self._end(done)
            return
        if late:
            raise error
        kept = f"; {_UNTOUCHED}" if is_untouched(job) else ""
        record = _record_of(job.source, "failed", _reason(error) + kept)
        if self._holder is not None:
            fail_try(self.run, slide_id, error)
        self._clean_up(job, record)
        self._end(record)

    def _clean_up(self, job: SlideJob, record: SlideRecord) -> None:
        """Remove what there is of a failed slide when none of its calls is under way any more.

        A redo that did not come to clear what was done before, as its source cannot be opened, leaves it.
        """
        if record.slide_id in self._slides_under_way() or is_untouched(job):
            return
        clear_slide(self.run, record.slide_id)
        write_record(self.run, record)

    def _end(self, record: SlideRecord) -> None:
        self.records[record.slide_id] = record
        self.units_left.pop(record.slide_id, None)
        _LOG.info(
            "slide=%s status=%s tiles=%d reason=%s",
            record.slide_id,
            record.status,
            record.tiles,
            record.reason if record.status == "skipped" else "-",  # of the others, at the end
        )
        self.observer.slide_ended(record)


def _brought_up_to_date(before: SlideRecord, source: SlideSource) -> SlideRecord | str:
    """Return the record of a slide that is done with what is known today, or how its file has changed."""
    if changed := _changed_mpp(source, before):
        return changed
    try:
        now = same_slide_today(record_fingerprint(before), source.path)
    except SlideError as error:
        return f"done before, but the file {error}; its tiles are untouched"
    if now is None:
        return "done before from other content of this file; its tiles are untouched: --overwrite redoes it"
    values = with_columns({**before.values, "mtime_ns": now.mtime_ns}, source.columns)
    return replace(before, path=source.path, values=values)


def _changed_mpp(source: SlideSource, before: SlideRecord) -> str | None:
    """Return how µm/px of the slide table differ from those that a slide was cut with."""
    was = before.values["mpp_x"] if before.values["mpp_note"] == MPP_FROM_TABLE else None
    if was == source.mpp:
        return None
    return (
        f"done before with mpp {was or 'not given'} in the slide table, now {source.mpp or 'not given'}; "
        "its tiles are untouched: --overwrite redoes it"
    )


def _record_of(
    source: SlideSource, status: Literal["failed", "skipped"], reason: str
) -> SlideRecord:
    return SlideRecord(
        slide_id=source.slide_id,
        path=source.path,
        status=status,
        reason=reason,
        values=with_columns({"tiles": 0, "tiles_unreadable": 0}, source.columns),
    )


def _reason(error: BaseException) -> str:
    """Return one line for slides.parquet; an error that was not foreseen keeps its type."""
    if isinstance(error, PipelineError):
        return str(error)
    return f"{type(error).__name__}: {error}".strip().replace("\n", " ")


def _call(step: str, function: Callable[[Any], Any], argument: object, name: str) -> Call:
    return Call(name=f"{step}:{name}", function=function, argument=argument)
