"""``wsi-pipeline train``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_pipeline.cli import options
from wsi_pipeline.cli.train_repeats import ENDS, train_repeats, what_next

if TYPE_CHECKING:
    from wsi_pipeline.train.config import TrainConfig, WorkConfig
    from wsi_pipeline.training import TrainOutcome, TrainPlan

NAME = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Of the model: RUN/models/NAME is its folder.")
]
MODEL = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Any network of timm.", show_default="efficientnet_b0"),
]
PRETRAINED = Annotated[
    str | None,
    typer.Option(
        metavar="true|false|FILE",
        help="Begin with timm's weights or a file's.",
        show_default="false",
    ),
]
IMAGE_PX = Annotated[
    int | None,
    typer.Option(metavar="N", help="Side of the images that the network sees.", show_default="224"),
]
TARGET = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="What is learnt.", show_default="label"),
]
WHERE = Annotated[
    str | None,
    typer.Option(
        metavar="EXPRESSION",
        help="Further condition on tiles, such as 'laplacian_var > 50'.",
        show_default="none",
    ),
]
BATCH_SIZE = Annotated[
    int | None,
    typer.Option(metavar="N", help="Tiles of a step, of all ranks together.", show_default="64"),
]
EPOCHS = Annotated[int | None, typer.Option(metavar="N", help="At the most.", show_default="30")]
LR = Annotated[
    float | None, typer.Option(metavar="X", help="Highest learning rate.", show_default="0.001")
]
DECOUPLING = Annotated[
    float | None,
    typer.Option(
        metavar="LAMBDA",
        help="Spectral decoupling, the study's 0.01; weight decay is 0 beside it.",
        show_default="0",
    ),
]
SEED = Annotated[
    int | None, typer.Option(metavar="N", help="Another one is another training.", show_default="0")
]
SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Any other setting, such as loss.mixup=0.2.",
        show_default="none",
    ),
]
REPEATS = Annotated[
    int | None,
    typer.Option(
        "--repeats",
        metavar="N",
        min=1,
        help="Train NAME-0, NAME-1, ... with seeds from 0, or from --seed, on.",
        show_default="one, of --seed",
    ),
]
OVERWRITE = Annotated[
    bool, typer.Option("--overwrite", help="Remove what an earlier training of this name has left.")
]
DRY_RUN = Annotated[
    bool, typer.Option("--dry-run", help="Show tiles, steps and parameters, and write nothing.")
]


def train(
    run: options.RUN,
    name: NAME = "model",
    model: MODEL = None,
    pretrained: PRETRAINED = None,
    image_px: IMAGE_PX = None,
    target: TARGET = None,
    where: WHERE = None,
    batch_size: BATCH_SIZE = None,
    epochs: EPOCHS = None,
    lr: LR = None,
    decoupling: DECOUPLING = None,
    seed: SEED = None,
    repeats: REPEATS = None,
    set_: SET = None,
    device: options.DEVICE = None,
    workers: options.DECODERS = None,
    overwrite: OVERWRITE = False,
    dry_run: DRY_RUN = False,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Train a network on a run's tiles; the same command goes on where one was cut off.

    Tiles need a label and a split. torchrun and srun start one training on many GPUs. Exit code 130 after a
    signal: a checkpoint of the last step was written before.
    """
    from wsi_pipeline.cli import console

    options.needs_extra("train", "torch", "timm")
    flags = options.given(
        target=target,
        where=where,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
        device=device,
        workers=workers,
    )
    flags |= _of_sections(model, pretrained, image_px, lr, decoupling)
    console.set_up_logging(quiet=quiet, verbose=verbose)
    learnt, work = _settings(config, flags, set_ or [])
    if dry_run:
        from wsi_pipeline.training import plan

        _show_plan(plan(run, learnt, work, name=name), json=json, quiet=quiet)
        return
    begin = _train if repeats is None else partial(train_repeats, repeats=repeats)
    begin(run, learnt, work, name=name, overwrite=overwrite, json=json, quiet=quiet)


def _of_sections(
    model: str | None,
    pretrained: str | None,
    image_px: int | None,
    lr: float | None,
    decoupling: float | None,
) -> dict[str, object]:
    words = {"true": True, "false": False}
    given = {
        "model.name": model,
        "model.pretrained": None if pretrained is None else words.get(pretrained, pretrained),
        "model.image_px": image_px,
        "optimise.lr": lr,
        "loss.decoupling": decoupling,
    }
    return {path: value for path, value in given.items() if value is not None}


def _settings(
    file: Path | None, flags: dict[str, object], texts: list[str]
) -> "tuple[TrainConfig, WorkConfig]":
    from wsi_pipeline.config import read_yaml
    from wsi_pipeline.train.config import train_configs

    return train_configs(read_yaml(file) if file else {}, _set(texts), flags)


def _set(texts: list[str]) -> dict[str, Any]:
    import yaml

    from wsi_pipeline.errors import ConfigError

    values = {}
    for text in texts:
        path, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(f"set: expected PATH=VALUE such as loss.mixup=0.2, got {text!r}")
        try:
            values[path] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"set: expected a value as YAML has it, got {text!r}; put words with brackets, colons or "
                "quotes in quotes"
            ) from error
    return values


def _train(
    run: str,
    learnt: "TrainConfig",
    work: "WorkConfig",
    *,
    name: str,
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> None:
    from wsi_pipeline.cli.train_table import train_progress
    from wsi_pipeline.loader.world import this_world
    from wsi_pipeline.train.peers import PeerError
    from wsi_pipeline.training import train

    is_first = this_world().rank == 0
    try:
        with train_progress(quiet=quiet or not is_first) as observer:
            outcome = train(
                run, learnt, name=name, work=work, overwrite=overwrite, observer=observer
            )
    except PeerError as error:  # the rank that has ended says why
        raise typer.Exit(1) from error
    if is_first:
        _show(outcome, run, name, json=json, quiet=quiet)
    if outcome.ended == "stopped":
        raise typer.Exit(130)


def _show(outcome: "TrainOutcome", run: str, name: str, *, json: bool, quiet: bool) -> None:
    from wsi_pipeline.cli import console

    best = {
        "best_epoch": outcome.best_epoch,
        "epochs_count_from": 0,
        "best_loss": outcome.best_loss,
    }
    if json:
        console.print_json({"model": str(outcome.directory.path), "ended": outcome.ended, **best})
    elif not quiet:
        console.say(
            f"{outcome.directory.path} {ENDS[outcome.ended]}: lowest validation loss "
            f"{outcome.best_loss:.4f} in epoch {outcome.best_epoch + 1}, counted from 1"
        )
        console.say(what_next(run, name, stopped=outcome.ended == "stopped"))


def _show_plan(plan: "TrainPlan", *, json: bool, quiet: bool) -> None:
    from wsi_pipeline.cli import console

    parts = plan.parts
    if json:
        sizes = {
            name: getattr(plan, name)
            for name in ("unlabelled", "steps_per_epoch", "steps", "parameters", "trained")
        }
        console.print_json({**parts.about(), **sizes, "written": False})
    elif not quiet:
        rows = [(part, *counts.values()) for part, counts in parts.counts.items()]
        console.print_table(("tiles", *parts.classes), rows)
        if plan.unlabelled:
            console.say(f"left out: {plan.unlabelled} tiles of these parts that have no label")
        console.say(
            f"{plan.steps_per_epoch} steps an epoch, {plan.steps} at the most; {plan.parameters:,} "
            f"parameters, {plan.trained:,} of them trained at first; nothing was written (--dry-run)"
        )
