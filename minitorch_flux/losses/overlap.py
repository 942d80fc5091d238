"""Losses of two masks as wholes: how little they overlap. One number for all elements together.

    dice_coeff_loss   1 - (2 sum(y_hat y) + smooth) / (sum(y_hat^2) + sum(y^2) + smooth)
    tversky_loss      1 - (TP + 1) / (TP + (1 - beta) FP + beta FN + 1)
                      TP = sum(y_hat y), FP = sum(y_hat (1 - y)), FN = sum((1 - y_hat) y)

``y_hat`` and ``y`` have the same shape, any; both are differentiated. Wrong shapes raise ValueError.

Source: Flux.jl, ``src/losses/functions.jl``, with the false negatives weighted by beta since its version 0.13.4.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from .arguments import predictions, targets


def dice_coeff_loss(y_hat: Any, y: Any, *, smooth: float = 1.0) -> Tensor:
    """One minus the Dice coefficient, which is 1 for equal masks. Milletari, Navab and Ahmadi 2016 (V-Net)."""
    y_hat = predictions("dice_coeff_loss", y_hat)
    y = targets("dice_coeff_loss", y, y_hat)
    return 1 - ((y_hat * y).sum() * 2 + smooth) / ((y_hat * y_hat).sum() + (y * y).sum() + smooth)


def tversky_loss(y_hat: Any, y: Any, *, beta: float = 0.7) -> Tensor:
    """One minus the Tversky index: the larger ``beta``, the more a missed element costs against a wrong one.

    Raises ValueError unless 0 <= beta <= 1. Salehi, Erdogmus and Gholipour 2017.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"tversky_loss: beta must be between 0 and 1, got {beta}")
    y_hat = predictions("tversky_loss", y_hat)
    y = targets("tversky_loss", y, y_hat)
    both = (y_hat * y).sum()
    wrong, missed = y_hat.sum() - both, y.sum() - both
    return 1 - (both + 1) / (both + wrong * (1 - beta) + missed * beta + 1)
