"""A run directory: where everything lies, and one record per slide as the truth about it."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from wsi_pipeline.config import TileConfig, differences
from wsi_pipeline.errors import ConfigError, OutputError
from wsi_pipeline.files import Fingerprint, Sample, publish_bytes, read_bytes
from wsi_pipeline.provenance import library_versions
from wsi_pipeline.remote import check_reachable, contents, is_remote
from wsi_pipeline.schema import SCHEMA_VERSION, SLIDE_COLUMNS
from wsi_pipeline.tables import table_of_rows, write_table

SlideStatus: TypeAlias = Literal["done", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDirectory:
    """The paths of one run."""

    path: Path

    @property
    def store(self) -> Path:
        """The Zarr group."""
        return self.path / "tiles.zarr"

    @property
    def slides_table(self) -> Path:
        """One row per slide."""
        return self.path / "slides.parquet"

    @property
    def run_json(self) -> Path:
        """Settings, versions and times."""
        return self.path / "run.json"

    @property
    def manifests(self) -> Path:
        """One table per slide."""
        return self.path / "manifest"

    @property
    def overlays(self) -> Path:
        """One picture per slide."""
        return self.path / "overlays"

    @property
    def state(self) -> Path:
        """What the program keeps for itself: records, work under way, leases, tries."""
        return self.path / ".state"

    @property
    def records(self) -> Path:
        """One JSON file per slide: what slides.parquet is made from."""
        return self.state / "slides"

    def summary(self, stage: str) -> Path:
        """Return what a later stage says of itself: settings, counts, problems."""
        return self.path / f"{stage}.json"

    def array(self, slide_id: str) -> Path:
        """Return a slide's Zarr array."""
        return self.store / slide_id

    def manifest(self, slide_id: str) -> Path:
        """Return a slide's table of tiles."""
        return self.manifests / f"{slide_id}.parquet"

    def overlay(self, slide_id: str) -> Path:
        """Return the picture of a slide with its tissue and tiles."""
        return self.overlays / f"{slide_id}.jpg"

    @property
    def thumbnails(self) -> Path:
        """One small picture per slide with nothing drawn in, for the report."""
        return self.state / "thumbnails"

    def thumbnail(self, slide_id: str) -> Path:
        """Return the small picture of a slide's scanned part; runs of older versions have none."""
        return self.thumbnails / f"{slide_id}.jpg"

    def record(self, slide_id: str) -> Path:
        """Return a slide's record; where it says done, everything else is in place."""
        return self.records / f"{slide_id}.json"

    def work(self, slide_id: str) -> Path:
        """Return the folder of a slide that is being cut; gone when it is done."""
        return self.state / "work" / slide_id


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRecord:
    """What became of one slide."""

    slide_id: str
    path: str
    status: SlideStatus
    reason: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of slides.parquet, the user's own among them."""

    @property
    def tiles(self) -> int:
        """Tiles stored."""
        return int(self.values.get("tiles") or 0)

    def row(self) -> dict[str, Any]:
        """Return the slide's row of slides.parquet."""
        own = {name: getattr(self, name) for name in ("slide_id", "path", "status", "reason")}
        return {**self.values, **own}


def write_record(run: RunDirectory, record: SlideRecord) -> None:
    """Write a slide's record whole."""
    publish_bytes(run.record(record.slide_id), to_json(record.row()))


