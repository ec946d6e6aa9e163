"""Tiles of a run as plain JPEG files in folders, or as tar files of a WebDataset."""

import io
import json
import math
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.manifest import read_manifest
from wsi_pipeline.slides.names import safe_names
from wsi_pipeline.stages.export_config import NO_LABEL, Exported, TileSource

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """One tile of a WebDataset."""

    key: str
    jpeg: bytes
    row: Mapping[str, Any]
    """Of the manifest."""


def export_folder(source: TileSource, *, folder: Path) -> Exported:
    """Write LABEL/SLIDE_x_y.jpg, or SLIDE/SLIDE_x_y.jpg without labels, and metadata.parquet beside them."""
    labels = _labels(source)
    folders = safe_names([*labels, _NOBODY] if labels else [])
    slides = safe_names(source.selection.slides())
    schema = source.selection.schema.append(pa.field("path", pa.string()))
    files = 0
    with pq.ParquetWriter(folder / "metadata.parquet", schema, compression="zstd") as writer:
        for slide_id, table in source.selection.tables():
            files_of = _file_names(slides[slide_id], table)
            above = _folders_of(table, folders, otherwise=slides[slide_id])
            rows, paths = [], []
            for row, data in source.jpegs(slide_id, table):
                path = f"{above[row]}/{files_of[row]}.jpg"
                (folder / above[row]).mkdir(exist_ok=True)
                (folder / path).write_bytes(data)
                rows.append(row)
                paths.append(path)
            files += len(paths)
            kept = table.take(pa.array(rows, type=pa.int64()))
            writer.write_table(
                kept.append_column(schema.field("path"), pa.array(paths, pa.string()))
            )
    return _exported("folder", folder, source, files=files + 1, tiles=files)


def export_webdataset(source: TileSource, *, folder: Path) -> Exported:
    """Write 000000.tar and so on, each tile as KEY.jpg, KEY.json and, where it has a label, KEY.cls.

    ``classes.json`` says which number each label is: itself where all labels are whole numbers.
    """
    numbers = _class_numbers(_labels(source))
    if numbers:
        text = json.dumps(numbers, indent=2, ensure_ascii=False) + "\n"
        (folder / "classes.json").write_text(text, encoding="utf-8")
    samples, size = _samples(source), source.config.shard_size
    tiles = shards = 0
    for first in samples:
        # PAX keeps names of any length and letters; plain names are as in USTAR.
        with tarfile.open(folder / f"{shards:06d}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for sample in chain([first], islice(samples, size - 1)):
                _add_sample(tar, sample, numbers)
                tiles += 1
        shards += 1
    return _exported("webdataset", folder, source, files=shards + bool(numbers), tiles=tiles)


_NOBODY = f"{NO_LABEL}\0"
"""Stands for no label among the names of folders; no label can be it."""


def _exported(kind: str, folder: Path, source: TileSource, *, files: int, tiles: int) -> Exported:
    return Exported(
        kind=kind,
        folder=str(folder),
        files=files,
        tiles=tiles,
        problems=tuple(source.problems),
        notes=source.notes(),
    )


def _labels(source: TileSource) -> list[str]:
    """Return all labels that tiles of the run have, meant or not, so that a part has the same numbers."""
    if "label" not in source.selection.schema.names:
        return []
    labels = read_manifest(source.selection.run_path, columns=["label"]).column("label")
    found = labels.unique().cast(pa.string()).to_pylist()
    return sorted(label for label in found if label is not None)


def _file_names(slide: str, table: pa.Table) -> list[str]:
    """Return SLIDE_x_y of each tile, or SLIDE_TILE where two have the same place, as imported ones do."""
    places = list(zip(table.column("x").to_pylist(), table.column("y").to_pylist(), strict=True))
    if len(set(places)) == len(places):
        return [f"{slide}_{x}_{y}" for x, y in places]
    return [f"{slide}_{tile:07d}" for tile in table.column("tile").to_pylist()]


def _folders_of(table: pa.Table, folders: Mapping[str, str], *, otherwise: str) -> list[str]:
    if not folders:
        return [otherwise] * len(table)
    labels = table.column("label").cast(pa.string()).to_pylist()
    return [folders[_NOBODY if label is None else label] for label in labels]


def _class_numbers(labels: Sequence[str]) -> dict[str, int]:
    """Return the number of each label.

    >>> _class_numbers(["stroma", "tumour"]), _class_numbers(["0", "1"])
    ({'stroma': 0, 'tumour': 1}, {'0': 0, '1': 1})
    """
    if all(label.isdecimal() and str(int(label)) == label for label in labels):
        return {label: int(label) for label in labels}
    return {label: number for number, label in enumerate(labels)}


def _samples(source: TileSource) -> Iterator[_Sample]:
    # A reader of tar files takes what stands before the first point for the key.
    slides = safe_names(source.selection.slides(), signs="-_+=")
    for slide_id, table in source.selection.tables():
        for first in range(0, len(table), _ROWS_AT_ONCE):
            part = table.slice(first, _ROWS_AT_ONCE)
            rows = part.to_pylist()
            for row, data in source.jpegs(slide_id, part):
                key = f"{slides[slide_id]}_{rows[row]['tile']:07d}"
                yield _Sample(key=key, jpeg=data, row=rows[row])


def _add_sample(tar: tarfile.TarFile, sample: _Sample, numbers: Mapping[str, int]) -> None:
    about = {name: _plain(value) for name, value in sample.row.items()}
    _add(tar, f"{sample.key}.jpg", sample.jpeg)
    text = json.dumps(about, ensure_ascii=False, sort_keys=True)
    _add(tar, f"{sample.key}.json", text.encode())
    if (label := sample.row.get("label")) is not None:
        _add(tar, f"{sample.key}.cls", str(numbers[str(label)]).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file that nobody owns and that is of no time, so the same tiles give the same bytes."""
    about = tarfile.TarInfo(name)
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data))


def _plain(value: object) -> object:
    """Return a value as JSON has it: no number for what is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return (
        value
        if isinstance(value, (bool, int, float, str, list, dict)) or value is None
        else str(value)
    )
