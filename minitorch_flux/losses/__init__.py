"""Losses: ``loss(y_hat, y)``, the prediction first, in Flux's equations.

``agg`` says what becomes of the losses of the elements (or observations): ``"mean"``, ``"sum"``, ``"none"`` or a
function of the Tensor of all. With ``weight`` the mean is the weighted one, sum(w l) / sum(w).

Sizes must agree exactly: nothing broadcasts. Losses of several classes take ``axis``, the class axis (-1; 1 for images
(N, C, H, W)), and targets that are class indices, of the shape without that axis, or probabilities such as one-hot
rows, of the same shape as the prediction; their ``weight`` is one number per class. Regression losses differentiate
their target too.

Of 16-bit predictions a loss is computed in float32 and is float32; the gradient has the predictions' dtype again.
"""

from ..spelling import teach
from .classification import (
    binary_focal_loss,
    binarycrossentropy,
    crossentropy,
    focal_loss,
    kldivergence,
    label_smoothing,
    logitbinarycrossentropy,
    logitcrossentropy,
)
from .ctc import ctc_loss
from .overlap import dice_coeff_loss, tversky_loss
from .regression import (
    hinge_loss,
    huber_loss,
    mae,
    mse,
    msle,
    poisson_loss,
    siamese_contrastive_loss,
    squared_hinge_loss,
)

__all__ = [
    "binary_focal_loss",
    "binarycrossentropy",
    "crossentropy",
    "ctc_loss",
    "dice_coeff_loss",
    "focal_loss",
    "hinge_loss",
    "huber_loss",
    "kldivergence",
    "label_smoothing",
    "logitbinarycrossentropy",
    "logitcrossentropy",
    "mae",
    "mse",
    "msle",
    "poisson_loss",
    "siamese_contrastive_loss",
    "squared_hinge_loss",
    "tversky_loss",
]

for _name in __all__:  # a foreign keyword (reduction=) gets an error that gives ours
    globals()[_name] = teach(globals()[_name])
    globals()[_name].__module__ = __name__  # where pickles find it
