"""What the ranks of the tests' jobs do. ``python -m tests.distributed.jobs NAME`` leaves the result in $RESULTS/RANK; of
several names, with commas between them, a list of results."""

import ctypes
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

import minitorch_flux as flux
from minitorch_flux import distributed
from minitorch_flux.backend import default_generator
from minitorch_flux.nn.state_dicts import state_dict


def model(norm=True):
    """A small network with every kind of thing that ranks share: weights, buffers, a shared layer, a part without gradient."""
    flux.seed(5)
    shared = flux.Dense(6, 6, flux.tanh)
    layers = [flux.Conv((3, 3), 1, 4, pad=1), *([flux.BatchNorm(4, flux.relu)] if norm else []), flux.MaxPool((2, 2)),
              flux.flatten, flux.Dense(4 * 9, 6), shared, shared, flux.Dense(6, 3)]
    return flux.f64(flux.Chain(*layers))


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 1, 6, 6)), rng.integers(0, 3, n)


def loss(m, x, y):
    return flux.losses.logitcrossentropy(m(x), y)


def scored(m, x, y):
    y_hat = m(x)
    return flux.losses.logitcrossentropy(y_hat, y), {"accuracy": flux.accuracy(y_hat, y)}


def numbers(m):
    return {path: a.tolist() for path, a in state_dict(m).items()}


def digest(m):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in state_dict(m).values())).hexdigest()


def share(x, group):
    return np.array_split(x, group.size)[group.rank]


def gradients(*batches):
    """The gradients of batches of these sizes, bucket by bucket, and by allreduce."""
    distributed.gradients.BUCKET = 1 << 8  # many buckets
    group = distributed.init()
    return [one_gradient(int(n), group) for n in batches]


def one_gradient(n, group):
    x, y = data(n)
    part = share(x, group), share(y, group)
    m = distributed.sync_batch_norms(model())
    value, grads = distributed.withgradient(lambda m: (loss(m, *part), {"count": float(len(part[0]))}), m, len(part[0]))
    plain = model(norm=False)
    averaged = None
    if n >= group.size:
        _, own = flux.withgradient(lambda m: loss(m, *part), plain)
        averaged = [a.tolist() for a in leaves(distributed.allreduce(own, len(part[0])))]
    return {"value": float(value[0]), "beside": value[1], "grads": [a.tolist() for a in leaves(grads)], "allreduce": averaged,
            "running": m[1].running_var.data.tolist()}


def leaves(grads):
    if grads is None:
        return []
    if isinstance(grads, np.ndarray):
        return [grads]
    return [a for part in grads for a in leaves(part)]


class Fail(flux.Callback):
    """Rank 1 ends in one way or another after five steps."""

    def __init__(self, how):
        self.how = how

    def on_step_end(self, state):
        if distributed.rank() != 1 or state.step != 5:
            return
        if self.how == "raise":
            raise FloatingPointError("the numbers have run out")
        if self.how == "kill":
            Path(os.environ["PIDS"]).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if self.how == "hang":  # in a kernel, with the lock of Python
            ctypes.PyDLL(None).sleep(100)
        if self.how == "leave":
            sys.exit(0)


class Forked(flux.Module):
    """Ranks go different ways; one part is frozen, one nobody uses, one is in float16, two are computed again."""

    def __init__(self):
        flux.seed(2)
        self.first, self.right = flux.f16(flux.Dense(3, 4)), flux.f64(flux.checkpoint(flux.Dense(4, 2, flux.tanh)))
        self.left = flux.checkpoint(flux.Dense(4, 2, flux.tanh))
        self.frozen, self.unused = flux.freeze(flux.Dense(4, 4)), flux.Dense(2, 2)

    def loss(self, x, rank):
        h = self.frozen(self.first(x).astype("float32"))
        y = self.right(h) if rank % 2 else self.left(h)
        slope = flux.gradient(lambda h: (self.left(h) ** 2).sum(), h)  # recorded: a penalty on a gradient
        return (y**2).mean() + (slope**2).mean()


def forked():
    group = distributed.init()
    distributed.gradients.BUCKET = 16
    m = Forked()
    x = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    _, grads = distributed.withgradient(lambda m: m.loss(share(x, group), group.rank), m, 2)
    return {name: None if g is None else [str(g.weight.dtype), g.weight.tolist()] for name, g in grads._parts().items()}


def training(folder, epochs, resume="", how=""):
    """A whole run of batches that do not come out even, with noise of each rank's own."""
    group = distributed.init()
    m = distributed.sync_batch_norms(flux.Chain(model(), flux.Dropout(0.2)))
    if group.rank:
        for p in m.parameters():
            p.data[...] = 7  # rank 0's numbers count
    loader = distributed.DistributedLoader(data(23), 6, shuffle=True, rng=flux.Generator(3))
    checkpoint = flux.Checkpoint(f"{folder}/run.safetensors")
    state = flux.train(loss, m, loader, flux.Adam(1e-2), epochs=int(epochs), resume=resume or None,
                       callbacks=[flux.CSVLog(f"{folder}/log.csv"), checkpoint, Fail(how)])
    return {"digest": digest(m), "history": [row["loss"] for row in state.history],
            "key": str(default_generator().key), "observations": state.observations}


