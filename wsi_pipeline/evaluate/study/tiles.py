"""Which tiles a study asks about: whether they are still the same, and whether a condition fits them."""

from collections.abc import Sequence

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.asked_tiles import asked_tiles
from wsi_pipeline.evaluate.question import condition_of, key_of
from wsi_pipeline.evaluate.study.plan import StudyPlan, StudyQuestion, Unit
from wsi_pipeline.manifest import columns_in, manifest_columns


class TileDigests:
    """Digests of the tiles of questions, each read once: only manifests are looked at."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._known: dict[str, str] = {}

    def of(self, unit: Unit, question: StudyQuestion, classes: Sequence[str]) -> str:
        """Return 16 hexadecimal digits that change with a tile, its bytes, label, weight, or whose it is.

        Raises
        ------
        ConfigError
            A column is missing, no tile is left, or a label is no class of the network.
        """
        config, run = unit.config, question.on or self._run
        condition = condition_of(config, question.part, question.where, only_labelled=False)
        key = key_of(run, condition, config.target, config.weight, list(classes))
        if key not in self._known:
            found = asked_tiles(run, config=config, classes=classes, condition=condition)
            self._known[key] = found.digest()
        return self._known[key]

    def of_all(self, unit: Unit, classes: Sequence[str]) -> dict[str, str]:
        """Return those of all questions of a unit, by the digest of the question."""
        return {each.digest: self.of(unit, each, classes) for each in unit.questions}


def check_conditions(plan: StudyPlan) -> None:
    """Refuse conditions of experiments that do not fit their runs, before anything is trained.

    Raises
    ------
    ConfigError
        One names what is no column of a run, or is no expression; the experiment is named.
    """
    asked = dict.fromkeys(each for unit in plan.units for each in unit.questions if each.where)
    for each in asked:
        run = each.on or plan.run
        try:
            columns_in(each.where, manifest_columns(run))
        except ConfigError as error:
            raise ConfigError(f"experiments.{each.experiment}: {run}: {error}") from error
