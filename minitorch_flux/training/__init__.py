"""Training: the loop, its callbacks, exact resuming."""

from .callbacks import (
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    Evaluate,
    JSONLog,
    Schedule,
    StopOnNonFinite,
)
from .loop import train
from .progress import Progress
from .state import TrainState

__all__ = [
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Evaluate",
    "JSONLog",
    "Progress",
    "Schedule",
    "StopOnNonFinite",
    "TrainState",
    "train",
]
