"""Models as scikit-learn estimators: in pipelines, grid searches and cross-validation.

    from minitorch_flux.sklearn import FluxClassifier, FluxRegressor

    clf = make_pipeline(StandardScaler(), FluxClassifier(hidden=(64,), epochs=20, random_state=0))
    clf.fit(x, labels); clf.predict_proba(x); clf.score(x, labels)

    FluxClassifier(lambda shape, outputs: models.LeNet(shape, outputs))        # any model, on images too
    GridSearchCV(clf, {"fluxclassifier__lr": [1e-3, 1e-2]})

Both pass scikit-learn's own ``check_estimator``. Needs ``pip install 'minitorch-flux[sklearn]'``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import numpy as np

from . import losses, optimisers
from .autograd import Tensor
from .backend import Generator, default_generator, to_device
from .data import DataLoader, splitobs
from .nn.chain import Chain
from .nn.conversions import f16, f32, f64
from .nn.dense import Dense
from .nn.module import Module
from .ops import nonlinearities
from .ops.shapes import flatten
from .ops.softmaxes import softmax
from .training import Callback, EarlyStopping, Evaluate, Progress, predict, train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state, compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(f"minitorch_flux.sklearn needs scikit-learn 1.6 or later ({error}): "
                      "pip install 'minitorch-flux[sklearn]'") from error

__all__ = ["FluxClassifier", "FluxRegressor"]

CONVERSIONS = {"float16": f16, "float32": f32, "float64": f64}
ACTIVATIONS = [name for name in dir(nonlinearities) if isinstance(getattr(nonlinearities, name), nonlinearities.Activation)]


class FluxEstimator(BaseEstimator):
    """What ``FluxClassifier`` and ``FluxRegressor`` share; see there."""

    def __init__(
        self,
        model: Any = None,
        *,
        hidden: tuple[int, ...] = (100,),
        activation: Any = "relu",
        loss: Any = None,
        optimiser: Any = "Adam",
        lr: float | None = None,
        epochs: int = 100,
        batchsize: int | None = 64,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        min_delta: float = 0.0,
        callbacks: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: str | None = None,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.model, self.hidden, self.activation, self.loss = model, hidden, activation, loss
        self.optimiser, self.lr, self.epochs, self.batchsize, self.shuffle = optimiser, lr, epochs, batchsize, shuffle
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.patience, self.min_delta, self.callbacks, self.warm_start = patience, min_delta, callbacks, warm_start
        self.random_state, self.dtype, self.device, self.verbose = random_state, dtype, device, verbose

    # -- what the two differ in ----------------------------------------------------------------------------------------

    _default_loss = ""

    def _target(self, y: Any, classes: Any, first: bool) -> tuple[np.ndarray, int]:
        """What the loss compares with, and the number of the model's outputs."""
        raise NotImplementedError

    def _weights(self, y: Any, sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
        if sample_weight is None:
            return None
        if not np.asarray(sample_weight).any():
            raise ValueError(f"{type(self).__name__}: all sample weights are zero, so there is nothing to learn from: at least "
                             "one must be non-zero")
        return _check_sample_weight(sample_weight, X, dtype=X.dtype)

    # -- fitting -------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train a new model (with ``warm_start`` the last one) for ``epochs`` epochs; returns the estimator.

        ``X``: (N, features), or (N, ...) for a ``model`` that takes it; ``y``: (N,); ``sample_weight``: (N,), how much each
        observation counts.
        """
        return self._fit(X, y, None, sample_weight, fresh=not (self.warm_start and hasattr(self, "model_")), partial=False)

    def _fit(self, X: Any, y: Any, classes: Any, sample_weight: Any, fresh: bool, partial: bool) -> Any:
        if self.dtype not in (None, *CONVERSIONS):
            raise ValueError(f"{type(self).__name__}: dtype is one of {', '.join(CONVERSIONS)}, or None, got {self.dtype!r}")
        kinds: Any = (self.dtype or ["float64", "float32"]) if fresh else self._dtype  # of a list: that of X, or the first
        X, y = validate_data(self, X, y, reset=fresh, dtype=kinds, order="C", allow_nd=True, **self._checks_of_y)
        weights = self._weights(y, sample_weight, X)
        with self._seeded(fresh) as rng:
            target, outputs = self._target(y, classes, fresh)
            if fresh:
                self.model_ = self._build(X, outputs, rng)
                self._dtype = next(iter(self.model_.parameters())).dtype.name
                self.optimiser_ = self._set_up()
            X, target = X.astype(self._dtype, copy=False), target.astype(self._dtype if target.dtype.kind == "f" else int)
            state = self._train(X, target, weights, rng, partial)
        self.history_: list[dict[str, Any]] = ([] if fresh else getattr(self, "history_", [])) + state.history
        self.n_iter_ = len(self.history_)
        return self

    @contextmanager
    def _seeded(self, fresh: bool) -> Iterator[Generator]:
        """The generator that ``random_state`` means; meanwhile layers without one of their own draw from it, too.

        What goes on with a model goes on with its random numbers.
        """
        default = default_generator()
        if self.random_state is None:
            yield default
            return
        before = default.state_dict()
        seed = Generator(int(check_random_state(self.random_state).randint(2**31))).state_dict()
        default.load_state_dict(seed if fresh else getattr(self, "_generator", seed))
        try:
            yield default
        finally:
            self._generator = default.state_dict()
            default.load_state_dict(before)

    def _build(self, X: np.ndarray, outputs: int, rng: Generator) -> Any:
        shape, dtype = X.shape[1:], self.dtype
        if self.model is None:
            dtype = X.dtype.name
            f = _named(self.activation, "activation", nonlinearities, ACTIVATIONS)
            sizes = [int(np.prod(shape)), *self.hidden]
            layers = [Dense(a, b, f, rng=rng) for a, b in zip(sizes, sizes[1:], strict=False)]
            model: Any = Chain(flatten, *layers, Dense(sizes[-1], outputs, rng=rng))
        else:
            model = self.model if isinstance(self.model, Module) or not callable(self.model) else self.model(shape, outputs)
        if not isinstance(model, Module):
            raise TypeError(f"{type(self).__name__}: model is None, a model, or a function of (shape of one observation, "
                            f"number of outputs) that makes one; got {model!r:.60}")
        return (CONVERSIONS[dtype] if dtype else copy.deepcopy)(model).to(self.device)

    def _set_up(self) -> Any:
        rule = _named(self.optimiser, "optimiser", optimisers, optimisers.__all__)
        state = optimisers.setup(rule() if isinstance(rule, type) else rule, self.model_)
        if self.lr is not None:
            optimisers.adjust(state, self.lr)
        return state

    def _loss_of(self, model: Any, x: Any, y: Any, weights: Any = None) -> Any:
        f = _named(self.loss or self._default_loss, "loss", losses, losses.__all__)
        x, y = to_device(x, self.device), to_device(y, self.device)
        y_hat = model(x)
        y_hat = y_hat.reshape(-1) if y.ndim == 1 and y.dtype.kind == "f" else y_hat
        if weights is None:
            return f(y_hat, y)
        each = f(y_hat, y, agg="none")
        return (each.reshape(len(x), -1).mean(1) * to_device(weights, self.device)).mean()

    def _train(self, X: Any, y: Any, weights: Any, rng: Generator, partial: bool) -> Any:
        columns = (X, y) if weights is None else (X, y, weights * (len(weights) / weights.sum()).astype(X.dtype))
        callbacks: list[Callback] = [Progress()] if self.verbose else []
        if self.early_stopping and not partial:
            columns, held = splitobs(columns, at=1 - self.validation_fraction, shuffle=True, rng=rng)
            callbacks.append(Evaluate(lambda model: {"loss": self._held_out(model, held)}, prefix="validation_"))
            callbacks.append(EarlyStopping("validation_loss", self.patience, min_delta=self.min_delta, restore_best=True))
        data = DataLoader(columns, self.batchsize or len(columns[0]), shuffle=self.shuffle, rng=rng)
        return train(self._loss_of, self.model_, data, self.optimiser_, epochs=1 if partial else self.epochs,
                     callbacks=[*callbacks, *(self.callbacks or ())])

    def _held_out(self, model: Any, columns: Any) -> float:
        """The loss of what ``fit`` has not seen."""
        outputs = Tensor(predict(lambda x: model(to_device(x, self.device)), columns[0]))
        return float(self._loss_of(lambda x: outputs, *columns))

    def _outputs(self, X: Any) -> np.ndarray:
        """The model's outputs (N, outputs) as NumPy's array."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, reset=False, dtype=self._dtype, order="C", allow_nd=True)
        return to_device(predict(lambda x: self.model_(to_device(x, self.device)), X), "cpu")

    _checks_of_y: dict[str, Any] = {}
    _dtype: str  # in which the fitted model computes
    _generator: dict[str, int]  # where its random numbers are


class FluxClassifier(ClassifierMixin, FluxEstimator):
    """A classifier around a model that gives logits (N, classes); labels may be of any type.

    ``model=None``: fully connected layers of the widths ``hidden=(100,)`` with the ``activation="relu"``; a model, which is
    copied; or a function ``(shape of one observation, number of classes)`` that makes one.
    ``loss=None``: a name in ``flux.losses`` or a function ``(y_hat, y)`` of logits and class indices; the default is
    ``logitcrossentropy``. With weights it is called with ``agg="none"``.
    ``optimiser="Adam"``: a name, a class or an optimiser; ``lr=None``: its learning rate, if not its own default.
    ``epochs=100``, ``batchsize=64`` (None: all at once), ``shuffle=True``: see ``flux.train`` and ``flux.DataLoader``.
    ``early_stopping=False``: hold out ``validation_fraction=0.1`` of the data and stop when its loss has not improved by more
    than ``min_delta=0`` for ``patience=10`` epochs; the best weights are kept.
    ``class_weight=None``: how much each class counts: a dict from labels, or "balanced".
    ``callbacks=None``: a list of ``flux.Callback``. ``warm_start=False``: whether ``fit`` goes on with the last model.
    ``random_state=None``: a number makes everything that is drawn reproducible; None: the default generator (``flux.seed``).
    ``dtype=None``: "float64", "float32" or "float16", in which the model computes; None: a ``model`` in its own, and without
    one that of ``X`` (float32 or float64). ``device="cpu"`` (or "cuda:0"): where. ``verbose=False``: a progress bar.

    After ``fit``: ``model_``, ``classes_``, ``n_features_in_``, ``history_`` (one row per epoch), ``n_iter_``, ``optimiser_``.
    """

    _default_loss = "logitcrossentropy"

    def __init__(self, model: Any = None, *, hidden: tuple[int, ...] = (100,), activation: Any = "relu", loss: Any = None,
                 optimiser: Any = "Adam", lr: float | None = None, epochs: int = 100, batchsize: int | None = 64,
                 shuffle: bool = True, early_stopping: bool = False, validation_fraction: float = 0.1, patience: int = 10,
                 min_delta: float = 0.0, class_weight: Any = None, callbacks: Any = None, warm_start: bool = False,
                 random_state: Any = None, dtype: str | None = None, device: str = "cpu", verbose: bool = False) -> None:
        super().__init__(model, hidden=hidden, activation=activation, loss=loss, optimiser=optimiser, lr=lr, epochs=epochs,
                         batchsize=batchsize, shuffle=shuffle, early_stopping=early_stopping,
                         validation_fraction=validation_fraction, patience=patience, min_delta=min_delta, callbacks=callbacks,
                         warm_start=warm_start, random_state=random_state, dtype=dtype, device=device, verbose=verbose)
        self.class_weight = class_weight

    def _target(self, y: Any, classes: Any, first: bool) -> tuple[np.ndarray, int]:
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(y if classes is None else classes)
        target = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        unknown = np.unique(y[self.classes_[target] != y])
        if len(unknown):
            raise ValueError(f"FluxClassifier: y has the labels {list(unknown[:5])}, which are none of the classes "
                             f"{list(self.classes_[:10])} that the model knows")
        return target, len(self.classes_)

    def _weights(self, y: Any, sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
        weights = super()._weights(y, sample_weight, X)
        if self.class_weight is None:
            return weights
        of_classes = compute_sample_weight(self.class_weight, y).astype(X.dtype)
        return of_classes if weights is None else weights * of_classes

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> FluxClassifier:
        """One epoch on these observations, going on from the last call; the first needs ``classes``, all the labels."""
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ValueError("FluxClassifier: classes, all the labels, must be passed on the first call to partial_fit.")
        if not first and classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"FluxClassifier: classes={classes} is not the same as on the last call to partial_fit, was: "
                             f"{self.classes_}")
        return self._fit(X, y, classes, sample_weight, fresh=first, partial=True)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities (N, classes) of the classes in the order of ``classes_``."""
        return softmax(self._outputs(X), axis=1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each observation: (N,)."""
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(axis=1)]


