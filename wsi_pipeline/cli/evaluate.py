"""``wsi-pipeline evaluate``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_pipeline.cli import evaluate_maps as maps
from wsi_pipeline.cli import evaluate_sweep, options
from wsi_pipeline.cli.evaluate_plan import show_plan

if TYPE_CHECKING:
    from wsi_pipeline.evaluate.config import EvaluateConfig
    from wsi_pipeline.evaluation import EvaluatedModels
    from wsi_pipeline.train.config import WorkConfig

MODEL = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Of RUN/models, as `train --name` gave it; several by giving it again, by a pattern such as "
        "'sd-*', or by the name of `train --repeats`.",
        show_default="model",
    ),
]
ENSEMBLE = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What several models are called as one.",
        show_default="the name of repeats, if all of them are asked",
    ),
]
SHORTCUT = Annotated[
    str | None,
    typer.Option(
        metavar="none|train|test",
        help="Put the model's own shortcut into the tiles, by its rule for train or test.",
        show_default="none",
    ),
]
TTA = Annotated[
    str | None,
    typer.Option(
        metavar="none|flips|d4",
        help="Ask every tile mirrored (4 views), or turned too (8), and take the mean of the logits.",
        show_default="none",
    ),
]
REPLICATES = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Draws of patients of each interval; none of --sweep.",
        show_default="2000",
    ),
]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Ask again what is there already.")]
DRY_RUN = Annotated[
    bool, typer.Option("--dry-run", help="Show tiles and what is there already; write nothing.")
]
PART = Annotated[
    str | None,
    typer.Option(
        metavar="train|validation|test|all",
        help="Which tiles; all: whatever part they are in.",
        show_default="test",
    ),
]
ON = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="RUN2",
        help="Another run's tiles, such as another centre's.",
        show_default="RUN",
    ),
]
WHERE = Annotated[
    str | None,
    typer.Option(
        metavar="EXPRESSION",
        help="Further condition on tiles, such as \"scanner == 'B'\".",
        show_default="none",
    ),
]


def evaluate(
    run: options.RUN,
    model: MODEL = None,
    part: PART = None,
    on: ON = None,
    where: WHERE = None,
    shortcut: SHORTCUT = None,
    tta: TTA = None,
    ensemble: ENSEMBLE = None,
    replicates: REPLICATES = None,
    sweep: evaluate_sweep.SWEEP = None,
    apply_at: evaluate_sweep.APPLY_AT = None,
    keep_logits: evaluate_sweep.KEEP_LOGITS = None,
    heat_maps: maps.HEAT_MAPS = None,
    cam: maps.CAM = None,
    collage: maps.COLLAGE = None,
    slides: maps.SLIDES = None,
    device: options.DEVICE = None,
    workers: options.DECODERS = None,
    overwrite: OVERWRITE = False,
    dry_run: DRY_RUN = False,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Ask trained networks for every tile of a part: logits as a table, scores beside the labels.

    The same command goes on where one was cut off. torchrun and srun share the tiles among GPUs.
    """
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import read_yaml
    from wsi_pipeline.evaluate.config import evaluate_configs

    options.needs_extra("train", "torch", "timm")
    console.set_up_logging(quiet=quiet, verbose=verbose)
    flags = options.given(
        model=model,
        part=part,
        on=on,
        where=where,
        shortcut=shortcut,
        tta=tta,
        ensemble=ensemble,
        replicates=replicates,
        sweep=sweep,
        apply_at=apply_at,
        keep_logits=keep_logits,
        heat_maps=heat_maps,
        cam=cam,
        collage=collage,
        slides=slides,
        device=device,
        workers=workers,
    )
    asked, work = evaluate_configs(read_yaml(config) if config else {}, flags)
    options.refuse_own_run(run, [asked.on] if asked.on else [], flag="on")
    maps.refuse_lost_slides(run, asked)
    if dry_run:
        show_plan(run, asked, work, overwrite=overwrite, json=json, quiet=quiet)
        return
    _carry_out(run, asked, work, overwrite=overwrite, json=json, quiet=quiet)


def _carry_out(
    run: str,
    asked: "EvaluateConfig",
    work: "WorkConfig",
    *,
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Sweep, or ask as tiles are, or both where maps are wanted beside a sweep; then show it."""
    from contextlib import ExitStack

    from wsi_pipeline.cli import console
    from wsi_pipeline.train.peers import together

    how = {"overwrite": overwrite, "json": json, "quiet": quiet}
    swept: Mapping[str, Any] = {}
    found = None
    with ExitStack() as stack:
        if asked.sweep and asked.draws:  # once for both: ranks that have parted do not meet again
            stack.enter_context(together(work.device))
        if asked.sweep:
            swept = evaluate_sweep.evaluate_sweep(run, asked, work, **how)
        if asked.draws or not asked.sweep:
            found = _answers(run, asked, work, overwrite=overwrite, quiet=quiet)
    if found is not None:
        _show(run, found, asked, work, swept, json=json, quiet=quiet)
    elif json and swept:
        console.print_json(swept)
    elif swept and not quiet:
        console.say(f"next: wsi-pipeline report {run}")


def _answers(
    run: str, asked: "EvaluateConfig", work: "WorkConfig", *, overwrite: bool, quiet: bool
) -> "EvaluatedModels":
    """Ask the models; the first rank of several says how far it is."""
    from wsi_pipeline.cli.ask_progress import ask_progress
    from wsi_pipeline.evaluation import evaluate_models
    from wsi_pipeline.loader.world import this_world
    from wsi_pipeline.train.peers import PeerError

    try:
        with ask_progress(quiet=quiet or this_world().rank > 0) as observer:
            return evaluate_models(
                run,
                models=asked.model,
                question=asked.question,
                ensemble=asked.ensemble,
                replicates=asked.replicates,
                work=work,
                overwrite=overwrite,
                observer=observer,
            )
    except PeerError as error:  # the rank that has ended says why
        raise typer.Exit(1) from error


def _show(
    run: str,
    found: "EvaluatedModels",
    asked: "EvaluateConfig",
    work: "WorkConfig",
    swept: Mapping[str, Any],
    *,
    json: bool,
    quiet: bool,
) -> None:
    """Draw what was asked for and print all of it; the first rank of several does the talking."""
    from wsi_pipeline.cli import console, evaluate_scores
    from wsi_pipeline.loader.world import this_world

    if this_world().rank > 0:
        return
    done = maps.draw_maps(run, found, asked, work=work, quiet=quiet or json)
    evaluate_scores.show(found, done, swept, json=json, quiet=quiet)
    left_out = maps.show_maps(done, json=json, quiet=quiet)
    if not (json or quiet):
        console.say(f"next: wsi-pipeline report {run}")
    if left_out:
        raise typer.Exit(1)
