"""Training: losses, optimisers, schedules."""

from .losses import bce, cross_entropy, huber, mae, mse
from .optimizers import SGD, Adam, AdamW, RMSprop, clip_norm, clip_value, global_norm
from .schedules import Constant, CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR, Warmup

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "CosineAnnealingLR",
    "OneCycleLR",
    "RMSprop",
    "ReduceLROnPlateau",
    "StepLR",
    "Warmup",
    "bce",
    "clip_norm",
    "clip_value",
    "cross_entropy",
    "global_norm",
    "huber",
    "mae",
    "mse",
]
