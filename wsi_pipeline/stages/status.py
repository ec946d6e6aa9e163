"""How far a run is, from what lies on the disk alone: ``wsi-pipeline status`` and ``missing``."""

import time
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import read_bytes
from wsi_pipeline.remote import absolute, answering, check_reachable, contents, is_remote
from wsi_pipeline.slides.find import SlideSource, share_of
from wsi_pipeline.stages.asked import read_asked
from wsi_pipeline.stages.lease import Seen, leases
from wsi_pipeline.stages.remote_lease import RemoteSeen, remote_leases
from wsi_pipeline.stages.remote_tries import NOBODY, host_and_process, remote_tries
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    from_json,
    read_records,
    read_run_json,
)
from wsi_pipeline.stages.tries import FAILURES_RETRIED, Try, read_tries

State: TypeAlias = Literal["done", "running", "interrupted", "failed", "skipped", "left"]
STATES: tuple[State, ...] = ("done", "running", "interrupted", "failed", "skipped", "left")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideStatus:
    """How far one slide is."""

    slide_id: str
    path: str
    state: State
    """``running`` now; ``interrupted`` by the end of its command; ``left``: not begun."""
    reason: str | None = None
    where: str | None = None
    """HOST:PID that began it, of a slide that is running or interrupted."""
    since: str | None = None
    tiles: int = 0
    """On the disk."""
    tiles_planned: int | None = None
    """None where it is not known yet."""
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A command that works on the run, or that ended without giving its lease back."""

    where: str
    part: int
    parts: int
    since: str
    heartbeat_s: float
    """Age of its last heartbeat."""
    alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How far a run is."""

    run: str
    slides: tuple[SlideStatus, ...]
    """Those of the last command, and those that earlier ones have ended, ordered by slide_id."""
    commands: tuple[WorkerStatus, ...]
    tiles_per_s: float | None
    """Since the oldest command that runs now began; None where none does, and of a remote run."""
    bytes_per_s: float | None
    seconds_left: float | None
    """If the slides that are left are as large as those that are done."""

    def count(self, state: State) -> int:
        """Return how many slides are in a state."""
        return sum(slide.state == state for slide in self.slides)

    @property
    def tiles(self) -> int:
        """Tiles on the disk."""
        return sum(slide.tiles for slide in self.slides)

    @property
    def stored_bytes(self) -> int:
        """Bytes of them."""
        return sum(slide.stored_bytes for slide in self.slides)


def run_status(run_path: str | Path) -> RunStatus:
    """Say how far a run is; reads only, so it may be asked while the run goes on, on any host.

    Raises
    ------
    ConfigError
        There is no run at the path.
    """
    run, now_s = _run(run_path), time.time()
    with answering(run.path):
        commands = _commands(run, now_s)
        living = {token: each for token, each in commands.items() if each.alive}
        slides = _slides(run, living.keys())
    rates: tuple[float | None, float | None, float | None] = (None, None, None)
    if living and not is_remote(run.path):
        began_s = min(_seconds(each.since) for each in living.values())
        rates = _rates(run, slides, began_s, now_s)
    return RunStatus(
        run=str(run.path),
        slides=slides,
        commands=tuple(commands.values()),
        tiles_per_s=rates[0],
        bytes_per_s=rates[1],
        seconds_left=rates[2],
    )


def _run(run_path: str | Path) -> RunDirectory:
    path = absolute(run_path)
    if is_remote(path):
        check_reachable(path)
    return RunDirectory(path=path)


def missing_parts(run_path: str | Path, *, parts: int) -> list[int]:
    """Return the parts of ``--part I/N`` in which something is left to do.

    A slide that failed of itself is not left: nothing but another file or ``--overwrite`` helps it. One
    that failed of something else, such as a disk, is left until it has failed three times.

    Raises
    ------
    ConfigError
        There is no run at the path, or there cannot be so many parts.
    """
    if parts < 1:
        raise ConfigError(f"parts: expected at least 1, got {parts}")
    run = _run(run_path)
    with answering(run.path):
        everything, settled = read_asked(run), _settled(run)
    return [
        part
        for part in range(1, parts + 1)
        if any(
            source.slide_id not in settled
            for source in share_of(everything, part=part, parts=parts)
        )
    ]


def array_of(parts: Iterable[int]) -> str:
    """Return numbers as schedulers write an array.

    >>> array_of([2, 3, 5, 7, 8, 9]), array_of([])
    ('2-3,5,7-9', '')
    """
    spans: list[list[int]] = []
    for part in sorted(parts):
        if spans and spans[-1][1] == part - 1:
            spans[-1][1] = part
        else:
            spans.append([part, part])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _settled(run: RunDirectory) -> set[str]:
    """Return the slides of which nothing is left to do."""
    digest, tries = _digest(run), _tries(run)
    settled: set[str] = set()
    for record in read_records(run):
        last = tries.get(record.slide_id)
        again = record.status == "failed" and last and last.failures < FAILURES_RETRIED
        if not again and not _of_other_settings(record, digest):
            settled.add(record.slide_id)
    return settled


def _tries(run: RunDirectory) -> dict[str, Try]:
    return remote_tries(run, read_asked(run)) if is_remote(run.path) else read_tries(run)


