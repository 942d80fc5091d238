"""A character LSTM learns English from the Python language reference, then writes some.

    python examples/characters.py [--steps 1200] [--seed 0] [--out runs/characters] [--device cuda]

The text comes with every Python (see ``manual.py``): 420 thousand characters. The model reads 32 places of it at once, 64
characters at a time, and carries its state from one batch to the next (truncated backpropagation). Takes about 50 s on
two cores. Leaves ``characters.png``: its perplexity on text that it has not seen, beside that of counting what follows the
last few characters, and how surprising each character of a passage was. Needs matplotlib.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from manual import ALPHABET, baselines, corpus, draw_perplexity

import minitorch_flux as flux
from minitorch_flux.backend import to_device
from minitorch_flux.losses import logitcrossentropy

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
STREAMS, LENGTH, HIDDEN = 32, 64, 256  # places read at once, characters between two updates, the size of the LSTM
ORANGE = (0.84, 0.37, 0.0)


def batches(codes, streams, length):
    """Pairs (x, y) of shape (length, streams), y one character ahead; each stream goes on where it was."""
    whole = (len(codes) - 1) // streams
    x, y = (codes[at : at + whole * streams].reshape(streams, whole).T for at in (0, 1))
    for t in range(0, whole - length + 1, length):
        yield x[t : t + length], y[t : t + length]


def afresh(model):
    """A copy on the CPU that begins with the initial state."""
    return flux.reset(flux.cpu(model))


def perplexity(model, codes):
    """exp of the mean cross-entropy, of 64 pieces of the text side by side."""
    x, y = next(batches(codes, 64, (len(codes) - 1) // 64))
    return float(np.exp(logitcrossentropy(afresh(model)(x), y).item()))


def write(model, length, temperature, rng, start="The "):
    """Let the model go on from ``start``: each character is drawn from what it finds likely, and read in the next step."""
    model, text = afresh(model), start
    scores = model(np.array([[ALPHABET.index(c)] for c in start]))[-1]
    while len(text) < length:
        p = flux.softmax(scores[0] / temperature).numpy()
        code = rng.choice(len(ALPHABET), p=p / p.sum(dtype=np.float64))
        text += ALPHABET[code]
        scores = model(np.array([code]))  # one step: the state is carried on
    return text


def draw(curve, others, codes, bits, path, columns=74, rows=21):
    """Perplexity over the training steps, beside the baselines; and a passage in which colour is surprise."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(16, 6.6), width_ratios=(1, 1.7))
    draw_perplexity(left, curve, others)
    row = column = 0
    for code, b in zip(codes, bits, strict=True):
        if column == columns or (ALPHABET[code] == "\n" and column):
            row, column = row + 1, 0
        if row < rows and ALPHABET[code] != "\n":
            right.add_patch(plt.Rectangle((column, row), 1, 1, color=ORANGE, alpha=min(b / 8, 1), lw=0))
            right.text(column + 0.5, row + 0.5, ALPHABET[code], ha="center", va="center", family="monospace")
            column += 1
    right.set(xlim=(0, columns), ylim=(rows, 0))
    right.axis("off")
    right.set_title("How surprising each character was to the LSTM: white 0 bits, full orange 8 and more")
    figure.savefig(path)


def main(steps=1200, seed=0, out="runs/characters", device="cpu"):
    """Train, test, write, draw; returns the perplexities of the LSTM and of the best counts, and the text it wrote."""
    train, test = corpus()
    others = baselines(train, test)
    flux.seed(seed)
    model = flux.Chain(flux.Embedding(96, 64), flux.LSTM(64, HIDDEN, stateful=True), flux.Dense(HIDDEN, 96)).to(device)
    opt = flux.setup(flux.OptimiserChain(flux.ClipNorm(1.0), flux.Adam(4e-3)), model)
    rate = flux.schedules.CosAnneal(4e-3, 1e-4, period=steps)
    pieces = list(batches(train, STREAMS, LENGTH))
    curve = [(0, perplexity(model, test))]
    for step in range(steps):
        if step % len(pieces) == 0:  # the text begins anew
            flux.reset(model)
        x, y = (to_device(a, device) for a in pieces[step % len(pieces)])
        flux.adjust(opt, rate(step))
        loss, grads = flux.withgradient(lambda m, x=x, y=y: logitcrossentropy(m(x), y), model)
        flux.update(opt, model, grads)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            curve.append((step + 1, perplexity(model, test)))
            print(f"step {step + 1:5}: loss {loss.item():.3f}, perplexity on unseen text {curve[-1][1]:.2f}", flush=True)
    print("\n".join(f"perplexity of {name}: {value:.2f}" for name, value in others.items()))
    sample = write(model, 800, 0.5, np.random.default_rng(seed))
    print(f"perplexity of the LSTM: {curve[-1][1]:.2f}\n\nIt writes:\n\n{sample}\n")
    passage = test[2000:3200]
    bits = logitcrossentropy(afresh(model)(passage[:-1, None]), passage[1:, None], agg="none").numpy()[:, 0] / np.log(2)
    Path(out).mkdir(parents=True, exist_ok=True)
    draw(curve, others, passage[1:], bits, Path(out, "characters.png"))
    print(f"picture in {out}")
    return curve[-1][1], min(others.values()), sample


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"steps": 1200, "seed": 0, "out": "runs/characters", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