def read_record(run: RunDirectory, slide_id: str) -> SlideRecord | None:
    """Return what is known of a slide, or None where nothing is."""
    try:
        return _record(read_bytes(run.record(slide_id)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unusable(run.record(slide_id), error) from error


def _record(data: bytes) -> SlideRecord:
    row = from_json(data)
    own = {name: row.pop(name) for name in ("slide_id", "path", "status", "reason")}
    return SlideRecord(**own, values=row)


def _unusable(path: Path, error: Exception) -> OutputError:
    return OutputError(f"{path}: cannot be read ({error}); remove it to redo the slide")


def read_records(run: RunDirectory) -> list[SlideRecord]:
    """Return every slide's record, ordered by slide_id."""
    if is_remote(run.path):
        return _read_remote_records(run)
    names = sorted(path.stem for path in run.records.glob("*.json"))
    records = [read_record(run, name) for name in names]
    return [record for record in records if record is not None]


def _read_remote_records(run: RunDirectory) -> list[SlideRecord]:
    """Return every slide's record; one request after another would take minutes for 30 000."""
    records = []
    for name, data in contents(run.records, ".json").items():
        try:
            records.append(_record(data))
        except ValueError as error:
            raise _unusable(run.records / name, error) from error
    return sorted(records, key=lambda record: record.slide_id)


def write_slides_table(run: RunDirectory, records: Sequence[SlideRecord]) -> None:
    """Write slides.parquet from the records."""
    ordered = sorted(records, key=lambda record: record.slide_id)
    table = table_of_rows(SLIDE_COLUMNS, [record.row() for record in ordered])
    write_table(run.slides_table, table, metadata={"schema_version": SCHEMA_VERSION})


def publish_slides_table(
    run: RunDirectory, *, others_at_work: Callable[[], bool] = lambda: False
) -> None:
    """Write slides.parquet from all records; again, where another part has written some meanwhile.

    That is left to any part that still works, for it writes the table after this one. Where none does, no
    record comes any more but from commands that begin later, so three rounds are enough.
    """
    records = read_records(run)
    while True:
        write_slides_table(run, records)
        now_there = read_records(run)
        if now_there == records or others_at_work():
            return
        records = now_there


def record_fingerprint(record: SlideRecord) -> Fingerprint:
    """Return the source that a record was made from."""
    sample = Sample(
        size_bytes=record.values["size_bytes"],
        mtime_ns=record.values["mtime_ns"],
        sha256=record.values["fingerprint"],
    )
    return Fingerprint(sample=sample, crc32c=record.values["source_crc32c"])


def check_run_directory(run: RunDirectory, config: TileConfig, *, overwrite: bool) -> None:
    """Refuse a run directory that is a file or was made with other settings.

    Raises
    ------
    ConfigError
        The message shows every setting that differs.
    """
    if is_remote(run.path):
        check_reachable(run.path)
    for folder in (run.path,) if is_remote(run.path) else (run.path, *run.path.parents):
        if folder.exists() and not folder.is_dir():
            what = "got a file" if folder == run.path else f"{folder} is a file"
            raise ConfigError(
                f"{run.path}: expected a folder to write to, {what}; choose another with -o"
            )
    before = read_run_json(run)
    if before is None or overwrite:
        return
    changed = differences(before.get("config", {}), config.model_dump(mode="json"))
    if changed:
        raise ConfigError(
            f"{run.path} was made with other settings ({'; '.join(changed)}); "
            "use the same ones, another folder with -o, or --overwrite to redo its slides"
        )


def read_run_json(run: RunDirectory) -> dict[str, Any] | None:
    """Return what run.json says, or None where there is none."""
    try:
        content: dict[str, Any] = json.loads(read_bytes(run.run_json))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{run.run_json}: cannot be read ({error}); is {run.path} a run directory?"
        ) from error
    return content


def write_run_json(
    run: RunDirectory, config: TileConfig, *, started: str, ended: str | None
) -> None:
    """Write settings, versions and times of a run."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest(),
        "versions": library_versions(),
        "started": started,
        "ended": ended,
    }
    publish_bytes(run.run_json, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def now() -> str:
    """Return the time as run.json writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def with_columns(values: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a slide's values with the columns of the user's table; an empty scanner says nothing."""
    stated = {
        name: value for name, value in columns.items() if name != "scanner" or value is not None
    }
    measured = {name: value for name, value in values.items() if name in _MEASURED}
    return {**measured, **stated}


_MEASURED = frozenset(column.name for column in SLIDE_COLUMNS)


def to_json(values: Mapping[str, Any]) -> bytes:
    """Return columns of a slide as JSON; bytes as base64."""
    return json.dumps(values, default=_plain, ensure_ascii=False, indent=1).encode()


def from_json(data: bytes) -> dict[str, Any]:
    """Return what ``to_json`` was given."""
    values: dict[str, Any] = json.loads(data, object_hook=_restored)
    return values


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _restored(value: dict[str, Any]) -> object:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value