def _slides(run: RunDirectory, tokens: Set[str]) -> tuple[SlideStatus, ...]:
    digest, tries = _digest(run), _tries(run)
    asked = {source.slide_id: source for source in read_asked(run)}
    records = {record.slide_id: record for record in read_records(run)}
    return tuple(
        _slide(
            run,
            asked.get(slide_id) or SlideSource(slide_id=slide_id, path=records[slide_id].path),
            record=_current(records.get(slide_id), digest),
            last=tries.get(slide_id),
            tokens=tokens,
        )
        for slide_id in sorted(asked.keys() | records.keys())
    )


def _slide(
    run: RunDirectory,
    source: SlideSource,
    *,
    record: SlideRecord | None,
    last: Try | None,
    tokens: Set[str],
) -> SlideStatus:
    running = last is not None and last.token in tokens and not last.over
    if record is not None and not running:
        return SlideStatus(
            slide_id=source.slide_id,
            path=source.path,
            state=record.status,
            reason=record.reason,
            tiles=record.tiles,
            tiles_planned=record.tiles,
            stored_bytes=int(record.values.get("stored_bytes") or 0),
        )
    if last is None:
        return SlideStatus(slide_id=source.slide_id, path=source.path, state="left")
    tiles, stored_bytes = _units(run.work(source.slide_id))
    return SlideStatus(
        slide_id=source.slide_id,
        path=source.path,
        state="running" if running else "interrupted",
        where=None if last.host == NOBODY else last.where,
        since=last.since or None,
        tiles=tiles,
        tiles_planned=_planned(run.work(source.slide_id)),
        stored_bytes=stored_bytes,
    )


def _units(work: Path, *, since_s: float = 0.0) -> tuple[int, int]:
    """Return tiles and bytes of the units of a slide under way that are done, since some moment."""
    tiles = stored_bytes = 0
    for unit in _unit_files(work, since_s):
        with suppress(OSError, pa.ArrowException, KeyError):  # the slide was finished meanwhile
            metadata = pq.read_metadata(unit)
            tiles += metadata.num_rows
            stored_bytes += int((metadata.metadata or {})[b"stored_bytes"])
    return tiles, stored_bytes


def _unit_files(work: Path, since_s: float) -> Iterator[Path | BytesIO]:
    if is_remote(work):
        yield from map(BytesIO, contents(work, ".parquet").values())
        return
    for path in work.glob("tiles-*.parquet"):
        if _written_s(path) >= since_s:
            yield path


def _planned(work: Path) -> int | None:
    try:
        return int(from_json(read_bytes(work / "begun.json"))["tiles"])
    except (OSError, ValueError, KeyError):
        return None


def _digest(run: RunDirectory) -> str | None:
    content: Mapping[str, Any] = read_run_json(run) or {}
    return content.get("config_digest")


def _of_other_settings(record: SlideRecord, digest: str | None) -> bool:
    """Whether a slide is left over from an ``--overwrite`` with other settings that was interrupted."""
    return record.status == "done" and record.values.get("config_digest") != digest


def _current(record: SlideRecord | None, digest: str | None) -> SlideRecord | None:
    return None if record is None or _of_other_settings(record, digest) else record


def _commands(run: RunDirectory, now_s: float) -> dict[str, WorkerStatus]:
    """Return who works on a run, or died of it, by what tells one from another."""
    if is_remote(run.path):
        return {each.name: _remote_worker(each) for each in remote_leases(run)}
    return {each.holder.token: _worker(each, now_s) for each in leases(run)}


def _worker(seen: Seen, now_s: float) -> WorkerStatus:
    return WorkerStatus(
        where=seen.holder.where,
        part=seen.holder.part,
        parts=seen.holder.parts,
        since=seen.holder.since,
        heartbeat_s=round(max(0.0, now_s - seen.touched_s), 1),
        alive=seen.is_alive(now_s),
    )


def _remote_worker(seen: RemoteSeen) -> WorkerStatus:
    host, pid = host_and_process(seen.owner)
    return WorkerStatus(
        where=f"{host}:{pid}",
        part=seen.part,
        parts=seen.parts,
        since=seen.since,
        heartbeat_s=round(seen.age_s, 1),
        alive=seen.is_alive,
    )


def _rates(
    run: RunDirectory, slides: tuple[SlideStatus, ...], began_s: float, now_s: float
) -> tuple[float, float, float | None]:
    """Return tiles/s and bytes/s of the commands that run, and the seconds that they still need."""
    ended = [slide for slide in slides if slide.state == "done"]
    fresh = [slide for slide in ended if _written_s(run.record(slide.slide_id)) >= began_s]
    cut = [(slide.tiles, slide.stored_bytes) for slide in fresh]
    under_way = [run.work(slide.slide_id) for slide in slides if slide.state == "running"]
    cut += [_units(work, since_s=began_s) for work in under_way]
    took_s = max(now_s - began_s, 1.0)
    tiles_per_s, bytes_per_s = (
        (sum(each) / took_s for each in zip(*cut, strict=True)) if cut else (0.0, 0.0)
    )
    if not ended or not tiles_per_s:
        return tiles_per_s, bytes_per_s, None
    usual = sum(slide.tiles for slide in ended) / len(ended)
    open_slides = [slide for slide in slides if slide.state in {"running", "interrupted", "left"}]
    planned = (
        usual if slide.tiles_planned is None else slide.tiles_planned for slide in open_slides
    )
    tiles_left = max(0.0, sum(planned) - sum(slide.tiles for slide in open_slides))
    return tiles_per_s, bytes_per_s, tiles_left / tiles_per_s


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
