"""Ctrl-C: the step under way is finished, the run is saved, and the handlers are put back."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minitorch_flux.backend import seed
from minitorch_flux.optimisers import Adam
from minitorch_flux.training import Callback, Checkpoint, StopOnSignal, train

from .small import loss, make_loader, make_model, weights

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


class Send(Callback):
    """Send a signal to this process in the middle of a step, or at the end of an epoch."""

    def __init__(self, step=None, epoch=None, number=signal.SIGINT, times=1):
        self.step, self.epoch, self.number, self.times = step, epoch, number, times

    def on_loss(self, state):
        if state.step + 1 == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            os.kill(os.getpid(), self.number)


def run(*callbacks, resume=None, model=None):
    seed(0)
    return train(loss, model or make_model(), make_loader(), Adam(1e-2), epochs=3, callbacks=callbacks, resume=resume)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [{"step": 7}, {"epoch": 2}])
def test_the_run_is_saved_and_goes_on(number, at, tmp_path, capfd):
    path = tmp_path / "c.npz"
    before = signal.getsignal(number)
    whole = run(Send(), StopOnSignal(), Checkpoint(path))
    stopper = StopOnSignal()
    first = run(Send(**at, number=number), stopper, Checkpoint(path, epochs=None))
    step = at.get("step", 10)
    assert first.step == step
    assert stopper.received == number
    assert first.stop == f"interrupted by {number.name} in epoch 2, after step {step}"
    assert "stopping after this step; once more stops at once" in capfd.readouterr().err
    assert signal.getsignal(number) == before
    second = run(Send(), StopOnSignal(), Checkpoint(path), resume=path, model=make_model(5))
    assert weights(second.model) == weights(whole.model)


@posix
def test_a_second_one_stops_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(Send(step=7, times=2), StopOnSignal(), Checkpoint(tmp_path / "c.npz", epochs=None))
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) == before


@posix
def test_the_signals_can_be_chosen():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    class Look(Callback):
        def on_step_end(self, state):
            seen.append(signal.getsignal(signal.SIGTERM) == before)

    state = run(StopOnSignal([signal.SIGINT]), Look(), Send(step=2))
    assert all(seen)
    assert state.stop.startswith("interrupted by SIGINT")


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGINT)

    class Fail(Callback):
        def on_step_end(self, state):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        run(StopOnSignal(), Fail())
    assert signal.getsignal(signal.SIGINT) == before


def test_in_another_thread_it_does_nothing():
    states, before = [], signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: states.append(run(StopOnSignal())))
    thread.start()
    thread.join()
    assert states[0].step == 15
    assert signal.getsignal(signal.SIGINT) == before


PROGRAM = """
import sys, time
sys.path[:0] = [{tests!r}, {root!r}]
from training.small import *
from minitorch_flux.backend import seed
from minitorch_flux.optimisers import Adam
from minitorch_flux.training import Callback, Checkpoint, StopOnSignal, train

class Slow(Callback):
    def on_loss(self, state):
        if state.step == 2:
            print("ready", flush=True)
            time.sleep({pause})

seed(0)
path = sys.argv[1]
resume = path if len(sys.argv) > 3 else None
state = train(loss, make_model(int(sys.argv[2])), make_loader(), Adam(1e-2), epochs=3, resume=resume,
              callbacks=[Slow(), StopOnSignal(), Checkpoint(path, epochs=None)])
print(state.step, state.stop)
"""


def program(path, *args, pause=0.0):
    tests = Path(__file__).parents[1]
    text = PROGRAM.format(tests=str(tests), root=str(tests.parent), pause=pause)
    command = [sys.executable, "-c", text, str(path), *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@posix
def test_in_processes_of_their_own(tmp_path):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert program(whole, "0").communicate(timeout=60) == ("ready\n15 \n", "")
    process = program(parts, "0", pause=60)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)  # asleep in the middle of a step: nothing was saved
    process.communicate(timeout=60)
    assert not parts.exists()

    process = program(parts, "0", pause=0.7)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out == "3 interrupted by SIGINT in epoch 1, after step 3\n"
    assert "Traceback" not in err
    assert program(parts, "7", "resume").communicate(timeout=60) == ("15 \n", "")

    from minitorch_flux.files import load_checkpoint

    a, b = (load_checkpoint(p) for p in (whole, parts))
    assert {k: v.tobytes() for k, v in a["model"].items()} == {k: v.tobytes() for k, v in b["model"].items()}
    assert a["generators"] == b["generators"]
