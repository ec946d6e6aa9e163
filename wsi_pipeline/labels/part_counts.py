"""What the parts of a split hold: patients, slides, tiles, tiles of each label, scanners."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from wsi_pipeline.labels.strata import COUNT, SHARE, tiles_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCount:
    """One part of one repeat."""

    repeat: int
    part: str
    """train, validation, test, or ``fold 0`` and so on, which are parts of train."""
    groups: int
    patients: int
    slides: int
    tiles: int
    labels: dict[str, int]
    """Tiles with each label; tiles' worth of each class where there are shares only."""
    scanners: dict[str, int]
    """Slides of each scanner."""
    centres: dict[str, int]
    """Slides of each centre."""


def part_counts(table: pd.DataFrame, slides: pd.DataFrame) -> tuple[PartCount, ...]:
    """Return what every part holds, by repeat; folds after train.

    Parameters
    ----------
    table
        Of a ``splits.SplitPlan``.
    slides
        What it was made from.
    """
    lacking = slides.columns.difference(table.columns).tolist()
    both = table.merge(slides[["slide_id", *lacking]], on="slide_id", how="left", validate="m:1")
    return tuple(_counted(repeat, part, rows) for repeat, part, rows in _parts(both))


def absences(counts: Sequence[PartCount], *, but: Collection[str] = ()) -> list[str]:
    """Return a sentence for every label, and scanner, that one part has none of and others have.

    ``but`` names columns that are divided on purpose.
    """
    sentences = []
    for kind in ("labels", "scanners") if "scanner" not in but else ("labels",):
        known = {name for count in counts for name in getattr(count, kind)}
        for count in counts:
            for name in sorted(known - getattr(count, kind).keys()):
                where = f"repeat {count.repeat}: " if count.repeat > 1 else ""
                what = "no tile with label" if kind == "labels" else "no slide of scanner"
                sentences.append(f"{where}{count.part} has {what} {name}")
    return sentences


def _parts(both: pd.DataFrame) -> Iterator[tuple[int, str, pd.DataFrame]]:
    for repeat in sorted(both["repeat"].unique().tolist()):
        own = both[both["repeat"] == repeat]
        for part in ("train", "validation", "test"):
            rows = own[own["split"] == part]
            if len(rows):
                yield int(repeat), part, rows
            if part == "train":
                for fold in sorted(own["fold"].dropna().unique().tolist()):
                    yield int(repeat), f"fold {fold}", own[own["fold"] == fold]


def _counted(repeat: int, part: str, rows: pd.DataFrame) -> PartCount:
    return PartCount(
        repeat=repeat,
        part=part,
        groups=int(rows["group"].nunique()),
        patients=int(rows["patient_id"].nunique()),
        slides=len(rows),
        tiles=int(tiles_of(rows).sum()),
        labels=_labels(rows),
        scanners=_values(rows, "scanner"),
        centres=_values(rows, "centre"),
    )


def _labels(rows: pd.DataFrame) -> dict[str, int]:
    """Return tiles by label; without labels of tiles tiles' worth of classes, or tiles of labelled slides."""
    tiles = tiles_of(rows)
    for prefix, scale in ((COUNT, 1.0), (SHARE, tiles)):
        names = sorted(str(name) for name in rows.columns if str(name).startswith(prefix))
        if names:
            held = {
                name.removeprefix(prefix): round(float((rows[name].fillna(0) * scale).sum()))
                for name in names
            }
            return {name: count for name, count in held.items() if count}
    if "label" not in rows:
        return {}
    sums = (
        pd.Series(tiles, index=rows.index).groupby(rows["label"].map(str, na_action="ignore")).sum()
    )
    return {str(name): int(count) for name, count in sums.items()}


def _values(rows: pd.DataFrame, name: str) -> dict[str, int]:
    if name not in rows:
        return {}
    counts = rows[name].dropna().map(str).value_counts()
    return {str(value): int(counts[value]) for value in sorted(counts.index)}
