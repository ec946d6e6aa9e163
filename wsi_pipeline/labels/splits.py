"""Slides into train, validation and test: no patient divided, alike in labels and scanners, repeatable.

>>> import pandas as pd
>>> slides = pd.DataFrame({"slide_id": list("abcdef"), "patient_id": list("112345"), "tiles": 10})
>>> plan = split_slides(slides, SplitConfig(test=1, validation=1))
>>> plan.table.groupby("split")["group"].nunique().to_dict()
{'test': 1, 'train': 3, 'validation': 1}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.draw import FREE, draw, keys_of
from wsi_pipeline.labels.earlier import kept_parts, parts_of_list
from wsi_pipeline.labels.groups import Groups, groups_of, listed
from wsi_pipeline.labels.split_config import SplitConfig
from wsi_pipeline.labels.strata import stratum_features

PARTS = ("train", "validation", "test")
"""The words of the column ``split``; a part's number is its place here."""

_TRAIN, _VALIDATION, _TEST = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """Which slide is in which part."""

    table: pd.DataFrame
    """One row per slide and repeat, by repeat and slide_id: ``slide_id, patient_id, group, repeat`` (from
    1), ``split``, ``fold`` (from 0; null without folds and in the test part)."""
    kept: int
    """Groups that are where they were before."""
    drawn: int
    """Groups that were drawn now."""
    problems: tuple[str, ...]
    """What a person should know, one sentence each."""


def split_slides(
    slides: pd.DataFrame,
    config: SplitConfig,
    *,
    before: pd.DataFrame | None = None,
    user_list: pd.DataFrame | None = None,
) -> SplitPlan:
    """Return a plan that divides no group; the same for the same slides in any order.

    Parameters
    ----------
    slides
        One row per slide: ``slide_id``; as far as known ``patient_id, scanner, centre, tiles``; what there is
        to be learned as ``label_share_CLASS`` (mean over its tiles), ``label_tiles_CLASS`` (counts) or
        ``label`` (a word); ``same_file``, a word that byte-equal slides share.
    config
        How to split.
    before
        The table of an earlier plan: groups that it names stay where they are.
    user_list
        Content of ``config.from_file``.

    Raises
    ------
    ConfigError
        A patient is not known, more groups are asked for than there are, or a list or an earlier plan
        would divide a group.
    """
    slides = slides.sort_values("slide_id", ignore_index=True)
    groups = groups_of(slides, config.group)
    features, problems = _features(slides, groups, config)
    if config.from_file is not None:
        if user_list is None:
            raise ValueError("from_file: expected its content as user_list, got None")
        parts, unused = parts_of_list(slides, groups, user_list, parts=PARTS)
        columns = [(parts, _no_folds(groups))]
        problems += unused
        fixed = np.zeros(len(groups.names), dtype=np.int64)
    else:
        earlier = kept_parts(slides, groups, before, parts=PARTS, repeats=config.repeats)
        problems += earlier.problems
        held = _held_out(slides, groups, config.hold_out)
        _refuse_moved(groups, held, earlier.parts)
        drawing = _Drawing(config=config, groups=groups, features=features, held=held)
        columns = [
            drawing.repeat(number, parts, folds)
            for number, (parts, folds) in enumerate(
                zip(earlier.parts, earlier.folds, strict=True), start=1
            )
        ]
        fixed = earlier.parts[0]
        problems += _said_of_repeats(columns)
    kept = int(np.sum(fixed != FREE)) if before is not None else 0
    return SplitPlan(
        table=_table(slides, groups, columns),
        kept=kept,
        drawn=len(groups.names) - kept,
        problems=tuple(problems),
    )


def split_words(repeat: int) -> tuple[str, str]:
    """Return the names of a repeat's columns in the manifest.

    >>> split_words(1), split_words(2)
    (('split', 'fold'), ('split_2', 'fold_2'))
    """
    return ("split", "fold") if repeat == 1 else (f"split_{repeat}", f"fold_{repeat}")


