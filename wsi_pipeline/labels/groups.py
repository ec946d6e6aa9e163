"""Which slides must stay together: those of a patient, of a centre, or of one and the same file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wsi_pipeline.errors import ConfigError

GroupBy: TypeAlias = Literal["patient", "slide", "centre"]

MOST_NAMES = 10
"""Names that a sentence lists before it counts the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Slides that stay together, in order of the groups' names."""

    names: tuple[str, ...]
    """Of each group: its patients, slides or centres, joined by ``+`` where there are several."""
    of_slide: NDArray[np.int64]
    """Row of the table of slides to number of the group, ``(slides,)``."""


def groups_of(slides: pd.DataFrame, by: GroupBy) -> Groups:
    """Return the smallest groups that keep every patient and every file in one piece.

    Parameters
    ----------
    slides
        One row per slide: ``slide_id``; ``patient_id`` and ``centre`` where known; ``same_file``, a word that
        byte-equal slides have in common.
    by
        What may not be divided. Slides of a patient stay together in any case, byte-equal ones too.

    Raises
    ------
    ConfigError
        A slide lacks the patient or centre that it is to be grouped by.
    """
    patients = _words(slides, "patient_id")
    _refuse_unknown(slides, patients, by)
    ties = [patients, _words(slides, "same_file")]
    if by == "centre":
        ties.append(_words(slides, "centre"))
    component = _components(len(slides), ties)
    own = _words(slides, "centre") if by == "centre" else patients
    names = _names(component, own.where(own.notna(), slides["slide_id"].astype(str)))
    order = np.argsort(names, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return Groups(names=tuple(names[number] for number in order), of_slide=rank[component])


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them.

    >>> listed(["b", "a"]), listed([str(number) for number in range(12)])[-12:]
    ('b, a', 'and 2 others')
    """
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} others" if more > 0 else "")


def _words(slides: pd.DataFrame, name: str) -> "pd.Series[str]":
    """Return a column as text; null where it is empty or there is none."""
    if name not in slides.columns:
        return pd.Series([None] * len(slides), index=slides.index, dtype=object)
    cells = [None if pd.isna(cell) else str(cell) for cell in slides[name]]
    words = [None if cell is None or not cell.strip() else cell for cell in cells]
    return pd.Series(words, index=slides.index, dtype=object)


def _refuse_unknown(slides: pd.DataFrame, patients: "pd.Series[str]", by: GroupBy) -> None:
    wanted = {"patient": [("patient_id", patients)], "slide": []}.get(
        by, [("centre", _words(slides, "centre")), ("patient_id", patients)]
    )
    for name, words in wanted:
        lacking = slides.loc[words.isna(), "slide_id"].astype(str)
        if len(lacking):
            raise ConfigError(
                f"{name}: not known of {len(lacking)} of {len(slides)} slides "
                f"({listed(sorted(lacking))}); add the column {name} to the slide table and run tile again "
                "with it (nothing is cut twice), or say --group slide where every slide is of another patient"
            )


def _components(count: int, ties: Sequence["pd.Series[str]"]) -> NDArray[np.int64]:
    """Return a number per slide, the same for all that any word ties together."""
    rows, columns, words = [np.arange(0)], [np.arange(0)], count
    for tie in ties:
        codes, known = pd.factorize(tie)
        has = np.flatnonzero(codes >= 0)
        rows.append(has)
        columns.append(words + codes[has])
        words += len(known)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row)), (row, column)), shape=(words, words))
    _, labels = connected_components(graph, directed=False)
    _, component = np.unique(labels[:count], return_inverse=True)
    return np.asarray(component, dtype=np.int64)


def _names(component: NDArray[np.int64], words: "pd.Series[str]") -> list[str]:
    together: list[set[str]] = [set() for _ in range(int(component.max(initial=-1)) + 1)]
    for number, word in zip(component, words, strict=True):
        together[number].add(word)
    return ["+".join(sorted(each)) for each in together]
