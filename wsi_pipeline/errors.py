"""Every error raised on purpose, named for what the caller does next.

PipelineError
├── ConfigError   asked for wrongly: nothing was started, tell the user (exit 2)
├── OutputError   the run directory cannot be written: stop the run (exit 1)
│   └── LateError another has finished the slide, or begun it anew: write nothing of it any more
├── SlideError    one slide cannot be used: record it and go on without it
├── TileError     one tile cannot be read: mark it and go on with the next
└── TrainError    a training cannot go on: what is saved stays, change what is said (exit 1)
"""


class PipelineError(Exception):
    """Something this package noticed and can say in one sentence."""


class ConfigError(PipelineError):
    """The run was asked for wrongly: nothing was started; tell the user what to change."""


class OutputError(PipelineError):
    """The output cannot be written: stop the run; what is finished stays."""


class LateError(OutputError):
    """A slide was finished or begun anew by another meanwhile: write nothing of it any more."""


class SlideError(PipelineError):
    """One slide cannot be used: record the reason and go on without it."""


class TileError(PipelineError):
    """One tile cannot be read: mark it with the reason and go on with the next."""


class TrainError(PipelineError):
    """A training cannot go on: what is saved stays; tell the user what to change."""