def _said_of_repeats(
    columns: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> list[str]:
    """Return a sentence where repeats divide the groups as earlier ones do, whatever numbers folds bear."""
    seen: dict[bytes, int] = {}
    again = [
        str(number)
        for number, (parts, folds) in enumerate(columns, start=1)
        if seen.setdefault(parts.tobytes() + pd.factorize(folds)[0].tobytes(), number) != number
    ]
    if not again:
        return []
    return [
        f"repeats: {listed(again)} of {len(columns)} divide the groups as an earlier one does, and add "
        "nothing to it: the balanced divisions of so few groups are few; ask for fewer repeats"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """What all repeats have in common."""

    config: SplitConfig
    groups: Groups
    features: NDArray[np.float64]
    held: NDArray[np.bool_]
    """Groups that are held out; none where that was not asked for."""

    def repeat(
        self, number: int, fixed: NDArray[np.int64], fixed_folds: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return part and fold of every group, ``FREE`` for no fold."""
        config = self.config
        fixed = np.where(self.held, _TEST, fixed)
        if config.hold_out:  # what is not held out is not drawn for the test part either
            sizes = self._sizes(fixed, test=int(np.sum(self.held)))
        else:
            sizes = self._sizes(fixed, test=_count(config.test, self._default_test, len(fixed)))
        draws = 1 if config.folds is not None else number
        keys = keys_of(self.groups.names, seed=config.seed, repeat=draws)
        parts = draw(keys, self.features, sizes=sizes, fixed=fixed)
        if config.folds is None:
            return parts, _no_folds(self.groups)
        return parts, self._folds(number, parts, fixed_folds)

    @property
    def _default_test(self) -> float:
        return 0.0 if self.config.folds is not None else 0.2

    def _sizes(self, fixed: NDArray[np.int64], *, test: int) -> tuple[int, int, int]:
        """Return groups for train, validation and test; the words are those of what was asked."""
        count, config = len(fixed), self.config
        rest = count - test if config.hold_out else count
        validation = 0 if config.folds is not None else _count(config.validation, 0.1, rest)
        train = count - test - validation
        least = config.folds or 1
        if train < least:
            raise ConfigError(
                f"test {test} and validation {validation}: expected at least {least} of the {count} groups "
                f"(group: {config.group}) to be left for {'the folds' if config.folds else 'training'}, got "
                f"{max(train, 0)}; ask for fewer, or add slides of other patients"
            )
        return train, validation, test

    def _folds(
        self, number: int, parts: NDArray[np.int64], fixed: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        folds = _no_folds(self.groups)
        inside = np.flatnonzero(parts != _TEST)
        count = self.config.folds or 1
        sizes = [len(inside) // count + (each < len(inside) % count) for each in range(count)]
        keys = keys_of(self.groups.names, seed=self.config.seed, repeat=number)
        folds[inside] = draw(keys[inside], self.features[inside], sizes=sizes, fixed=fixed[inside])
        return folds


def _count(asked: float | None, default: float, groups: int) -> int:
    """Return groups from a number or share of them; a share gives one at least."""
    value = default if asked is None else asked
    if isinstance(value, int):
        return value
    return max(1, round(value * groups)) if value else 0


def _no_folds(groups: Groups) -> NDArray[np.int64]:
    return np.full(len(groups.names), FREE, dtype=np.int64)


def _features(
    slides: pd.DataFrame, groups: Groups, config: SplitConfig
) -> tuple[NDArray[np.float64], list[str]]:
    """Return what each group holds, ``(groups, features)``, and what could not be looked at."""
    asked = "stratify" in config.model_fields_set
    of_slides, lacking = stratum_features(slides, config.stratify)
    if lacking and asked:
        known = sorted(
            {"label", *map(str, slides.columns)} - {"slide_id", "patient_id", "same_file"}
        )
        raise ConfigError(
            f"stratify: no slide has {listed(lacking)}; there are {', '.join(known)} "
            "(label is there after wsi-pipeline label)"
        )
    features = np.zeros((len(groups.names), of_slides.shape[1]))
    np.add.at(features, groups.of_slide, of_slides)
    drawn = config.from_file is None
    return features, [f"not stratified by {name}: no slide has it" for name in lacking if drawn]


def _held_out(slides: pd.DataFrame, groups: Groups, hold_out: Sequence[str]) -> NDArray[np.bool_]:
    """Return which groups have a slide that is held out."""
    held = np.zeros(len(groups.names), dtype=np.bool_)
    for text in hold_out:
        name, _, value = text.partition("=")
        if name not in slides.columns:
            known = ", ".join(sorted(map(str, slides.columns)))
            raise ConfigError(f"hold_out: expected a column of the slides ({known}), got {name!r}")
        words = slides[name].map(str, na_action="ignore")
        matches = (words == value).to_numpy(dtype=np.bool_, na_value=False)
        if not matches.any():
            values = listed(sorted(set(words.dropna())))
            raise ConfigError(f"hold_out: no slide has {text}; {name} is one of {values}")
        held[groups.of_slide[matches]] = True
    if held.all() and len(held):
        raise ConfigError(
            f"hold_out: every group has a slide with {' or '.join(hold_out)}, nothing is left for training; "
            "split by patient, train on split == 'train' without these slides and test on them alone"
        )
    return held


def _refuse_moved(
    groups: Groups, held: NDArray[np.bool_], before: Sequence[NDArray[np.int64]]
) -> None:
    """Refuse to hold out what was in another part before."""
    moved = {
        groups.names[number]
        for parts in before
        for number in np.flatnonzero(held & (parts != FREE) & (parts != _TEST))
    }
    if moved:
        raise ConfigError(
            f"hold_out: {listed(sorted(moved))} had no such slide in the earlier split and was not in its "
            "test part; --overwrite draws all again"
        )


def _table(
    slides: pd.DataFrame,
    groups: Groups,
    columns: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> pd.DataFrame:
    names = np.array(groups.names, dtype=object)[groups.of_slide]
    nobody = pd.Series([None] * len(slides), dtype=object)
    patients = slides.get("patient_id", nobody)
    tables = [
        pd.DataFrame(
            {
                "slide_id": slides["slide_id"].astype(str),
                "patient_id": patients.astype(object),
                "group": names,
                "repeat": np.int16(number),
                "split": np.array(PARTS, dtype=object)[parts[groups.of_slide]],
                "fold": pd.array(_nullable(folds[groups.of_slide]), dtype="Int8"),
            }
        )
        for number, (parts, folds) in enumerate(columns, start=1)
    ]
    return pd.concat(tables, ignore_index=True)


def _nullable(folds: NDArray[np.int64]) -> list[int | None]:
    return [None if fold == FREE else fold for fold in folds.tolist()]


def split_columns(table: pd.DataFrame) -> Mapping[str, dict[str, Any]]:
    """Return the columns of the manifest by slide_id, ``{slide_id: {column: value}}``."""
    has_folds = bool(table["fold"].notna().any())
    columns: dict[str, dict[str, Any]] = {}
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        split, fold = split_words(int(row["repeat"]))
        own = columns.setdefault(str(row["slide_id"]), {})
        own[split] = row["split"]
        if has_folds:
            own[fold] = row["fold"]
    return columns
