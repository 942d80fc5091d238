"""Training: the loop, its callbacks, exact resuming, evaluation."""

from .callbacks import Callback, Checkpoint, EarlyStopping, Evaluate, Schedule, StopOnNonFinite
from .evaluation import evaluate, predict
from .logs import CSVLog, JSONLog
from .loop import train
from .metrics import accuracy, confusion_matrix
from .progress import Progress
from .signals import StopOnSignal
from .train_states import TrainState

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
    "StopOnSignal",
    "TrainState",
    "accuracy",
    "confusion_matrix",
    "evaluate",
    "predict",
    "train",
]
