"""The sections of the report, from tables to what is shown; what was not run says what to type."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wsi_pipeline.labels.leakage import Audit
from wsi_pipeline.report.html import bytes_text
from wsi_pipeline.report.parts import (
    Beside,
    Cell,
    Facts,
    Field,
    Notice,
    Part,
    Section,
    Table,
    Todo,
)
from wsi_pipeline.stages.report_cohort import Cohort, cohort_table
from wsi_pipeline.stages.report_tiles import RunTiles, rules_of

_MOST_REASONS = 100
_MISSING = {
    "label": (
        "Tiles have no labels. Annotations become a column with",
        "label {} --annotations DIR",
    ),
    "split": ("Nothing is divided for training yet. Patients are, with", "split {}"),
}
"""What is said where a column is not there, and the command that adds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that the page is made from."""

    name: str
    """Of the run's folder."""
    about: Mapping[str, Any] = field(repr=False)
    """run.json."""
    cohort: Cohort
    tiles: RunTiles | None
    summaries: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """What later stages said of themselves, by their names."""
    audit: Audit | None = field(repr=False)
    """Of the split; None where nothing is divided."""

    def command(self, line: str) -> str:
        """Return a command to type, the run in place of ``{}``."""
        return f"wsi-pipeline {line.format(shlex.quote(self.name))}"


def summary(known: Known) -> Section:
    """Return what the run is and how much there is of it."""
    cohort = known.cohort
    done = cohort.with_status("done")
    mpps = sorted({f"{row['mpp']:.3g}" for row in done if row.get("mpp")})
    facts = [
        ("slides done", f"{len(done)} of {len(cohort.rows)}"),
        ("slides failed", str(len(cohort.with_status("failed")))),
        ("tiles", _grouped(cohort.total("tiles"))),
        ("tiles unreadable", _grouped(cohort.total("tiles_unreadable"))),
        *_counts(cohort),
        ("pixels stored", bytes_text(cohort.total("stored_bytes"))),
        ("µm per pixel", _range(mpps)),
    ]
    return Section(
        name="summary",
        title="Summary",
        parts=(Facts(items=tuple(facts)), *_state(known)),
    )


def settings(known: Known) -> Section:
    """Return what the run was asked to do and what made it."""
    tables = Beside(tables=(*_settings(known), _versions(known)))
    return Section(name="settings", title="Settings and versions", parts=(tables,))


def _counts(cohort: Cohort) -> list[tuple[str, str]]:
    named = (("patients", "patient_id"), ("scanners", "scanner"), ("centres", "centre"))
    return [(label, str(len(values))) for label, name in named if (values := cohort.distinct(name))]


def _range(values: list[str]) -> str:
    if not values:
        return "not known"
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _state(known: Known) -> list[Part]:
    if known.about.get("ended"):
        return []
    text = "The last tile command has not ended: slides may be missing here."
    return [Notice(text=text, kind="warning")]


def _settings(known: Known) -> Iterator[Table]:
    """Yield a table for each command that has made something of the run."""
    for command, about in (("tile", known.about), *sorted(known.summaries.items())):
        values = about.get("config") or about.get("settings") or {}
        rows = [(str(key), _said(value)) for key, value in values.items()]
        rows.append(("digest of these", _said(about.get("config_digest"))))
        fields = (Field(label="setting"), Field(label="value"))
        yield Table(caption=f"Settings of {command}", fields=fields, rows=rows)


def _versions(known: Known) -> Table:
    versions = known.about.get("versions", {})
    rows = [(str(name), str(version)) for name, version in versions.items()]
    rows += [(what, str(known.about.get(what) or "not yet")) for what in ("started", "ended")]
    return Table(
        caption="What made it",
        fields=(Field(label="library"), Field(label="version")),
        rows=rows,
    )


def _said(value: object) -> str:
    if value is None or value in ((), [], {}):
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_said(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(each) for each in value)
    return str(value)


def problems(known: Known) -> Section:
    """Return slides that failed or were left out, and tiles that could not be read, each with its reason."""
    parts: list[Part] = []
    for status, caption in (("failed", "Slides that failed"), ("skipped", "Left out")):
        if rows := known.cohort.with_status(status):
            parts.append(_reasons_of_slides(rows, status, caption))
    if known.tiles is not None and (table := _unreadable(known.tiles)):
        parts.append(table)
    if noted := [row for row in known.cohort.with_status("done") if row.get("reason")]:
        parts.append(_reasons_of_slides(noted, "noted", "Done, with something to be known"))
    noted_by = [
        (stage, text)
        for stage, said in sorted(known.summaries.items())
        for text in _problems_of(said)[:_MOST_REASONS]
    ]
    parts += _lost_later(known)
    if not parts:
        text = "No slide failed, none was left out, and every tile could be read."
        parts.append(Notice(text=text, kind="good"))
    if noted_by:
        fields = (Field(label="command"), Field(label="what it said"))
        caption = "What later commands found worth saying"
        parts.append(Table(name="said", caption=caption, fields=fields, rows=noted_by))
    return Section(name="problems", title="Failures and reasons", parts=tuple(parts))


