"""What a training leaves in a run, without a training: invented rows, real files."""

import json
from pathlib import Path

import numpy as np

from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.train.history import History
from wsi_pipeline.train.metrics import evaluation, logit_shifts

CLASSES = ("benign", "cancer <b>")
ENDED = "2026-01-01T00:00:00+00:00"


def write_model(
    run: RunDirectory, name: str, *, losses: list[float], penalty: float = 0.1, ended: bool = True
) -> Path:
    """Write a model's table and train.json: two classes, the second one rare and shifted in validation."""
    folder = run.path / "models" / name
    history = History(folder)
    rng = np.random.default_rng(3)
    y = (np.arange(200) % 5 == 0).astype(np.int64)
    for epoch, loss in enumerate(losses):
        place = {"epoch": epoch, "step": 2 * epoch + 2}
        pace = {"tiles_per_s": 100.0, "stall_share": 0.25, "loss": loss, "part": "train"}
        history.add(
            [{"kind": "step", **place, "step": 2 * epoch + each, **pace} for each in (1, 2)]
        )
        rows = []
        for part, mean in (("train", 4.0), ("validation", 1.0)):
            z = rng.normal(0, 1, 200) + np.where(y == 1, mean, -4.0)
            scored = evaluation(z, y, np.ones(200), classes=CLASSES)
            fit = loss - penalty
            terms = {"loss_cross_entropy": fit, "loss_decoupling": penalty, "loss": loss}
            scored["log_loss"] = fit
            rows.append({"kind": "epoch", "part": part, **place, **scored, **terms})
        rows[1].update(logit_shifts(rows[0], rows[1], classes=CLASSES))
        history.add(rows)
        history.end_epoch()
    history.close()
    about = {
        "settings": {"model": {"name": "efficientnet_b0"}, "seed": 3},
        "data": {"classes": list(CLASSES)},
        "ended": ENDED if ended else None,
    }
    (folder / "train.json").write_text(json.dumps(about))
    return folder
