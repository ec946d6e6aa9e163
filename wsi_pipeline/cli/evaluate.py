"""``wsi-pipeline evaluate``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.evaluation import Evaluated

MODEL = Annotated[
    str, typer.Option("--model", metavar="NAME", help="Of RUN/models, as `train --name` gave it.")
]
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
SHORTCUT = Annotated[
    Literal["none", "train", "test"],
    typer.Option(
        help="Put the model's own shortcut into the tiles, by its rule for train or test."
    ),
]
DEVICE = Annotated[
    str | None,
    typer.Option(metavar="auto|cpu|cuda", help="Where the network runs.", show_default="auto"),
]
_SHOWN = (
    "tiles",
    "balanced_accuracy",
    "accuracy",
    "auroc",
    "log_loss",
    "brier",
    "ece",
)


def evaluate(
    run: options.RUN,
    model: MODEL = "model",
    part: PART = "test",
    on: ON = None,
    where: WHERE = None,
    shortcut: SHORTCUT = "none",
    device: DEVICE = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Ask a trained network for every tile of a part; logits as a table, scores beside the labels."""
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import make_config
    from wsi_pipeline.train.config import WorkConfig

    options.needs_extra("train", "torch", "timm")
    from wsi_pipeline.evaluation import evaluate as evaluate_on

    console.set_up_logging(quiet=quiet, verbose=verbose)
    work = make_config(WorkConfig, options.given(device=device))
    _show(
        evaluate_on(run, model=model, part=part, on=on, where=where, shortcut=shortcut, work=work),
        json=json,
        quiet=quiet,
    )


def _show(found: "Evaluated", *, json: bool, quiet: bool) -> None:
    from wsi_pipeline.cli import console

    if json:
        console.print_json(
            {
                "predictions": str(found.predictions),
                "scores": found.scores,
                "notes": found.notes,
            }
        )
    elif not quiet:
        named = [name for name in found.scores if name in _SHOWN or name.startswith("recall_")]
        console.print_table(
            ("score", "value"), [(name, _cell(found.scores[name])) for name in named]
        )
        console.say(f"logits of every tile: {found.predictions}")
    for text in found.notes:
        console.complain(f"note: {text}")


def _cell(value: object) -> str:
    if value is None:
        return "cannot be said"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