def _lost_later(known: Known) -> Iterator[Notice]:
    """Yield what ``label`` could not use and what ``qc`` left nothing of, as the two said."""
    for stage, key, text in (
        ("label", "failed", "Without labels, for their annotations cannot be used"),
        ("qc", "slides_without_tiles", "Left without a single good tile by qc"),
    ):
        if names := known.summaries.get(stage, {}).get(key):
            yield Notice(text=f"{text}: {', '.join(map(str, names))}.", kind="warning")


def _reasons_of_slides(rows: list[Mapping[str, Any]], name: str, caption: str) -> Table:
    return Table(
        name=f"{name}-slides",
        caption=f"{caption} ({len(rows)})",
        fields=(Field(label="slide"), Field(label="reason"), Field(label="file")),
        rows=[(str(row["slide_id"]), row.get("reason"), str(row["path"])) for row in rows],
    )


def _unreadable(tiles: RunTiles) -> Table | None:
    lost = tiles.holds("status", "unreadable")
    if not lost.any():
        return None
    words, at = tiles.words("reason")
    slides = np.searchsorted(tiles.starts, np.flatnonzero(lost), side="right") - 1
    counts = Counter(
        (tiles.slide_ids[slide], words[word] if word >= 0 else "")
        for slide, word in zip(slides.tolist(), at[lost].tolist(), strict=True)
    )
    rows = [(slide, count, reason) for (slide, reason), count in sorted(counts.items())]
    fields = (
        Field(label="slide"),
        Field(label="tiles", kind="number"),
        Field(label="reason"),
    )
    caption = (
        f"Tiles that could not be read ({int(lost.sum())}); none of them is black or white instead"
    )
    return Table(name="unreadable", caption=caption, fields=fields, rows=rows)


def _problems_of(said: Mapping[str, Any]) -> list[str]:
    """Return the sentences that a command left about what it found odd or could not do."""
    found = [_said(each) for each in said.get("problems") or []]
    found += [f"{what}: {_said(names)}" for what, names in (said.get("lists") or {}).items()]
    for slide in said.get("slides") or []:
        findings = [each["text"] for each in slide.get("findings") or []]
        found += [
            f"{slide['slide_id']}: {each}" for each in (slide.get("reason"), *findings) if each
        ]
    return found


def slides(known: Known) -> Section:
    """Return the table of slides."""
    return Section(name="slides", title="Slides", parts=(cohort_table(known.cohort, known.tiles),))


def labels_and_splits(known: Known) -> Section:
    """Return how many tiles, slides and patients each label and each part of the split has."""
    tiles = known.tiles
    todos: list[Part] = []
    counted: list[Table] = []
    for name, (text, command) in _MISSING.items():
        if tiles is None or not tiles.has(name):
            todos.append(Todo(text=text, command=known.command(command)))
        else:
            counted.append(_counted(tiles, name, name.capitalize()))
    crossed: list[Table] = []
    if tiles is not None and tiles.has("split"):
        named = (("label", "labels"), ("scanner", "scanners"), ("centre", "centres"))
        crossed = [_crossed(tiles, "split", name, what) for name, what in named if tiles.has(name)]
    shown = [Beside(tables=tuple(tables)) for tables in (counted, crossed) if tables]
    return Section(name="labels", title="Labels and split", parts=(*shown, *todos))


def _counted(tiles: RunTiles, name: str, caption: str) -> Table:
    words, at = tiles.words(name)
    slide = np.repeat(np.arange(len(tiles.slide_ids)), np.diff(tiles.starts))
    patient = tiles.words("patient_id")[1] if tiles.has("patient_id") else None
    fields = [
        Field(label=name),
        Field(label="tiles", kind="number"),
        Field(label="share", kind="share"),
        Field(label="slides", kind="number"),
    ]
    if patient is not None:
        fields.append(Field(label="patients", kind="number"))
    rows: list[tuple[Cell, ...]] = []
    for place, word in [*enumerate(words), (-1, f"no {name}")]:
        held = at == place
        count = int(held.sum())
        if count == 0:
            continue
        row: list[Cell] = [word, count, count / len(at), len(np.unique(slide[held]))]
        if patient is not None:
            known = patient[held]
            row.append(len(np.unique(known[known >= 0])))
        rows.append(tuple(row))
    rows.sort(key=lambda row: _rank(str(row[0])))
    return Table(name=f"{name}-counts", caption=caption, fields=tuple(fields), rows=rows)


