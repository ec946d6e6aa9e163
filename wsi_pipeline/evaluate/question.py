"""What a network is asked: which tiles, of which run, and in which views; and what the files are called."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from wsi_pipeline.augment.shortcut_config import ShortcutRule
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import exists, read_bytes, remove_file, remove_tree
from wsi_pipeline.loader.rows import READABLE
from wsi_pipeline.remote import absolute
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.parts import WORDS, labelled, part_of

Part: TypeAlias = Literal["train", "validation", "test", "all"]
"""Of the column that a network was trained by; ``all``: every readable tile."""

Tta: TypeAlias = Literal["none", "flips", "d4"]
"""Views of a tile that are asked, as in ``evaluate.ask.tta``."""

PARTS: tuple[Part, ...] = get_args(Part)
_TEST_WORDS = ("test", "testing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which tiles a network is asked for, and how."""

    part: Part = "test"
    """Of the column that the network was trained by; ``all``: every readable tile."""
    on: str | Path | None = None
    """Another run, such as another centre's, which need not have labels; the network's own if not given."""
    where: str | None = None
    """Further condition on tiles; that of the training holds in any case."""
    tta: Tta = "none"
    """Views of each tile: as it is, ``flips`` (4) or ``d4`` (8); the logit is the mean of theirs."""
    shortcut: ShortcutRule = "none"
    """Which of the model's own shares of a shortcut the tiles carry; a column then says which do."""

    @property
    def name(self) -> str:
        """The name of its files, without a suffix."""
        words = [] if self.on is None else [run_word(self.on)]
        words.append(self.part)
        if self.shortcut != "none":
            words.append(f"shortcut_{self.shortcut}")
        if self.where:
            words.append(hashlib.sha256(self.where.encode()).hexdigest()[:8])
        if self.tta != "none":
            words.append(f"tta_{self.tta}")
        return "-".join(words)

    def run(self, own: str | Path) -> Path:
        """Return the run whose tiles are asked for."""
        return absolute(own if self.on is None else self.on)

    def about(self, own: str | Path) -> dict[str, Any]:
        """Return what is written down of it."""
        return {
            "run": str(self.run(own)),
            "part": self.part,
            "where": self.where,
            "tta": self.tta,
            "shortcut": self.shortcut,
        }


def run_word(run: str | Path) -> str:
    """Return what another run is called in names of files: its folder's name, in signs that need no quotes.

    Two runs may be called alike: ``PredictionFiles.refuse_other_run`` keeps them apart, where
    ``slides.names.safe_names``, which knows all names beforehand, makes them differ.

    >>> run_word("/data/north hospital (2)")
    'north_hospital_2_'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", absolute(run).name)


def condition_of(
    config: TrainConfig, part: Part, more: str | None = None, *, only_labelled: bool = True
) -> str:
    """Return the condition on tiles; that of the training holds as well, its fold too.

    Parameters
    ----------
    more
        Further condition.
    only_labelled
        Whether tiles without a label are left out, as scores alone need.
    """
    conditions = [READABLE]
    conditions += [labelled(config)] if only_labelled else []
    if part in WORDS:
        conditions.append(part_of(config, part))
    elif part == "test":
        conditions.append(f"{config.split} in {list(_TEST_WORDS)}")
    conditions += [f"({each})" for each in (config.where, more) if each]
    return " and ".join(conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFiles:
    """The files of what a network says of some tiles."""

    table: Path
    """One row per tile."""

    @property
    def about(self) -> Path:
        """What was asked, of what, and how good the answers are."""
        return self.table.with_suffix(".json")

    @property
    def scores(self) -> Path:
        """Every score with its interval, one row each."""
        return self.table.with_suffix(".scores.parquet")

    @property
    def parts(self) -> Path:
        """Logits on their way."""
        return self.table.with_suffix(".parts")

    def read_about(self) -> dict[str, Any] | None:
        """Return what is written of it, or None where nothing is, or nothing that can be read."""
        try:
            content: dict[str, Any] = json.loads(read_bytes(self.about))
        except (FileNotFoundError, ValueError):
            return None
        return content

    def hold(self, key: str) -> bool:
        """Whether the answers to a question are there already, whole."""
        before = self.read_about()
        return before is not None and before.get("key") == key and exists(self.table)

    def forget(self) -> None:
        """Remove what came of answers that are to be replaced: no scores, no pictures lie beside others."""
        model, what = self.table.parent.parent, self.table.stem
        remove_file(self.about)
        remove_file(self.scores)
        remove_tree(model / "heatmaps" / what)
        remove_tree(model / "cams" / what)
        remove_file(model / "collages" / f"{what}.png")

    def refuse_other_run(self, about: Mapping[str, Any]) -> None:
        """Refuse to take the place of what was said of another run.

        Raises
        ------
        ConfigError
            It holds that.
        """
        before = self.read_about() or about
        if before.get("run") != about["run"]:
            raise ConfigError(
                f"{self.table} holds what the network says of {before.get('run')}; move it away before "
                f"{about['run']} is evaluated, which has the same name"
            )


def prediction_files(model: Path, question: Question) -> PredictionFiles:
    """Return the files of a question in a model's folder."""
    return PredictionFiles(table=model / "predictions" / f"{question.name}.parquet")


def key_of(*parts: Any) -> str:  # noqa: ANN401  JSON
    """Return 16 hexadecimal digits that change with anything said."""
    said = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
