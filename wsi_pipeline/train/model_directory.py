"""A model's folder in a run: where everything lies, and what it says of itself."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsi_pipeline.config import differences
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import (
    exists,
    publish_bytes,
    read_bytes,
    remove_file,
    remove_tree,
    sweep,
    temporaries,
)
from wsi_pipeline.provenance import library_version, library_versions
from wsi_pipeline.remote import absolute
from wsi_pipeline.train.config import TrainConfig, flat

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LIBRARIES = ("torch", "timm")
_FOLDERS = (
    *("checkpoints", "logits", "metrics", "tensorboard"),
    *("predictions", "sweeps", "heatmaps", "cams", "collages"),  # of the weights that are removed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDirectory:
    """The paths of one model."""

    path: Path

    @property
    def train_json(self) -> Path:
        """Settings, tiles, versions, times and the best epoch."""
        return self.path / "train.json"

    @property
    def last(self) -> Path:
        """Checkpoint to go on from."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """Weights of the epoch with the lowest validation loss."""
        return self.path / "checkpoints" / "best.pt"

    def logits(self, part: str) -> Path:
        """Return the table of a part's logits, by the best weights."""
        return self.path / "logits" / f"{part}.parquet"


def model_directory(run: str | Path, name: str) -> ModelDirectory:
    """Return the folder of a model of a run.

    Raises
    ------
    ConfigError
        The name is none for a folder.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name: expected letters, digits, '.', '_' and '-', beginning with a letter or digit, got "
            f"{name!r}"
        )
    return ModelDirectory(path=absolute(run) / "models" / name)


def read_train_json(directory: ModelDirectory) -> dict[str, Any] | None:
    """Return what train.json says, or None where there is none.

    Raises
    ------
    ConfigError
        It cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(read_bytes(directory.train_json))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{directory.train_json}: cannot be read ({error}); train anew with --overwrite"
        ) from error
    return content


def check_same(
    directory: ModelDirectory, config: TrainConfig, about: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Refuse a model that was begun with other settings or tiles; with ``overwrite`` remove it.

    One that has no checkpoint yet has nothing that could be lost: it is begun anew.

    Raises
    ------
    ConfigError
        The message shows every setting that differs; or what is needed to go on was removed.
    """
    before = read_train_json(directory)
    if overwrite or not (exists(directory.last) or exists(directory.best)):
        clear(directory)
        return
    if before is None or not exists(directory.last):
        lacking = directory.train_json if before is None else directory.last
        raise ConfigError(
            f"{directory.path}: expected {lacking.name} beside the checkpoints that would be lost; put the "
            "file back, take another --name, or --overwrite to train anew"
        )
    advice = "use the same ones, another --name, or --overwrite to train anew"
    if changed := differences(
        flat(before.get("settings", {})), flat(config.model_dump(mode="json"))
    ):
        raise ConfigError(
            f"{directory.path} was begun with other settings ({'; '.join(changed)}); {advice}"
        )
    if changed := differences(before.get("data", {}), about):
        raise ConfigError(
            f"{directory.path} was begun with other tiles or labels ({'; '.join(changed)}); take another "
            "--name, or --overwrite to train anew"
        )


def clear(directory: ModelDirectory) -> None:
    """Remove what an earlier training has left; first the checkpoint, so that nothing goes on from a half."""
    remove_file(directory.last)
    remove_file(directory.train_json)
    for name in _FOLDERS:
        remove_tree(directory.path / name)
    remove_file(directory.path / "metrics.parquet")


def tidy(directory: ModelDirectory) -> None:
    """Remove files that a killed process had not finished; nobody else may be at work."""
    for folder in ("", "checkpoints", "logits", "metrics"):
        sweep(temporaries(directory.path / folder))


def write_train_json(
    directory: ModelDirectory,
    config: TrainConfig,
    about: Mapping[str, Any],
    **more: Any,  # noqa: ANN401  JSON
) -> None:
    """Write settings, tiles and versions, with when the training began and what became of it."""
    before = read_train_json(directory) or {}
    content = {
        "settings": config.model_dump(mode="json"),
        "settings_digest": config.digest(),
        "data": dict(about),
        "versions": {
            **library_versions(),
            **{name: library_version(name) for name in _LIBRARIES},
        },
        "started": before.get("started", now()),
        "ended": None,
        **more,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    publish_bytes(directory.train_json, text.encode())


def now() -> str:
    """Return the time as train.json writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
