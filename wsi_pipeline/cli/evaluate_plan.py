"""``wsi-pipeline evaluate --dry-run``: what would be asked."""

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsi_pipeline.evaluate.config import EvaluateConfig
    from wsi_pipeline.train.config import WorkConfig


def show_plan(
    run: str, asked: "EvaluateConfig", work: "WorkConfig", *, json: bool, quiet: bool
) -> None:
    """Print the tiles that networks would be asked for, and how many of them are left; nothing is written."""
    from wsi_pipeline.cli import console
    from wsi_pipeline.evaluate.tta import VIEWS
    from wsi_pipeline.evaluation import planned

    answers = planned(
        run, models=asked.model, question=asked.question, ensemble=asked.ensemble, work=work
    )
    views = len(VIEWS[asked.tta])
    if json:
        rows = [{**asdict(each), "table": str(each.table)} for each in answers]
        console.print_json({"answers": rows, "views": views, "written": False})
        return
    for note in dict.fromkeys(note for each in answers for note in each.notes):
        console.complain(f"note: {note}")
    if quiet:
        return
    console.print_table(
        ("model", "part", "tiles", "with a label", "left to ask", "file"),
        [
            (each.model, each.part, each.tiles, each.labelled, each.left, each.table.name)
            for each in answers
        ],
    )
    left, plural = sum(each.left for each in answers), "" if views == 1 else "s"
    console.say(
        f"{left} tiles to ask, each in {views} view{plural}; nothing was written (--dry-run)"
    )
