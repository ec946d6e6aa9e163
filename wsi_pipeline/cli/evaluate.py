"""``wsi-pipeline evaluate``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wsi_pipeline.cli import evaluate_maps as maps
from wsi_pipeline.cli import evaluate_sweep, options

if TYPE_CHECKING:
    from wsi_pipeline.evaluation import Question
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
    Literal["none", "train", "test"],
    typer.Option(
        help="Put the model's own shortcut into the tiles, by its rule for train or test."
    ),
]
TTA = Annotated[
    Literal["none", "flips", "d4"],
    typer.Option(
        help="Ask every tile mirrored (4 views), or turned too (8), and take the mean of the logits."
    ),
]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Ask again what is there already.")]
PART = Annotated[
    Literal["train", "validation", "test", "all"],
    typer.Option(help="Which tiles; all: whatever part they are in."),
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
    part: PART = "test",
    on: ON = None,
    where: WHERE = None,
    shortcut: SHORTCUT = "none",
    tta: TTA = "none",
    ensemble: ENSEMBLE = None,
    sweep: evaluate_sweep.SWEEP = None,
    apply_at: evaluate_sweep.APPLY_AT = None,
    keep_logits: evaluate_sweep.KEEP_LOGITS = False,
    device: options.DEVICE = None,
    workers: options.DECODERS = None,
    heat_maps: maps.HEAT_MAPS = None,
    cam: maps.CAM = None,
    collage: maps.COLLAGE = False,
    slides: maps.SLIDES = None,
    overwrite: OVERWRITE = False,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Ask trained networks for every tile of a part: logits as a table, scores beside the labels.

    The same command goes on where one was cut off. torchrun and srun share the tiles among GPUs.
    """
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import make_config
    from wsi_pipeline.train.config import WorkConfig

    options.needs_extra("train", "torch", "timm")
    from wsi_pipeline.evaluation import Question

    console.set_up_logging(quiet=quiet, verbose=verbose)
    drawn = maps.MapFlags(heat_maps=heat_maps, cam=cam, collage=collage, slides=slides)
    drawn.check()
    if not sweep:
        evaluate_sweep.refuse_without_sweep(apply_at, keep_logits=keep_logits)
    options.refuse_own_run(run, [on] if on else [], flag="on")
    question = Question(part=part, on=on, where=where, tta=tta, shortcut=shortcut)
    work = make_config(WorkConfig, options.given(device=device, workers=workers))
    swept: Mapping[str, Any] = {}
    if sweep:
        swept = evaluate_sweep.evaluate_sweep(
            run,
            model or ["model"],
            question,
            sweeps=sweep,
            apply_at=apply_at,
            keep_logits=keep_logits,
            ensemble=ensemble,
            work=work,
            overwrite=overwrite,
            json=json,
            quiet=quiet,
        )
        if not drawn.any:
            if json and swept:
                console.print_json(swept)
            elif swept and not quiet:
                console.say(f"next: wsi-pipeline report {run}")
            return
    _ask_and_show(
        run,
        model or ["model"],
        question,
        drawn,
        swept,
        ensemble=ensemble,
        work=work,
        overwrite=overwrite,
        json=json,
        quiet=quiet,
    )


def _ask_and_show(
    run: str,
    models: Sequence[str],
    question: "Question",
    drawn: maps.MapFlags,
    swept: Mapping[str, Any],
    *,
    ensemble: str | None,
    work: "WorkConfig",
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Ask the models, draw what was asked for, and print both; the first rank of several does the talking."""
    from wsi_pipeline.cli import console, evaluate_scores
    from wsi_pipeline.cli.ask_progress import ask_progress
    from wsi_pipeline.evaluation import evaluate_models
    from wsi_pipeline.loader.world import this_world
    from wsi_pipeline.train.peers import PeerError

    is_first = this_world().rank == 0
    try:
        with ask_progress(quiet=quiet or not is_first) as observer:
            found = evaluate_models(
                run,
                models=models,
                question=question,
                ensemble=ensemble,
                work=work,
                overwrite=overwrite,
                observer=observer,
            )
    except PeerError as error:  # the rank that has ended says why
        raise typer.Exit(1) from error
    if is_first:
        done = maps.draw_maps(run, found, drawn, question=question, work=work, quiet=quiet or json)
        evaluate_scores.show(found, done, swept, json=json, quiet=quiet)
        left_out = maps.show_maps(done, json=json, quiet=quiet)
        if not (json or quiet):
            console.say(f"next: wsi-pipeline report {run}")
        if left_out:
            raise typer.Exit(1)
