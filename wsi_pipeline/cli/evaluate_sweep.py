"""``wsi-pipeline evaluate --sweep``: networks along graded changes of their tiles."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wsi_pipeline.evaluate.config import EvaluateConfig
    from wsi_pipeline.robustness import Swept
    from wsi_pipeline.train.config import WorkConfig

SWEEP = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="CHANGE[:LEVEL,LEVEL,...]",
        help="Ask of tiles that are changed step by step instead: box_blur (n x n mean, 1 to 20), sharpen "
        "(3 x 3 kernel, 0 to 1), jpeg, gamma, hed, resolution, noise, brightness, contrast, saturation, "
        "box_blur_centred, sharpen_kernel. Several by giving it again; each tile is decoded once.",
        show_default="none",
    ),
]
APPLY_AT = Annotated[
    str | None,
    typer.Option(
        "--apply-at",
        metavar="source|input|both",
        help="What --sweep changes: the stored tile at its full size, or the image of the network's size.",
        show_default="source",
    ),
]
KEEP_LOGITS = Annotated[
    bool | None,
    typer.Option(
        "--keep-logits", help="With --sweep, keep each tile's logits at every level as well."
    ),
]
_SHOWN = ("balanced_accuracy", "auroc", "log_loss")


def evaluate_sweep(
    run: str,
    asked: "EvaluateConfig",
    work: "WorkConfig",
    *,
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Ask, print scores by level, and return them for JSON; nothing but of the first rank."""
    from wsi_pipeline.cli.ask_progress import ask_progress
    from wsi_pipeline.loader.world import this_world
    from wsi_pipeline.robustness import sweep
    from wsi_pipeline.train.peers import PeerError

    is_first = this_world().rank == 0
    try:
        with ask_progress(quiet=quiet or not is_first) as observer:
            found = sweep(
                run,
                model=asked.model,
                sweeps=asked.sweep,
                apply_at=asked.places,
                part=asked.part,
                on=asked.on,
                where=asked.where,
                keep_logits=asked.keep_logits,
                overwrite=overwrite,
                work=work,
                observer=observer,
            )
    except PeerError as error:  # the rank that has ended says why
        raise typer.Exit(1) from error
    return _show(found, quiet=quiet or json) if is_first else {}


def _show(found: "Swept", *, quiet: bool) -> dict[str, Any]:
    from wsi_pipeline.cli import console
    from wsi_pipeline.tables import read_table

    curves = read_table(found.curves).to_pylist()
    if not quiet:
        _say(curves, found)
    for text in found.notes:
        console.complain(f"note: {text}")
    return {
        "curves": curves,
        "tables": {name: list(map(str, paths)) for name, paths in found.tables.items()},
        "figures": list(map(str, found.figures)),
        "notes": found.notes,
    }


def _say(curves: list[dict[str, Any]], found: "Swept") -> None:
    from wsi_pipeline.cli import console

    by_level: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in curves:
        place = tuple(row[name] for name in ("arm", "shift", "apply_at", "level"))
        by_level.setdefault(place, {"laplacian_var": row["laplacian_var"]})[row["score"]] = row
    columns = ("model", "change", "at", "level", "Laplacian variance", *_SHOWN)
    console.print_table(
        columns,
        [
            (*place[:3], f"{place[3]:g}", f"{scores['laplacian_var']:.4g}", *_cells(scores))
            for place, scores in by_level.items()
        ],
    )
    console.say(f"every score at {console.counted(len(by_level), 'level')}: {found.curves}")
    for figure in found.figures:
        console.say(f"drawn: {figure}")


def _cells(scores: Mapping[str, Any]) -> list[str]:
    return [_cell(scores[name]) for name in _SHOWN]


def _cell(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return "cannot be said"
    spread = "" if row["std"] is None else f" ± {row['std']:.4f}"
    return f"{row['mean']:.4f}{spread}"
