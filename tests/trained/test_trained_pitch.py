"""A trained CNN hears the pitch of tones that are made here: Basic Pitch (Spotify, Apache-2.0), an ONNX file of its package.

The network takes two seconds of sound and gives, for 172 moments, the piano's 88 keys that begin, that sound, and the pitch
in thirds of a semitone.
"""

import numpy as np
import pytest

import minitorch_flux as flux

from .trained_files import agree, outputs, runtime, trained_file

SAMPLES, RATE, LOWEST = 43844, 22050, 21
FILE = "basic_pitch", "saved_models/icassp_2022/nmp.onnx", "2c3c1d144bfa61ad"


@pytest.fixture(scope="module")
def path():
    return trained_file(*FILE)


@pytest.fixture(scope="module")
def model(path):
    return flux.onnx.load(path)


def tone(key, samples=SAMPLES):
    """A tone with its first five harmonics, by the number of its key (69 is A4, 440 Hz)."""
    t = np.arange(samples) / RATE
    return sum(np.sin(2 * np.pi * 440 * 2 ** ((key - 69) / 12) * k * t) / k for k in range(1, 6)) / 5


def sound(*waves, noise=0.03):
    """Waves (N, samples, 1) with the faint noise of every recording: the network hears the logarithm of the power, which
    is that of rounding errors where there is no sound at all."""
    waves = np.stack(waves)
    return (waves + noise * np.random.default_rng(0).normal(size=waves.shape)).astype(np.float32)[:, :, None]


def test_tones_have_their_pitch(path, model):
    keys = [33, 57, 81]
    x = sound(*map(tone, keys))
    beginning, sounding, contour = found = model(x)
    agree(found, outputs(runtime(path), x), 2e-4)
    assert (sounding.numpy().mean(1).argmax(1) + LOWEST).tolist() == keys
    thirds = contour.numpy().mean(1).argmax(1)
    assert (np.abs(thirds / 3 + LOWEST - keys) < 0.7).all()  # the middle third of the semitone
    assert (sounding.numpy().mean(1).max(1) > 0.7).all()
    assert beginning.shape == (3, 172, 88)


def test_a_chord_and_a_scale(model):
    chord = sum(map(tone, (60, 64, 67)))
    scale = (60, 62, 64, 65, 67, 69, 71, 72)
    steps = np.concatenate([tone(key, SAMPLES // 8) for key in scale])
    _, sounding, _ = model(sound(chord, np.pad(steps, (0, SAMPLES - len(steps)))))
    chord, scale_found = sounding.numpy()
    assert {60, 64, 67} <= set(np.flatnonzero(chord.mean(0) > 0.3) + LOWEST)
    moments = [slice(int((i + 0.2) * 172 / 8), int((i + 0.8) * 172 / 8)) for i in range(8)]
    assert tuple(int(scale_found[m].mean(0).argmax()) + LOWEST for m in moments) == scale


def test_silence_is_that_of_double_precision(path, model):
    x = sound(np.zeros(SAMPLES), noise=0)
    exact = flux.f64(flux.onnx.load(path))(x.astype(np.float64))
    agree(model(x), [y.numpy().astype(np.float32) for y in exact], 1e-5)
    assert exact[1].numpy().max() < 0.3
