"""What is known before a network is asked: what a reader of its scores must know, and validation's logits."""

from pathlib import Path

from wsi_pipeline.config import first_of
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.asked_tiles import AskedTiles
from wsi_pipeline.evaluate.predictions import Predictions, differing, read_predictions
from wsi_pipeline.evaluate.question import Question
from wsi_pipeline.files import exists
from wsi_pipeline.manifest import columns_in, manifest_columns, read_manifest, rows_where
from wsi_pipeline.remote import absolute
from wsi_pipeline.tables import read_table, table_metadata
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.model_directory import ModelDirectory, read_train_json
from wsi_pipeline.train.parts import WORDS, part_of
from wsi_pipeline.train.prediction_table import EPOCH

_OF_PARTS = {
    "validation": [
        "these tiles are those that the best weights, the cut-off validation and the temperature are chosen "
        "by: scores look better than they are; ask for --part test"
    ],
    "train": [
        "the network has learnt these tiles: scores look better than they are; ask for --part test"
    ],
    "all": [
        "tiles that the network has learnt or was chosen by are among these: scores look better than they "
        "are; ask for --part test"
    ],
}
"""What is to be said of parts of the network's own run."""


def notes_of(
    directory: ModelDirectory,
    run: str | Path,
    question: Question,
    config: TrainConfig,
    tiles: AskedTiles,
) -> tuple[str, ...]:
    """Return what makes scores look better or worse than they are, and what is not scored."""
    notes = []
    if (read_train_json(directory) or {}).get("ended") is None:
        notes.append("the network is not trained to its end; these are its best weights so far")
    if question.on is None:
        notes += _OF_PARTS.get(question.part, [])
    else:
        learnt = " or ".join(f"({part_of(config, part)})" for part in WORDS)
        if shared := sorted(_patients(run, learnt) & _patients(question.on, None)):
            notes.append(
                f"{len(shared)} patients or slides of {question.on} are among those that the network was "
                f"trained on: {first_of(shared, 5)}"
            )
    return (*notes, *_lacking(tiles, config))


def _lacking(tiles: AskedTiles, config: TrainConfig) -> list[str]:
    notes = []
    if config.target in tiles.lacking:
        notes.append(f"no tile has a {config.target}: there are predictions and no scores")
    elif without := len(tiles) - tiles.labelled:
        notes.append(f"{without} of {len(tiles)} tiles have no {config.target} and are in no score")
    if config.weight in tiles.lacking:
        notes.append(f"no tile has a {config.weight}: all count the same in scores")
    return notes


def _patients(run: str | Path, where: str | None) -> set[str]:
    """Return the names of patients and slides of a run's tiles."""
    known = manifest_columns(run)
    names = [name for name in ("slide_id", "patient_id") if name in known]
    tiles = read_manifest(run, columns=sorted({*names, *columns_in(where, known)}))
    found: set[str] = set()
    for column in rows_where(tiles, where).select(names).columns:
        found.update(str(each) for each in column.unique().to_pylist() if each is not None)
    return found | _patients_of_slides(run, found)


def _patients_of_slides(run: str | Path, slides: set[str]) -> set[str]:
    """Return the patients of slides by slides.parquet: manifests have them only once a run is labelled."""
    path = absolute(run) / "slides.parquet"
    if not exists(path):
        return set()
    table = read_table(path)
    if "patient_id" not in table.column_names:
        return set()
    pairs = table.select(["slide_id", "patient_id"]).to_pylist()
    return {
        str(row["patient_id"])
        for row in pairs
        if row["patient_id"] is not None and str(row["slide_id"]) in slides
    }


def validation_logits(
    directory: ModelDirectory, tiles: AskedTiles, *, classes: tuple[str, ...], epoch: int
) -> Predictions | None:
    """Return what the training wrote of its validation tiles, with columns of the manifest.

    None where it wrote nothing, or of other weights, tiles or labels: the network has to be asked then.

    Parameters
    ----------
    tiles
        Validation tiles with a label, in order.
    epoch
        Whose weights the network has now, from 0.
    """
    try:
        before = read_predictions(directory.logits("validation"))
    except ConfigError:
        return None
    if before.classes != classes or table_metadata(before.table).get(EPOCH) != str(epoch):
        return None
    if len(before) != len(tiles):
        return None
    found = Predictions(table=tiles.table(slice(None), before.logits), classes=classes)
    columns = ("slide_id", "tile", "target", "weight")
    return None if differing(found, before, columns) else found
