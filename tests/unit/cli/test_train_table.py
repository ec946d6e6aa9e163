"""What a person sees of a training, on a terminal and in a file."""

import io
from typing import Any

import pytest
from rich.console import Console

from wsi_pipeline.cli.train_table import train_progress
from wsi_pipeline.train.observer import Extent, TrainObserver

EXTENT = Extent(name="sd-0", epochs=4, steps_per_epoch=10)


def step(number: int, **values: Any) -> dict[str, Any]:  # noqa: ANN401
    terms = {"loss": 0.75, "loss_cross_entropy": 0.5, "loss_decoupling": 0.25}
    pace = {"tiles": 64, "tiles_per_s": 812.4, "stall_share": 0.031, "learning_rate": 1e-3}
    return {
        "kind": "step",
        "part": "train",
        "epoch": number // 10,
        "step": number,
        **terms,
        **pace,
        **values,
    }


def scored(epoch: int) -> list[dict[str, Any]]:
    scores = {"balanced_accuracy": 0.8, "auroc": None, "ece": 0.05}
    return [
        {
            "kind": "epoch",
            "part": part,
            "epoch": epoch,
            "step": 10 * epoch + 10,
            "loss": loss,
            **scores,
        }
        for part, loss in (("train", 0.4), ("validation", 0.6))
    ]


def shown(tell: Any, *, terminal: bool, quiet: bool = False) -> str:  # noqa: ANN401
    """Return what is written while a training is told of."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, no_color=True)
    times = iter(range(0, 100_000, 5))
    with train_progress(quiet=quiet, console=console, clock=lambda: float(next(times))) as observer:
        tell(observer)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def training(observer: TrainObserver) -> None:
    observer.on_begin(EXTENT)
    for number in range(1, 11):
        observer.on_step(step(number))
    observer.on_epoch(scored(0))
    observer.on_step(step(11))


def test_a_file_has_a_line_for_each_epoch_and_none_for_steps() -> None:
    lines = shown(training, terminal=False).splitlines()
    assert lines == [
        "sd-0: epoch 1 of 4, step 10; train loss 0.4000 balanced accuracy 0.8000 ece 0.0500; validation "
        "loss 0.6000 balanced accuracy 0.8000 ece 0.0500; 812 tiles/s; 3 % waiting for tiles"
    ]


def test_a_training_that_goes_on_says_so() -> None:
    def tell(observer: TrainObserver) -> None:
        observer.on_begin(Extent(name="a", epochs=4, steps_per_epoch=10, step=17))

    assert shown(tell, terminal=False) == "a: goes on after step 17 of 40\n"


@pytest.mark.parametrize(
    "text",
    [
        "sd-0",
        "2 of 4",
        "11 of 40",
        "cross entropy 0.5, decoupling 0.25",
        "812 tiles/s, 3 % waiting for tiles",
        "at most",
        "validation",
        "0.6000",
    ],
)
def test_a_terminal_shows_where_a_training_is(text: str) -> None:
    assert text in shown(training, terminal=True)


def test_the_time_left_counts_only_steps_of_this_process() -> None:
    times = iter([0.0, 0.0, 0.0, 20.0, *[20.0] * 1000])
    console = Console(file=io.StringIO(), force_terminal=True, width=100, no_color=True)
    with train_progress(quiet=False, console=console, clock=lambda: next(times)) as observer:
        observer.on_begin(Extent(name="a", epochs=4, steps_per_epoch=10, step=20))
        observer.on_step(step(30))
    assert isinstance(console.file, io.StringIO)
    assert "at most 20 s" in console.file.getvalue()  # 10 steps took 20 s, 10 are left


def test_of_several_trainings_the_earlier_ones_stay_to_be_read() -> None:
    def tell(observer: TrainObserver) -> None:
        for name in ("sd-0", "sd-1"):
            observer.on_begin(Extent(name=name, epochs=1, steps_per_epoch=10))
            observer.on_step(step(10))
            observer.on_epoch(scored(0))

    kept = shown(tell, terminal=True)
    for name in ("sd-0", "sd-1"):
        whole = kept[kept.index(name) :]
        assert "0.6000" in whole.split("sd-1" if name == "sd-0" else "\0")[0]


def test_quiet_is_silent() -> None:
    for terminal in (True, False):
        assert shown(training, terminal=terminal, quiet=True) == ""


def test_names_with_brackets_are_no_markup() -> None:
    def tell(observer: TrainObserver) -> None:
        observer.on_begin(Extent(name="[red]a[/x]", epochs=1, steps_per_epoch=1))
        observer.on_step(step(1))
        observer.on_epoch(scored(0))

    for terminal in (True, False):
        assert "[red]a[/x]" in shown(tell, terminal=terminal)


def test_the_table_is_usable_before_anything_is_known() -> None:
    assert "0 of" in shown(lambda _observer: None, terminal=True)


def test_a_line_gives_the_pace_of_the_whole_epoch() -> None:
    def told(observer: TrainObserver) -> None:
        observer.on_begin(EXTENT)
        observer.on_step(step(1, tiles=300, tiles_per_s=100.0, stall_share=0.5))
        observer.on_step(step(2, tiles=1, tiles_per_s=1.0, stall_share=0.1))
        observer.on_epoch(scored(0))

    assert "75 tiles/s; 40 % waiting" in shown(told, terminal=False)
