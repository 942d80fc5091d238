"""Progress: lines for people, without control characters where nobody watches."""

import io
import re

import pytest

from minitorch_flux.optimisers import Adam
from minitorch_flux.training import Callback, Checkpoint, Evaluate, Progress, TrainState, train
from minitorch_flux.training.progress import _duration

from .small import loss, make_loader, make_model


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(*callbacks, epochs=3, data=None, resume=None):
    data = make_loader() if data is None else data
    return train(loss, make_model(), data, Adam(1e-2), epochs=epochs, callbacks=callbacks, resume=resume)


def test_one_line_per_epoch():
    stream = io.StringIO()
    run(Evaluate(lambda m: {"test_accuracy": 0.5, "count": 3}), Progress(stream, unit="images"))
    lines = stream.getvalue().splitlines()
    number = r"\d\.\d{4}"
    row = rf"loss {number}  accuracy {number}  test_accuracy 0.5000  [\d,]+ images/s"
    for i, line in enumerate(lines, 1):
        assert re.fullmatch(rf"epoch {i}/3  {row}" + ("" if i == 3 else r"  \d+ s left"), line)
    assert len(lines) == 3
    assert stream.getvalue().isprintable() is False  # the newlines
    assert stream.getvalue().replace("\n", "").isprintable()


def test_epochs_are_aligned():
    stream = io.StringIO()
    run(Progress(stream), epochs=10)
    assert [line[:11] for line in stream.getvalue().splitlines()][::9] == ["epoch  1/10", "epoch 10/10"]


def test_the_standard_output_is_the_default(capsys):
    run(Progress(), epochs=1)
    assert capsys.readouterr().out.startswith("epoch 1/1  loss ")


def test_a_bar_in_a_terminal():
    stream = Terminal()
    run(Progress(stream), epochs=2)
    text = stream.getvalue()
    assert "\r" in text
    lines = [re.sub(r"\x1b\[\w|.*\r", "", line) for line in text.split("\n")]
    assert [line[:9] for line in lines if line.startswith("epoch")][:2] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize(("stream", "bar"), [(Terminal(), False), (io.StringIO(), None), (io.StringIO(), False)])
def test_no_bar(stream, bar):
    run(Progress(stream, bar=bar), epochs=1)
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_bar_where_it_is_asked_for():
    stream = io.StringIO()
    run(Progress(stream, bar=True), epochs=1)
    assert "\r" in stream.getvalue()


def test_data_of_unknown_length():
    class Stream:
        def __iter__(self):
            return iter(make_loader())

    for bar in (False, True):
        stream = io.StringIO()
        run(Progress(stream, bar=bar), data=Stream(), epochs=2)
        assert "epoch 2/2  loss" in stream.getvalue()
        assert "left" not in stream.getvalue()


def test_it_says_why_a_run_stopped():
    class Stop(Callback):
        def on_step_end(self, state):
            state.stop = "the user is tired"

    for bar in (False, True):
        stream = io.StringIO()
        run(Stop(), Progress(stream, bar=bar))
        assert stream.getvalue().endswith("stopped: the user is tired\n")


def test_the_time_left():
    """The first step is left out: it may have built kernels."""
    progress, state = Progress(io.StringIO()), TrainState(None, None, None, epochs=10, batches=10)
    progress.on_train_begin(state)
    state.step, state.seconds, state.seen, state.epoch_seconds = 1, 60.0, 64, 60.0
    progress.on_step_end(state)
    assert progress._pace(state) == ["1 samples/s"]
    state.step, state.seconds, state.seen, state.epoch_seconds = 11, 70.0, 64_000, 5.0
    assert progress._pace(state) == ["12,800 samples/s", "1:29 left"]
    state.step = 100
    assert progress._pace(state) == ["12,800 samples/s"]


def test_a_resumed_run_counts_its_own_speed(tmp_path):
    path = tmp_path / "c.npz"
    run(Progress(io.StringIO()), Checkpoint(path), epochs=1)
    stream = io.StringIO()
    run(Progress(stream), Checkpoint(path), epochs=3, resume=path)
    lines = stream.getvalue().splitlines()
    assert [line[:9] for line in lines] == ["epoch 2/3", "epoch 3/3"]
    assert "left" in lines[0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (7209, "2:00:09")]
)
def test_durations(seconds, text):
    assert _duration(seconds) == text
