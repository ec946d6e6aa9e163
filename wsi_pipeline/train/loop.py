"""The loop, top to bottom: steps, validation, checkpoints, and when to stop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal, TypeAlias

from wsi_pipeline.augment.shortcut import Shortcut
from wsi_pipeline.errors import ConfigError, OutputError
from wsi_pipeline.loader.dataset import TileDataLoader
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.train.checkpoint import read_checkpoint, write_checkpoint
from wsi_pipeline.train.config import TrainConfig, WorkConfig
from wsi_pipeline.train.history import History
from wsi_pipeline.train.learner import PRECISIONS, Learner, seed_weights
from wsi_pipeline.train.looking import (
    PartLogits,
    batches_on,
    part_logits,
    row_of,
    write_logits,
)
from wsi_pipeline.train.metrics import logit_shifts
from wsi_pipeline.train.model import make_model
from wsi_pipeline.train.model_directory import ModelDirectory
from wsi_pipeline.train.observer import Extent, SilentTrainObserver, TrainObserver
from wsi_pipeline.train.parts import PROBE, TRAIN, VALIDATION, Parts
from wsi_pipeline.train.peers import Peers
from wsi_pipeline.train.shortcuts import shortcut_on
from wsi_pipeline.train.steplog import StepLog
from wsi_pipeline.train.stopping import Asked, Best, asked_to_stop
from wsi_pipeline.train.task import Task

Row: TypeAlias = Mapping[str, Any]
"""Of metrics.parquet."""

GO, SAVE, STOP = 0, 1, 2
"""What follows a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be trained, where, and by whom."""

    config: TrainConfig
    work: WorkConfig
    parts: Parts
    directory: ModelDirectory
    peers: Peers
    name: str = "model"
    """Of the model, for those who look at it."""
    observer: TrainObserver = field(default_factory=SilentTrainObserver)
    check: Callable[[], None] = lambda: None
    """Raises where another has taken the folder over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Which batch, as a loader's state takes it."""

    epoch: int
    number: int


Ended: TypeAlias = Literal["done", "stopped"]
"""All epochs are over, or patience is; or it was asked to stop."""


def train(job: Job) -> Ended:
    """Train a network until all epochs are over or validation gets no better; go on where one was cut off.

    Every epoch: steps over all training tiles, then the probe and the validation part as they are, then a
    checkpoint. A row is known before the checkpoint that covers it, and a checkpoint is whole or not there,
    so whenever this is killed, what comes after is what would have come.

    Returns
    -------
    "done", or "stopped" where a signal or a rank asked for it; then a checkpoint of that step is there.

    Raises
    ------
    ConfigError
        The network cannot be made as asked for, or the tiles are others than before.
    TrainError
        A loss is no number, memory is too little, the checkpoint is damaged, or another rank has ended.
    """
    run = Running(job)
    log = StepLog(run.tell, may_overflow=job.config.precision == "fp16")
    with run.written():
        for epoch in range(run.epoch, job.config.epochs):
            if run.best.is_over(epoch - 1):
                break
            run.learner.begin_epoch(epoch)
            with asked_to_stop() as asked:
                for batch in log.timed(run.batches):
                    log.add(run.learner.learn(batch, steps=run.steps), batch)
                    if (following := run.following(asked)) != GO:
                        log.flush()
                        run.save()
                    if following == STOP:
                        return "stopped"
                log.flush()
                run.save(after=run.last_batch(epoch))  # what stops it from here on costs no step
            rows, seen = run.look(epoch)
            if run.best.improves(rows[-1]["loss"], epoch):
                run.keep(seen)
            run.end_epoch(rows)
    return "done"


