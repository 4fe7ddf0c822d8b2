"""The training loop, losses, optimizers, schedules, checkpoints; may import every folder up to tracing."""

from .batches import Batch, Batches, Chunks, Data
from .fit import Score, evaluate, fit
from .history import Epoch, History
from .losses import LOSSES as LOSSES  # for the command line
from .losses import OF_LOGITS as OF_LOGITS
from .losses import as_loss as as_loss
from .losses import bce, cross_entropy, huber, mae, mse, quantile
from .optimizers import SGD, Adam, AdamW, RMSprop, clip_norm, clip_value, global_norm
from .outputs import final_function as final_function  # for recipes
from .schedules import Constant, CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR, Warmup

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Batch",
    "Batches",
    "Chunks",
    "Constant",
    "CosineAnnealingLR",
    "Data",
    "Epoch",
    "History",
    "OneCycleLR",
    "RMSprop",
    "ReduceLROnPlateau",
    "Score",
    "StepLR",
    "Warmup",
    "bce",
    "clip_norm",
    "clip_value",
    "cross_entropy",
    "evaluate",
    "fit",
    "global_norm",
    "huber",
    "mae",
    "mse",
    "quantile",
]
