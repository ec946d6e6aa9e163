"""What changes with the step, as functions of it: a run that goes on computes what it would have been."""

import math

from wsi_pipeline.train.optimise_config import OptimiseConfig


def learning_rate(step: int, *, steps: int, config: OptimiseConfig) -> float:
    """Return the learning rate of a step: up in a line, then down as half a cosine.

    As in SGDR without restarts (Loshchilov and Hutter, 2017, equation 5), after the warm-up of Goyal et al.
    (2017).

    Parameters
    ----------
    step
        From 0.
    steps
        Of the whole training.

    >>> config = OptimiseConfig(lr=1.0, warmup=0.2, final_lr=0.0)
    >>> [round(learning_rate(step, steps=10, config=config), 3) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rising = round(config.warmup * steps)
    if step < rising:
        return config.lr * (step + 1) / rising
    if config.schedule == "constant":
        return config.lr
    done = min(1.0, (step - rising) / max(1, steps - rising))
    height = 0.5 * (1 + math.cos(math.pi * done))
    return config.lr * (config.final_lr + (1 - config.final_lr) * height)