def plain_training():
    """The same without noise, to be compared with a run in one process."""
    distributed.init()
    m = distributed.sync_batch_norms(model())
    loader = distributed.DistributedLoader(data(23), 6, shuffle=True, rng=flux.Generator(3))
    state = flux.train(scored, m, loader, flux.Adam(1e-2), epochs=2)
    score = flux.evaluate(m, distributed.DistributedLoader(data(23), 6), loss=flux.losses.logitcrossentropy)
    return {"numbers": numbers(m), "history": [[row["loss"], row["accuracy"]] for row in state.history], "score": score["loss"]}


def scaled_trainings(dtype):
    """Two of them."""
    return [scaled_training(dtype, bad) for bad in (False, True)]


def scaled_training(dtype, bad=False):
    """A run in 16 bits with a loss scale; with ``bad`` rank 1 alone finds an infinite gradient in the fourth step."""
    group = distributed.init()
    m, seen = {"float16": flux.f16, "bfloat16": flux.bf16}[dtype](model(norm=False)), []

    def shifted(m, x, y):
        seen.append(1)
        value = loss(m, x, y)
        return value + value * np.float32(np.inf) if bad and group.rank == 1 and len(seen) == 4 else value

    class Quiet(flux.Callback):
        def on_loss(self, state):
            losses.append(state.loss)

    losses = []
    rule = flux.OptimiserChain(flux.LossScale(2.0**12, growth_interval=3), flux.ClipNorm(1.0, total=True), flux.Adam(1e-2))
    x, y = data(23)
    loader = distributed.DistributedLoader((x.astype(np.float32), y), 6, shuffle=True, rng=flux.Generator(3))
    state = flux.train(shifted, m, loader, rule, epochs=2, callbacks=[Quiet()])
    masters = np.concatenate([s["master"].ravel() for s in state.opt.states().values()])
    return {"digest": digest(m), "state": [state.skipped, state.opt.loss_scale], "losses": losses, "masters": masters.tolist()}


def shards():
    """What each rank sees in two epochs."""
    distributed.init()
    flux.seed(11)
    loader = distributed.DistributedLoader(np.arange(17), 5, shuffle=True)
    return {"batches": [[b.tolist() for b in loader] for _ in range(2)], "length": len(loader), "repr": repr(loader)}


def arrays():
    """Sums, broadcasts, words, agreements."""
    group = distributed.init()
    a = np.arange(4, dtype=np.float32) + group.rank
    summed, told = group.sum(a.copy()), group.broadcast(a.copy(), root=group.size - 1)
    group.barrier()
    words = group.gather({"rank": group.rank, "word": "ä" * group.rank})
    return [summed.tolist(), told.tolist(), words, group.agreed("enough" if group.rank == 1 else ""), group.agreed(""),
            [distributed.rank(), distributed.size(), distributed.init() is group, distributed.launched()]]


def stops(folder):
    """Rank 1 wants to stop after three steps."""
    distributed.init()

    class Enough(flux.Callback):
        def on_step_end(self, state):
            if distributed.rank() == 1 and state.step == 3:
                state.stop = "rank 1 has had enough"

    loader = distributed.DistributedLoader(data(20), 4)
    state = flux.train(loss, model(norm=False), loader, flux.Descent(0.1), epochs=2, callbacks=[Enough()])
    return [state.step, state.stop]


def differing(what):
    """Ranks that do not fit together."""
    group = distributed.init()
    if what == "version" and group.rank == 1:
        flux.__version__ = "0.0.1"
    if what == "length":
        distributed.DistributedLoader(np.zeros(4 + group.rank), 2)
    m = flux.Dense(3, 2 + (what == "shape" and group.rank == 1))
    if what == "drift":
        distributed.synchronize(m)
        m.weight.data[0, 0] += group.rank == 1
        distributed.check_equal(m)
    distributed.synchronize(m)


def several():
    """Gradients of two batches at a time, and of a second group of ranks beside the first, one of them alone."""
    group = distributed.init()
    m = model(norm=False)
    opt = flux.setup(flux.OptimiserChain(flux.AccumGrad(2), flux.Adam(1e-2)), m)
    for n in (8, 5, 7, 2):
        x, y = data(n)
        part = share(x, group), share(y, group)
        flux.update(opt, m, distributed.withgradient(lambda m, part=part: loss(m, *part), m, len(part[0]))[1])
    half = distributed.Group(group.comm.Split(group.rank % 2))
    x, y = data(6, half.size)
    part = share(x, half), share(y, half)
    value, grads = distributed.withgradient(lambda m: loss(m, *part), m, len(part[0]), half)
    return {"numbers": numbers(m), "half": [half.size, float(value), [a.tolist() for a in leaves(grads)]]}


def uneven(what):
    """Rank 1 has a batch less than the others, and goes on to something else; or nobody has one."""
    group = distributed.init()
    m = model(norm=False)
    x, y = data(4) if what == "shorter" else data(0)
    for _ in range(3 - group.rank):
        distributed.withgradient(lambda m: loss(m, x, y), m, len(x))
    distributed.check_equal(m)


def failing(how, folder):
    """Rank 1 fails in the middle of a run."""
    training(folder, 3, how=how)


if __name__ == "__main__":
    results = [globals()[name](*sys.argv[2:]) for name in sys.argv[1].split(",")]
    result = results if len(results) > 1 else results[0]
    Path(os.environ["RESULTS"], str(distributed.rank())).write_text(json.dumps(result))
