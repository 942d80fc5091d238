"""A captured step beside the step itself: two worlds made alike, which must stay equal in every bit."""

import numpy as np

import minitorch_flux as flux
from minitorch_flux.autograd import Gradients, Tensor


def bits(x):
    """Everything in a nested value, in a form that compares bit by bit."""
    if isinstance(x, Tensor):
        return ("tensor", bits(x.data))
    if isinstance(x, np.ndarray | np.generic):
        return (type(x).__name__, x.shape, x.dtype.name, x.tobytes())
    if isinstance(x, Gradients):
        return {k: bits(v) for k, v in x._parts().items()}
    if isinstance(x, dict):
        return {k: bits(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [bits(v) for v in x]
    return x


class World:
    """What ``make()`` gives: the step, and the models, optimisers and generators that it changes."""

    def __init__(self, make, *args):
        flux.seed(7)
        self.step, *self.held = make(*args)
        self.counter = flux.backend.default_generator().state_dict()

    def call(self, function, args, keywords):
        generator = flux.backend.default_generator()
        generator.load_state_dict(self.counter)
        try:
            return bits(function(*args, **keywords))
        finally:
            self.counter = generator.state_dict()

    def state(self):
        found = [self.counter]
        for x in self.held:
            if isinstance(x, flux.Generator) or hasattr(x, "states"):
                found.append(bits(x.state_dict()))
            else:
                found += [(bits(t.data), t.version, bits(t.grad)) for t in tensors(x)]
                found += [bits(layer._remembered()) for _, layer in flux.nn.module.walk(x) if hasattr(layer, "_memory")]
        return found


def tensors(x):
    """Parameters and buffers of a model, or the tensors in a list."""
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, list | tuple):
        return [t for v in x for t in tensors(v)]
    return [t for _, m in flux.nn.module.walk(x) for t in vars(m).values() if isinstance(t, Tensor)]


def alongside(make, calls, *args, between=None, replays=None):
    """Make the world twice, call the step in one and the captured step in the other with the same inputs, and compare.

    ``calls``: the arguments of each call, positional ones or (positional, keywords). ``between(i, *held)`` is called
    before each call in both worlds. At the end the captured step must have been replayed ``replays`` times (default: all
    calls but three). Returns the captured step.
    """
    eager, replayed = World(make, *args), World(make, *args)
    fast = flux.capture(replayed.step)
    for i, given in enumerate(calls):
        positional, keywords = given if len(given) == 2 and isinstance(given[1], dict) else (given, {})
        if between is not None:
            between(i, *eager.held)
            between(i, *replayed.held)
        assert replayed.call(fast, positional, keywords) == eager.call(eager.step, positional, keywords), f"call {i}"
        assert replayed.state() == eager.state(), f"after call {i}"
    assert fast.replays == (len(calls) - 3 if replays is None else replays)
    return fast
