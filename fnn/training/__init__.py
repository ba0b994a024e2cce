"""From a layer to a trained layer: steps, data, the loop."""

from fnn.training.checkpoint import Checkpoint
from fnn.training.checks import TrainingError
from fnn.training.history import History
from fnn.training.loop import fit
from fnn.training.objective import Objective
from fnn.training.predict_step import make_predict_step
from fnn.training.state import Accumulator, TrainState
from fnn.training.step import make_eval_step, make_train_step

__all__ = [
    "Accumulator",
    "Checkpoint",
    "History",
    "Objective",
    "TrainState",
    "TrainingError",
    "fit",
    "make_eval_step",
    "make_predict_step",
    "make_train_step",
]