def _crossed(tiles: RunTiles, name: str, other: str, what: str) -> Table:
    """Return the share of each word of another column in each word of one."""
    words, at = tiles.words(name)
    others, of = tiles.words(other)
    counts = np.zeros((len(words) + 1, len(others) + 1), dtype=np.int64)  # the last ones have none
    np.add.at(counts, (at, of), 1)
    shown = [place for place in range(len(others) + 1) if counts[:-1, place].any()]
    labels = [*others, f"no {other}"]
    fields = [Field(label=name)]
    fields += [Field(label=labels[place], kind="share") for place in shown]
    rows: list[tuple[Cell, ...]] = [
        (word, *(float(counts[place, each] / counts[place].sum()) for each in shown))
        for place, word in enumerate(words)
        if counts[place].any()
    ]
    rows.sort(key=lambda row: _rank(str(row[0])))
    caption = f"Share of {what} among the tiles of each part"
    return Table(name=f"{name}-{other}", caption=caption, fields=tuple(fields), rows=rows)


def _rank(word: str) -> tuple[int, str]:
    order = ("train", "validation", "test")
    last = word.startswith("no ")
    return (order.index(word) if word in order else len(order) + last, word)


def quality(known: Known) -> Section:
    """Return how many tiles each rule marks, in all and on each slide."""
    tiles = known.tiles
    parts: list[Part] = []
    if tiles is None or not tiles.has("outlier"):
        text = "No tile has been looked at for blur, lost data, pen or folds. They are marked with"
        parts.append(Todo(text=text, command=known.command("qc {}")))
        return Section(name="quality", title="Quality", parts=tuple(parts))
    marked = tiles.holds("outlier", "yes")
    parts += _left_with_none(tiles, marked)
    parts += [_by_rule(tiles, marked), _by_slide(tiles, marked), *_clusters(known)]
    return Section(name="quality", title="Quality", parts=tuple(parts))


def _left_with_none(tiles: RunTiles, marked: "np.ndarray[Any, Any]") -> list[Part]:
    left = tiles.sums(~marked & tiles.ok)
    bare = [
        name
        for name, count, all_ in zip(tiles.slide_ids, left, np.diff(tiles.starts), strict=True)
        if count == 0 and all_ > 0
    ]
    if not bare:
        return []
    text = f"Left without a single good tile: {', '.join(bare)}. Look at them before training."
    return [Notice(text=text, kind="warning")]


def _by_rule(tiles: RunTiles, marked: "np.ndarray[Any, Any]") -> Table:
    named = [(rule, tiles.holds(f"qc_{rule}", "yes")) for rule in rules_of(tiles)]
    named.append(("any of them, or a marked cluster", marked))
    total = max(1, len(marked))
    rows = [
        (rule, int(held.sum()), float(held.sum() / total), int((tiles.sums(held) > 0).sum()))
        for rule, held in named
    ]
    fields = (
        Field(label="rule"),
        Field(label="tiles", kind="number"),
        Field(label="share", kind="share"),
        Field(label="slides", kind="number"),
    )
    caption = "Tiles that each rule marks; none is deleted, and one may be marked by several"
    return Table(name="rules", caption=caption, fields=fields, rows=rows)


def _by_slide(tiles: RunTiles, marked: "np.ndarray[Any, Any]") -> Table:
    rules = [rule for rule in rules_of(tiles) if tiles.holds(f"qc_{rule}", "yes").any()]
    columns = [tiles.sums(tiles.holds(f"qc_{rule}", "yes")).tolist() for rule in rules]
    counts, outliers = np.diff(tiles.starts).tolist(), tiles.sums(marked).tolist()
    rows = [
        (
            slide_id,
            counts[at],
            outliers[at],
            outliers[at] / max(1, counts[at]),
            *(column[at] for column in columns),
        )
        for at, slide_id in enumerate(tiles.slide_ids)
    ]
    fields = [
        Field(label="slide"),
        Field(label="tiles", kind="number"),
        Field(label="outliers", kind="number"),
        Field(label="share", kind="share"),
        *(Field(label=rule, kind="number") for rule in rules),
    ]
    return Table(name="outliers", caption="The same, by slide", fields=tuple(fields), rows=rows)


def _clusters(known: Known) -> list[Part]:
    found = known.summaries.get("qc", {}).get("clusters") or []
    if not found:
        return []
    fields = (
        Field(label="cluster", kind="number"),
        Field(label="tiles", kind="number"),
        Field(label="share", kind="share"),
        Field(label="slides", kind="number"),
        Field(label="sharpness, log10", kind="number", digits=2),
        Field(label="marked"),
    )
    names = ("cluster", "tiles", "share", "slides", "sharpness", "marked")
    rows = [tuple(each.get(name) for name in names) for each in found]
    caption = "Clusters of tiles with alike metrics; a picture of each is in RUN/qc"
    return [Table(name="clusters", caption=caption, fields=fields, rows=rows)]


def _grouped(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")
