"""Which slides the last command was asked for, all parts of it: what ``status`` and ``missing`` count."""

import json
from collections.abc import Sequence

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import publish_bytes, read_bytes
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.stages.run_directory import RunDirectory


def write_asked(run: RunDirectory, sources: Sequence[SlideSource]) -> None:
    """Keep the slides of a command, unless another part of it has."""
    data = json.dumps([[source.slide_id, source.path] for source in sources]).encode()
    path = run.state / "asked.json"
    try:
        known = read_bytes(path)
    except FileNotFoundError:
        known = None
    if known != data:
        publish_bytes(path, data)


def read_asked(run: RunDirectory) -> tuple[SlideSource, ...]:
    """Return the slides of the last command.

    Raises
    ------
    ConfigError
        No command was ever given on this run directory, or the list cannot be read.
    """
    path = run.state / "asked.json"
    try:
        asked = json.loads(read_bytes(path))
        return tuple(SlideSource(slide_id=slide_id, path=name) for slide_id, name in asked)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{run.path}: expected a run directory, found no {path.relative_to(run.path)} in it; name the "
            "folder given to tile with -o, and give the tile command again if an older version made it"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); the next tile command writes it"
        ) from error