class FluxRegressor(RegressorMixin, FluxEstimator):
    """A regressor around a model that gives (N, targets); ``y`` is (N,) or (N, targets).

    ``model``: as of ``FluxClassifier``, with the number of targets for that of classes. ``loss=None``: ``mse``; ``"mae"``,
    ``"huber_loss"``, any name in ``flux.losses`` or a function ``(y_hat, y)``. All other arguments are those of
    ``FluxClassifier`` (there is no ``class_weight``).

    After ``fit``: ``model_``, ``n_features_in_``, ``history_`` (one row per epoch), ``n_iter_``, ``optimiser_``.
    """

    _default_loss = "mse"
    _checks_of_y = {"multi_output": True, "y_numeric": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _target(self, y: Any, classes: Any, first: bool) -> tuple[np.ndarray, int]:
        if first:
            self._target_shape = y.shape[1:]
        elif y.shape[1:] != self._target_shape:
            raise ValueError(f"FluxRegressor: y has shape {y.shape}, the model was made for {('N', *self._target_shape)}")
        return np.asarray(y, np.float64), int(np.prod(y.shape[1:]))

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> FluxRegressor:
        """One epoch on these observations, going on from the last call."""
        return self._fit(X, y, None, sample_weight, fresh=not hasattr(self, "model_"), partial=True)

    def predict(self, X: Any) -> np.ndarray:
        """The predictions, (N,) or (N, targets) as ``y`` was."""
        outputs = self._outputs(X)
        return outputs.reshape(len(outputs), *self._target_shape)


def _named(value: Any, what: str, place: Any, names: Sequence[str]) -> Any:
    """What the public name ``value`` in ``place`` stands for; anything else is taken as it is."""
    if not isinstance(value, str):
        return value
    if value not in names:
        raise ValueError(f"there is no {what} {value!r}: give a name of {place.__name__}, or the {what} itself; near it "
                         f"{', '.join(get_close_matches(value, names, 3, 0)) or 'is none'}")
    return getattr(place, value)