class Running:
    """A training under way: its learner, its tiles, and what is written of it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.best = Best(patience=job.config.patience)
        self._shortcuts = _shortcuts(job)
        self.batches = self._loader(job.parts.train, TRAIN)
        self._validation = self._loader(job.parts.validation, VALIDATION)
        self._probe = None if job.parts.probe is None else self._loader(job.parts.probe, PROBE)
        self.steps = job.config.epochs * len(self.batches)
        state = job.peers.word_of_first(
            read_checkpoint(job.directory.last) if job.peers.is_first else None
        )
        self.learner = _learner(job, fresh=state is None)
        if state is not None:
            _check_settings(job, state)
            self.learner.load_state_dict(state["learner"])
            self.batches.load_state_dict(state["loader"])
            self.best.loss, self.best.epoch = state["best"]["loss"], state["best"]["epoch"]
        self.history: History | None = None
        if job.peers.is_first:
            self.history = History(job.directory.path, rows=state["rows"] if state else 0)
            job.observer.on_begin(
                Extent(
                    name=job.name,
                    epochs=job.config.epochs,
                    steps_per_epoch=len(self.batches),
                    step=self.learner.step,
                )
            )
        self._saved_s = monotonic()

    @property
    def epoch(self) -> int:
        """The epoch that is gone on with."""
        return self.batches.loader.epoch

    def tell(self, row: Row) -> None:
        """Write a step's row down and tell of it."""
        if self.history is not None:
            self.history.add([row])
            self.job.observer.on_step(row)

    @contextmanager
    def written(self) -> Iterator[None]:
        """Have all rows on the disk when this is left, whatever it is left for."""
        try:
            yield
        finally:
            if self.history is not None:
                with suppress(OutputError):  # what is wrong with the disk was said before
                    self.history.close()

    def following(self, asked: Asked) -> int:
        """Return what all ranks do after this step."""
        due = monotonic() - self._saved_s > 60 * self.job.work.checkpoint_minutes
        wanted = STOP if asked else SAVE if due and self.job.peers.is_first else GO
        return self.job.peers.most(wanted)

    def look(self, epoch: int) -> tuple[list[dict[str, Any]], dict[str, PartLogits]]:
        """Return the rows of an epoch, validation last, and the answers that they are made of."""
        seen = {}
        if self._probe is not None:
            most = self.job.parts.probe_batches
            seen[PROBE] = part_logits(self.learner, self._probe, batches=most)
        seen[VALIDATION] = part_logits(self.learner, self._validation)
        rows = list(self._rows(seen, epoch))
        if PROBE in seen:
            rows[-1].update(logit_shifts(rows[0], rows[-1], classes=self.job.parts.classes))
        return rows, seen

    def keep(self, seen: Mapping[str, PartLogits]) -> None:
        """Write the weights of the best epoch, and the logits that they gave."""
        if self.history is None:
            return
        job = self.job
        content = {
            "settings": job.config.model_dump(mode="json"),
            "classes": list(job.parts.classes),
            "epoch": self.best.epoch,
            "loss": self.best.loss,
            "network": self.learner.judged.state_dict(),
        }
        write_checkpoint(job.directory.best, content)
        for part, found in seen.items():
            loader = self._validation if part == VALIDATION else self._probe
            if loader is not None:
                write_logits(
                    job.directory.logits(_named(part)),
                    found,
                    loader.loader.rows,
                    classes=job.parts.classes,
                    epoch=self.best.epoch,
                    shortcut=self._shortcuts[part],
                )

    def end_epoch(self, rows: Sequence[Row]) -> None:
        """Write an epoch's rows and a checkpoint, and tell of them."""
        if self.history is not None:
            self.history.add(rows)
        self.save()
        if self.history is not None:
            self.history.end_epoch()
            self.job.observer.on_epoch(rows)

    def last_batch(self, epoch: int) -> Batch:
        """Return where an epoch's steps are all taken and validation is still to come."""
        return Batch(epoch=epoch, number=len(self.batches) - 1)

    def save(self, after: Batch | None = None) -> None:
        """Write all that is needed to go on, after the rows that it covers.

        Parameters
        ----------
        after
            The last batch that was learnt; where the loader is, if not given.
        """
        if self.history is not None:
            self.job.check()
            self.history.save()
            content = {
                "settings_digest": self.job.config.digest(),
                "learner": self.learner.state_dict(),
                "loader": self.batches.state_dict(after),
                "best": {"loss": self.best.loss, "epoch": self.best.epoch},
                "rows": self.history.rows,
            }
            write_checkpoint(self.job.directory.last, content)
        self._saved_s = monotonic()

    def _rows(self, seen: Mapping[str, PartLogits], epoch: int) -> Iterator[dict[str, Any]]:
        for part, found in seen.items():
            place = {"part": _named(part), "epoch": epoch, "step": self.learner.step}
            classes, shortcut = self.job.parts.classes, self._shortcuts[part]
            yield row_of(found, self.learner, classes, place, shortcut=shortcut)

    def _loader(self, tiles: TileLoader, part: str) -> TileDataLoader:
        shortcut = self._shortcuts[part]
        return batches_on(self.job.peers.device, tiles, self.job.work, shortcut=shortcut)


def _shortcuts(job: Job) -> dict[str, Shortcut | None]:
    """Return what tiles of each part carry; the probe's rows are those of the train part."""
    config, parts = job.config, job.parts
    train, validation = (
        shortcut_on(
            tiles.rows, config.shortcut, "train", target=config.target, classes=parts.classes
        )
        for tiles in (parts.train, parts.validation)
    )
    return {TRAIN: train, PROBE: train, VALIDATION: validation}


def _check_settings(job: Job, state: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that was put here from elsewhere; train.json says the same of the folder.

    Raises
    ------
    ConfigError
        It is of another configuration.
    """
    if state["settings_digest"] != job.config.digest():
        raise ConfigError(
            f"{job.directory.last}: expected a checkpoint of these settings, it is of others; put the right "
            "file back, or train anew with --overwrite"
        )


def _learner(job: Job, *, fresh: bool) -> Learner:
    """Return a learner; the first rank's first weights are everybody's."""
    config = job.config
    seed_weights(config.seed)
    network = make_model(config.model, len(job.parts.classes), fresh=fresh and job.peers.is_first)
    task = Task(
        config.loss,
        job.parts.classes,
        tiles=job.parts.counts[TRAIN],
        autocast=PRECISIONS[config.precision],
    )
    job.peers.copy_of_first(
        network.state_dict().values()
    )  # before a moving average begins with them
    return Learner(network, task, config, job.work, peers=job.peers)


def _named(part: str) -> str:
    return TRAIN if part == PROBE else part
