"""FluxClassifier and FluxRegressor: scikit-learn's own checks, and what they promise beyond them."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import minitorch_flux as flux
from minitorch_flux import models
from minitorch_flux.sklearn import FluxClassifier, FluxRegressor

SMALL = {"hidden": (16,), "epochs": 20, "batchsize": 16, "lr": 0.02}
WHOLE = {"hidden": (16,), "epochs": 50, "batchsize": None, "shuffle": False, "lr": 0.05}
BATCHES = {"check_sample_weight_equivalence_on_dense_data":
           "two copies of an observation come in two batches, one with twice the weight in one; all at once, they are the same"}


@parametrize_with_checks([FluxClassifier(**SMALL), FluxRegressor(**SMALL), FluxClassifier(**WHOLE), FluxRegressor(**WHOLE)],
                         expected_failed_checks=lambda e: BATCHES if e.batchsize else {})
@pytest.mark.filterwarnings("ignore:.*classes.*:DeprecationWarning")
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


X, LABELS = make_blobs(120, 5, centers=3, random_state=0)
X = StandardScaler().fit_transform(X)
XR, YR = make_regression(120, 5, n_targets=2, random_state=0)
YR = StandardScaler().fit_transform(YR)


# -- training is the library's own -------------------------------------------------------------------------------------


def test_fit_is_flux_train():
    clf = FluxClassifier(hidden=(8,), epochs=3, batchsize=32, lr=0.01, random_state=1).fit(X, LABELS)
    seed = np.random.RandomState(1).randint(2**31)
    rng = flux.Generator(int(seed))
    model = flux.f64(flux.Chain(flux.flatten, flux.Dense(5, 8, flux.relu, rng=rng), flux.Dense(8, 3, rng=rng)))
    state = flux.train(lambda m, x, y: flux.losses.logitcrossentropy(m(x), y), model,
                       flux.DataLoader((X, LABELS), 32, shuffle=True, rng=rng), flux.Adam(0.01), epochs=3)
    np.testing.assert_array_equal(clf.predict_proba(X), flux.softmax(model(X), 1).numpy())
    assert [row["loss"] for row in clf.history_] == [row["loss"] for row in state.history]
    assert clf.n_iter_ == 3


def test_random_state_rules_everything_and_leaves_the_default_generator_alone():
    def build(shape, outputs):
        return flux.Chain(flux.Dense(shape[0], 8, flux.relu), flux.Dropout(0.5), flux.Dense(8, outputs))

    flux.seed(3)
    before = repr(flux.backend.default_generator())
    first, second = (FluxClassifier(build, epochs=2, random_state=5).fit(X, LABELS).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert repr(flux.backend.default_generator()) == before
    other = FluxClassifier(build, epochs=2, random_state=6).fit(X, LABELS).predict_proba(X)
    assert not np.allclose(first, other)
    flux.seed(4)
    third = FluxClassifier(build, epochs=2).fit(X, LABELS).predict_proba(X)
    flux.seed(4)
    np.testing.assert_array_equal(third, FluxClassifier(build, epochs=2).fit(X, LABELS).predict_proba(X))


@pytest.mark.parametrize("labels", [np.array(["zebra", "ant", "cow"]), np.array([-7, 100, 3]),
                                    np.array(["b", "a", "c"], object)], ids=lambda a: a.dtype.kind)  # fmt: skip
def test_labels_of_any_type(labels):
    clf = FluxClassifier(**SMALL, random_state=0).fit(X, labels[LABELS])
    assert list(clf.classes_) == sorted(labels)
    assert clf.predict(X).dtype == labels.dtype
    assert clf.score(X, labels[LABELS]) > 0.95
    np.testing.assert_allclose(clf.predict_proba(X).sum(1), 1, rtol=1e-6)
    assert FluxClassifier(**SMALL).fit(X, LABELS > 0).predict(X).dtype == bool


# -- models, losses, optimisers ----------------------------------------------------------------------------------------


def test_a_model_of_images_by_a_function():
    images = np.random.default_rng(0).standard_normal((40, 1, 16, 16)).astype("float32")
    y = np.arange(40) % 2
    images[y == 1, :, 4:9, 4:9] += 2
    clf = FluxClassifier(lambda shape, outputs: flux.Chain(flux.Conv((3, 3), shape[0], 4, flux.relu), flux.GlobalMaxPool(),
                                                           flux.flatten, flux.Dense(4, outputs)),
                         epochs=30, batchsize=10, lr=0.02, random_state=0).fit(images, y)  # fmt: skip
    assert clf.score(images, y) > 0.9
    assert clf.predict_proba(images).dtype == np.float32
    assert isinstance(clf.model_[0], flux.Conv)


def test_a_model_is_copied():
    net = flux.Chain(flux.Dense(5, 4, flux.tanh), flux.Dense(4, 3))
    before = net.state_dict()
    clf = FluxClassifier(net, epochs=2).fit(X, LABELS)
    assert clf.model_ is not net
    assert clf.model_[0].weight.dtype == np.float32  # its own dtype
    for key, value in before.items():
        np.testing.assert_array_equal(net.state_dict()[key], value)
    assert FluxClassifier(net, epochs=1, dtype="float64").fit(X, LABELS).predict_proba(X).dtype == np.float64
    assert clone(clf).model is not net
    assert FluxRegressor(models.MLP(5, (4,), 1), epochs=1).fit(X, X[:, 0]).predict(X).shape == (120,)


def test_dtype_is_that_of_the_data():
    assert FluxRegressor(epochs=1).fit(X.astype("float32"), LABELS).predict(X).dtype == np.float32
    assert FluxRegressor(epochs=1).fit(X, LABELS).predict(X).dtype == np.float64
    assert FluxRegressor(epochs=1).fit(LABELS[:, None], LABELS).predict(LABELS[:, None]).dtype == np.float64
    assert FluxRegressor(epochs=1, dtype="float32").fit(X, LABELS).predict(X).dtype == np.float32


def test_losses_activations_and_optimisers_by_name_or_as_they_are():
    for more in ({"loss": "mae", "optimiser": "RMSProp", "activation": "tanh"},
                 {"loss": flux.losses.huber_loss, "optimiser": flux.Momentum(0.05, 0.9), "activation": flux.swish},
                 {"loss": lambda y_hat, y: ((y_hat - y) ** 2).sum(), "optimiser": flux.AdamW, "lr": 0.01},
                 {"optimiser": flux.OptimiserChain(flux.ClipNorm(1.0), flux.Adam(0.01))}):  # fmt: skip
        regressor = FluxRegressor(hidden=(16,), epochs=40, random_state=0, **more).fit(XR, YR)
        assert regressor.score(XR, YR) > 0.8, more
    assert "AdamW" in repr(FluxRegressor(epochs=1, optimiser=flux.AdamW, lr=0.125).fit(XR, YR).optimiser_)
    assert "0.125" in repr(FluxRegressor(epochs=1, optimiser="AdamW", lr=0.125).fit(XR, YR).optimiser_)


def test_regression_keeps_the_shape_of_the_targets():
    for y in (YR, YR[:, :1], YR[:, 0]):
        assert FluxRegressor(epochs=1).fit(XR, y).predict(XR).shape == y.shape


# -- stopping, going on ------------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_weights():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((60, 5))
    y = rng.integers(0, 2, 60)  # nothing to learn: the validation loss soon rises
    clf = FluxClassifier(early_stopping=True, patience=3, validation_fraction=0.3, epochs=200, lr=0.02, random_state=0)
    clf.fit(noise, y)
    losses = [row["validation_loss"] for row in clf.history_]
    assert clf.n_iter_ < 200
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    held = clf.model_
    again = FluxClassifier(epochs=int(np.argmin(losses)) + 1, **{k: v for k, v in clf.get_params().items() if k != "epochs"})
    again.fit(noise, y)
    for a, b in zip(held.parameters(), again.model_.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    patient = clone(clf).set_params(min_delta=10.0).fit(noise, y)
    assert patient.n_iter_ == 4  # no epoch was better by so much than the first


def test_warm_start_goes_on():
    whole = FluxClassifier(**SMALL, random_state=0).fit(X, LABELS)
    parts = FluxClassifier(**SMALL | {"epochs": 10}, random_state=0, warm_start=True).fit(X, LABELS).fit(X, LABELS)
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), rtol=1e-9)
    assert parts.n_iter_ == whole.n_iter_ == len(parts.history_) == 20
    assert FluxClassifier(**SMALL).fit(X, LABELS).fit(X, LABELS).n_iter_ == 20


def test_partial_fit_is_fit_epoch_by_epoch():
    whole = FluxClassifier(**SMALL | {"epochs": 4}, random_state=0).fit(X, LABELS)
    parts = FluxClassifier(**SMALL, random_state=0, early_stopping=True)
    for _ in range(4):
        parts.partial_fit(X, LABELS, classes=[0, 1, 2])
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), rtol=1e-9)
    assert FluxClassifier(epochs=1).partial_fit(X[:5], LABELS[:5] * 0, classes=[0, 1, 2]).predict_proba(X).shape == (120, 3)
    regressor = FluxRegressor(**SMALL).partial_fit(XR, YR).partial_fit(XR, YR, sample_weight=np.ones(120))
    assert regressor.n_iter_ == 2


def test_callbacks_and_a_progress_bar(capfd):
    seen = []

    class Count(flux.Callback):
        def on_epoch_end(self, state):
            seen.append(state.epoch)

    FluxClassifier(epochs=3, callbacks=[Count()], verbose=True).fit(X, LABELS)
    assert seen == [1, 2, 3]
    assert "loss" in "".join(capfd.readouterr())


# -- weights -----------------------------------------------------------------------------------------------------------


def test_weights_are_repetitions():
    weights = np.random.default_rng(0).integers(0, 3, len(XR))
    repeated = FluxRegressor(**WHOLE, random_state=0).fit(XR.repeat(weights, 0), YR.repeat(weights, 0))
    weighted = FluxRegressor(**WHOLE, random_state=0).fit(XR, YR, sample_weight=weights)
    np.testing.assert_allclose(weighted.predict(XR), repeated.predict(XR), rtol=1e-6, atol=1e-8)


def test_class_weights():
    rare = np.concatenate([np.flatnonzero(LABELS == 0), np.flatnonzero(LABELS == 1)[:4]])
    noisy = X[rare] + np.random.default_rng(1).standard_normal((len(rare), 5)) * 3
    plain, balanced = (FluxClassifier(hidden=(), epochs=60, lr=0.05, class_weight=w, random_state=0).fit(noisy, LABELS[rare])
                       for w in (None, "balanced"))
    assert (balanced.predict(noisy) == 1).sum() > (plain.predict(noisy) == 1).sum()
    given = FluxClassifier(hidden=(), epochs=60, lr=0.05, class_weight={0: 1, 1: 10}, random_state=0).fit(noisy, LABELS[rare])
    by_hand = FluxClassifier(hidden=(), epochs=60, lr=0.05, random_state=0)
    by_hand.fit(noisy, LABELS[rare], sample_weight=np.where(LABELS[rare] == 1, 10.0, 1.0))
    np.testing.assert_allclose(given.predict_proba(noisy), by_hand.predict_proba(noisy), rtol=1e-9)
    doubled = clone(given).fit(noisy, LABELS[rare], sample_weight=np.full(len(rare), 2.0))
    np.testing.assert_allclose(given.predict_proba(noisy), doubled.predict_proba(noisy), rtol=1e-6)


# -- among scikit-learn's own ------------------------------------------------------------------------------------------


def test_pipelines_searches_and_pickles():
    pipeline = make_pipeline(StandardScaler(), FluxClassifier(**SMALL, random_state=0))
    search = GridSearchCV(pipeline, {"fluxclassifier__lr": [1e-6, 0.02]}, cv=2).fit(X, LABELS)
    assert search.best_params_ == {"fluxclassifier__lr": 0.02}
    assert cross_val_score(pipeline, X, LABELS, cv=2).mean() > 0.9
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    again[-1].partial_fit(X, LABELS)  # the optimiser's state came along
    assert again[-1].n_iter_ == 21
    assert "batchsize=16" in repr(pipeline)


def test_array_names():
    with pytest.raises(ValueError, match="X has 4 features, but FluxClassifier is expecting 5 features as input"):
        FluxClassifier(epochs=1).fit(X, LABELS).predict(X[:, :4])


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: FluxClassifier(dtype="int8").fit(X, LABELS), ValueError, "dtype is one of float16, float32, float64, or None"),
    (lambda: FluxClassifier(3).fit(X, LABELS), TypeError, r"model is None, a model, or a function of \(shape of one.*got 3"),
    (lambda: FluxClassifier(lambda s, n: None).fit(X, LABELS), TypeError, "got None"),
    (lambda: FluxClassifier(loss="logitcross").fit(X, LABELS), ValueError,
     "there is no loss 'logitcross': give a name of minitorch_flux.losses, .* near it logitcrossentropy"),
    (lambda: FluxClassifier(optimiser="adam").fit(X, LABELS), ValueError, "there is no optimiser 'adam'.*near it Adam"),
    (lambda: FluxClassifier(activation="reluu").fit(X, LABELS), ValueError, "there is no activation 'reluu'.*near it relu"),
    (lambda: FluxClassifier().fit(X, LABELS, sample_weight=np.zeros(120)), ValueError, "all sample weights are zero"),
    (lambda: FluxClassifier().partial_fit(X, LABELS), ValueError, "classes, all the labels, must be passed on the first call"),
    (lambda: FluxClassifier().partial_fit(X, LABELS, [0, 1]), ValueError, r"y has the labels \[.*2.*none of the classes"),
    (lambda: FluxClassifier().partial_fit(X, LABELS, [0, 1, 2]).partial_fit(X, LABELS, [0, 1]), ValueError,
     r"classes=\[0, 1\] is not the same as on the last call"),
    (lambda: FluxClassifier(epochs=1, warm_start=True).fit(X, LABELS).fit(X, LABELS + 5), ValueError, "none of the classes"),
    (lambda: FluxRegressor().partial_fit(XR, YR).partial_fit(XR, YR[:, 0]), ValueError,
     r"y has shape \(120,\), the model was made for \('N', 2\)"),
])  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_without_scikit_learn_the_error_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = sys.modules['sklearn.base'] = None; import minitorch_flux.sklearn"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "minitorch_flux.sklearn needs scikit-learn 1.6 or later" in out.stderr
    assert out.stderr.strip().endswith("pip install 'minitorch-flux[sklearn]'")
