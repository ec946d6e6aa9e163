"""``wsi-pipeline evaluate --dry-run``: what would be asked."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsi_pipeline.evaluate.config import EvaluateConfig
    from wsi_pipeline.evaluation import PlannedAnswers
    from wsi_pipeline.sweep_plan import PlannedSweep
    from wsi_pipeline.train.config import WorkConfig


def show_plan(
    run: str,
    asked: "EvaluateConfig",
    work: "WorkConfig",
    *,
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Print what networks would be asked, and how much of it is left; nothing is written."""
    from wsi_pipeline.cli import console
    from wsi_pipeline.evaluate.ask.tta import VIEWS

    sweeps = _sweeps(run, asked, work, overwrite=overwrite) if asked.sweep else ()
    plain = asked.draws or not asked.sweep
    answers = _answers(run, asked, work, overwrite=overwrite) if plain else ()
    views = len(VIEWS[asked.tta])
    if json:
        rows = [{**asdict(each), "table": str(each.table)} for each in answers]
        swept = [asdict(each) for each in sweeps]
        console.print_json({"answers": rows, "views": views, "sweeps": swept, "written": False})
        return
    notes = [*(each.notes for each in sweeps), *(each.notes for each in answers)]
    for note in dict.fromkeys(chain.from_iterable(notes)):
        console.complain(f"note: {note}")
    if not quiet:
        for line in (*_say_sweeps(sweeps), *_say_answers(answers, views)):
            console.say(line)
        console.say("nothing was written (--dry-run)")


def _sweeps(
    run: str, asked: "EvaluateConfig", work: "WorkConfig", *, overwrite: bool
) -> "tuple[PlannedSweep, ...]":
    from wsi_pipeline.evaluate.sweep.shift_config import sweeps_of
    from wsi_pipeline.sweep_plan import SweepWanted, planned_sweeps

    wanted = SweepWanted(
        run=run,
        question=asked.question,
        sweeps=sweeps_of(asked.sweep),
        places=asked.places,
        replicates=0,
        keep_logits=asked.keep_logits,
        overwrite=overwrite,
        work=work,
    )
    return planned_sweeps(wanted, asked.model)


def _answers(
    run: str, asked: "EvaluateConfig", work: "WorkConfig", *, overwrite: bool
) -> "tuple[PlannedAnswers, ...]":
    from wsi_pipeline.evaluation import planned

    return planned(
        run,
        models=asked.model,
        question=asked.question,
        ensemble=asked.ensemble,
        work=work,
        overwrite=overwrite,
    )


def _say_sweeps(sweeps: "Sequence[PlannedSweep]") -> Iterable[str]:
    """Print a row for each network; yield what it comes to."""
    from wsi_pipeline.cli import console

    if sweeps:
        rows = [(each.model, each.tiles, each.levels, each.left) for each in sweeps]
        console.print_table(("model", "tiles", "levels", "levels left to ask"), rows)
        yield f"{sum(each.tiles * each.left for each in sweeps)} shifted tiles to ask"


def _say_answers(answers: "Sequence[PlannedAnswers]", views: int) -> Iterable[str]:
    """Print a row for each network and part; yield what it comes to."""
    from wsi_pipeline.cli import console

    if answers:
        rows = [
            (each.model, each.part, each.tiles, each.labelled, each.left, each.table.name)
            for each in answers
        ]
        console.print_table(("model", "part", "tiles", "labelled", "left to ask", "file"), rows)
        seen = console.counted(views, "view")
        yield f"{sum(each.left for each in answers)} tiles to ask, each in {seen}"
