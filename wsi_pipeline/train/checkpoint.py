"""Checkpoints: whole files or none, read without running anything that is in them."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wsi_pipeline.errors import TrainError
from wsi_pipeline.files import exists, publish_bytes, read_bytes
from wsi_pipeline.provenance import code_version

FORMAT = 1
"""Changes with what a checkpoint holds."""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers and words under a name: the file is there whole, and on the disk, or as before.

    Raises
    ------
    OutputError
        The disk is full, or writing is not allowed.
    """
    made_by = {"format": FORMAT, "code_version": code_version(), "torch": torch.__version__}
    memory = io.BytesIO()
    torch.save({**content, **{name: str(each) for name, each in made_by.items()}}, memory)
    publish_bytes(path, memory.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint holds, its tensors on the CPU; None where there is no file.

    Raises
    ------
    TrainError
        It is damaged, holds more than tensors, numbers and words, or is of another format.
    """
    if not exists(path):
        return None
    try:
        content = torch.load(io.BytesIO(read_bytes(path)), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainError(
            f"{path}: cannot be read as a checkpoint ({said}); put the file back, or train "
            "anew with --overwrite"
        ) from error
    if not isinstance(content, dict) or content.get("format") != str(FORMAT):
        raise TrainError(
            f"{path}: expected a checkpoint of format {FORMAT}; it is of another version of this program, "
            "train anew with --overwrite"
        )
    return content
