"""Groups whose part is settled: by an earlier split of the same run, or by a list made by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.draw import FREE
from wsi_pipeline.labels.groups import Groups, listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where groups were before, per repeat."""

    parts: tuple[NDArray[np.int64], ...]
    """``(groups,)`` each; ``FREE`` for a group that is new."""
    folds: tuple[NDArray[np.int64], ...]
    """Likewise."""
    problems: list[str]


def kept_parts(
    slides: pd.DataFrame,
    groups: Groups,
    before: pd.DataFrame | None,
    *,
    parts: Sequence[str],
    repeats: int,
) -> Kept:
    """Return where an earlier split has the groups, known by their slides or by their patients.

    Raises
    ------
    ConfigError
        What is one group now was in several parts.
    """
    none = tuple(np.full(len(groups.names), FREE, dtype=np.int64) for _ in range(repeats))
    kept = Kept(parts=none, folds=tuple(each.copy() for each in none), problems=[])
    if before is None:
        return kept
    group_of = _Groups.known(slides, groups)
    gone = set()
    for row in before.to_dict("records"):
        group = group_of.find(row.get("slide_id"), row.get("patient_id"))
        if group is None:
            gone.add(str(row["slide_id"]))
        elif int(row["repeat"]) <= repeats:
            number = int(row["repeat"]) - 1
            _settle(kept.parts[number], group, parts.index(str(row["split"])), groups)
            fold = row.get("fold")
            if fold is not None and not pd.isna(fold):
                _settle(kept.folds[number], group, int(fold), groups)
    if gone:
        kept.problems.append(
            f"{len(gone)} slides of the earlier split are not in this run any more: {listed(sorted(gone))}"
        )
    return kept


def parts_of_list(
    slides: pd.DataFrame, groups: Groups, user_list: pd.DataFrame, *, parts: Sequence[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the part of every group from a list, and what of the list was not used.

    Raises
    ------
    ConfigError
        A column is missing, a word is no part, a slide is not in the list, or a group is divided.
    """
    _check_list(user_list, parts)
    by_slide, by_patient = (_splits_by(user_list, name) for name in ("slide_id", "patient_id"))
    chosen = np.full(len(groups.names), FREE, dtype=np.int64)
    lacking, divided, used = [], set(), set()
    for row, group in zip(slides.to_dict("records"), groups.of_slide.tolist(), strict=True):
        slide_id, patient = str(row["slide_id"]), str(row.get("patient_id"))
        found = by_slide.get(slide_id) or by_patient.get(patient)
        used |= {slide_id, patient}
        if not found:
            lacking.append(slide_id)
            continue
        numbers = {parts.index(word) for word in found}
        if len(numbers) > 1 or chosen[group] not in {FREE, *numbers}:
            divided.add(groups.names[group])
        chosen[group] = min(numbers)
    _refuse_list(lacking, sorted(divided))
    unused = sorted((by_slide.keys() or by_patient.keys()) - used)
    note = f"{len(unused)} names of the list are not in this run: {listed(unused)}"
    return chosen, [note] if unused else []


def _check_list(user_list: pd.DataFrame, parts: Sequence[str]) -> None:
    names = ", ".join(map(str, user_list.columns))
    if "split" not in user_list or not {"slide_id", "patient_id"} & set(user_list.columns):
        raise ConfigError(f"list: expected columns split and patient_id or slide_id, got {names}")
    words = user_list["split"].map(str, na_action="ignore").fillna("nothing")
    if wrong := sorted(set(words) - set(parts)):
        row = int(np.flatnonzero(words == wrong[0])[0]) + 1
        raise ConfigError(
            f"list, row {row}: split: expected {', '.join(parts[:-1])} or {parts[-1]}, got {wrong[0]!r}"
        )


def _refuse_list(lacking: list[str], divided: list[str]) -> None:
    if divided:
        raise ConfigError(
            f"leakage: the list has {listed(divided)} in several parts; a patient, and a file under several "
            "names, may be in one only"
        )
    if lacking:
        raise ConfigError(
            f"list: says nothing of {len(lacking)} slides ({listed(lacking)}); add them, each with its part"
        )


def _splits_by(user_list: pd.DataFrame, name: str) -> dict[str, set[str]]:
    if name not in user_list:
        return {}
    known = user_list[user_list[name].notna()]
    found: dict[str, set[str]] = {}
    for key, word in zip(known[name].map(str), known["split"].map(str), strict=True):
        found.setdefault(key, set()).add(word)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Groups:
    """Finds a group by a slide or patient of it."""

    by_slide: Mapping[str, int]
    by_patient: Mapping[str, int]

    @classmethod
    def known(cls, slides: pd.DataFrame, groups: Groups) -> "_Groups":
        numbers = groups.of_slide.tolist()
        nobody = pd.Series([None] * len(slides), dtype=object)
        patients = slides.get("patient_id", nobody)
        return cls(
            by_slide=dict(zip(slides["slide_id"].map(str), numbers, strict=True)),
            by_patient={
                str(patient): number
                for patient, number in zip(patients, numbers, strict=True)
                if not pd.isna(patient)
            },
        )

    def find(self, slide_id: Any, patient: Any) -> int | None:  # noqa: ANN401  cells of a table
        number = self.by_slide.get(str(slide_id))
        return self.by_patient.get(str(patient)) if number is None else number


def _settle(settled: NDArray[np.int64], group: int, part: int, groups: Groups) -> None:
    if settled[group] not in (FREE, part):
        raise ConfigError(
            f"{groups.names[group]}: its slides belong together now and were in several parts of the earlier "
            "split; --overwrite draws all again"
        )
    settled[group] = part
