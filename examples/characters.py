"""A character LSTM learns English from the Python language reference, then writes some.

    python examples/characters.py [--steps 1200] [--seed 0] [--out runs/characters] [--device cuda]

The text is ``pydoc_data.topics``, which comes with every Python: 460 thousand characters. The model reads 32 places of it
at once, 64 characters at a time, and carries its state from one batch to the next (truncated backpropagation). Its
perplexity on text that it has not seen stands beside those of counting single characters and pairs of them. Leaves
``perplexity.png``, ``surprise.png`` (how surprising each character of a passage was) and ``sample.txt``. Needs matplotlib.
"""

import argparse
from pathlib import Path
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import minitorch_flux as flux
from minitorch_flux.backend import to_device

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))  # 96 characters
STREAMS, STEPS = 32, 64  # places read at once, characters of each between two updates
DARK, GREY, BLUE, ORANGE = "#1f2933", "#6b7785", "#0072b2", "#d55e00"


def corpus():
    """The text as numbers of the alphabet, without the lines of tables: nine tenths to train on, and the rest."""
    lines = "\n".join(topics[name] for name in sorted(topics)).split("\n")
    text = "\n".join(line for line in lines if "|" not in line and "+--" not in line)
    codes = np.array([max(ALPHABET.find(c), 0) for c in text], np.int64)
    split = len(codes) * 9 // 10
    return codes[:split], codes[split:]


def batches(codes, streams, steps):
    """Pairs (x, y) of shape (steps, streams), y one character ahead; each stream goes on where it was."""
    length = (len(codes) - 1) // streams
    x, y = (codes[at : at + length * streams].reshape(streams, length).T for at in (0, 1))
    for t in range(0, length - steps + 1, steps):
        yield x[t : t + steps], y[t : t + steps]


def counted(train, test, order):
    """The perplexity on ``test`` of counting what follows the last ``order`` (0 or 1) characters in ``train``."""
    n = len(ALPHABET)
    before = (np.zeros_like(train[:-1]) if order == 0 else train[:-1], np.zeros_like(test[:-1]) if order == 0 else test[:-1])
    counts = np.full((n, n), 0.1)  # so that nothing is impossible
    np.add.at(counts, (before[0], train[1:]), 1)
    p = counts / counts.sum(1, keepdims=True)
    return float(np.exp(-np.log(p[before[1], test[1:]]).mean()))


def surprise(model, codes):
    """Minus the logarithm of the probability that the model gave each character, from the second one on."""
    scores = read_afresh(model, codes[:-1, None])
    return flux.losses.logitcrossentropy(scores, codes[1:, None], agg="none").numpy()[:, 0]


def perplexity(model, codes):
    """exp of the mean surprise, of 64 pieces of the text read side by side."""
    x, y = next(batches(codes, 64, (len(codes) - 1) // 64))
    return float(np.exp(flux.losses.logitcrossentropy(read_afresh(model, x), y).item()))


def read_afresh(model, x):
    """The scores for (T, N), read from the initial state; the state of the training run is put back."""
    lstm = model[1]
    state = lstm.state
    flux.reset(model)
    scores = model(x)
    lstm.state = state
    return scores


def write(model, length, temperature, rng, start="The "):
    """Let the model go on from ``start``: each character is drawn from what it finds likely, and read in the next step."""
    flux.reset(model)
    text = start
    for character in start:
        scores = model(np.array([ALPHABET.index(character)]))  # one step: the state is carried on
    while len(text) < length:
        logits = scores.numpy()[0] / temperature
        p = np.exp(logits - logits.max())
        code = rng.choice(len(ALPHABET), p=p / p.sum())
        text += ALPHABET[code]
        scores = model(np.array([code]))
    flux.reset(model)
    return text


def draw_curve(curve, baselines, path):
    """Perplexity over the training steps, beside the baselines."""
    figure, ax = plt.subplots(figsize=(8.4, 4.4), layout="constrained")
    steps, values = zip(*curve, strict=True)
    for name, value in baselines.items():
        ax.axhline(value, color=GREY, lw=1.2, ls=(0, (5, 3)))
        ax.annotate(f"{name}: {value:.1f}", (steps[-1], value), (0, 4), textcoords="offset points", ha="right", color=GREY)
    ax.plot(steps, values, color=BLUE, lw=2.2)
    ax.annotate(f"LSTM: {values[-1]:.2f}", (steps[-1], values[-1]), (0, 7), textcoords="offset points", ha="right", color=BLUE,
                weight="bold")
    ax.set_yscale("log")
    ticks = [3, 4, 5, 7, 10, 15, 20, 30, 50, 100]
    ax.set_yticks(ticks, labels=map(str, ticks))
    ax.minorticks_off()
    ax.set_ylim(min(3.2, values[-1] * 0.85), 110)
    ax.set_xlabel("training steps", color=DARK)
    ax.set_title("Perplexity on text that it has not seen", loc="left", weight="bold")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e4e7eb", lw=0.8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_surprise(model, codes, path, columns=84, rows=12):
    """A passage, each character on a colour that says how surprising it was."""
    bits = surprise(model, codes) / np.log(2)
    colours = LinearSegmentedColormap.from_list("", ["white", "#fde3cf", ORANGE])
    figure, ax = plt.subplots(figsize=(12.6, 4.6), layout="constrained")
    row = column = 0
    for code, b in zip(codes[1:], bits, strict=True):
        if column == columns or (ALPHABET[code] == "\n" and column):
            row, column = row + 1, 0
        if row == rows:
            break
        if ALPHABET[code] == "\n":
            continue
        ax.add_patch(plt.Rectangle((column, -row - 0.8), 1, 1, color=colours(min(b / 8, 1)), lw=0))
        ax.text(column + 0.5, -row - 0.3, ALPHABET[code], ha="center", va="center", family="monospace", fontsize=10.5)
        column += 1
    ax.set(xlim=(0, columns), ylim=(-rows, 0.4))
    ax.axis("off")
    ax.set_title("The more orange, the more surprising was the character to the LSTM (white: 0 bits, full: 8 and more)",
                 loc="left", weight="bold", fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(steps=1200, seed=0, out="runs/characters", device="cpu"):
    """Train, test, write, draw; returns the perplexities of the LSTM and of the bigram counts."""
    train, test = corpus()
    baselines = {"single characters": counted(train, test, 0), "pairs of characters": counted(train, test, 1)}
    flux.seed(seed)
    model = flux.Chain(flux.Embedding(96, 64), flux.LSTM(64, 256, stateful=True), flux.Dense(256, 96)).to(device)
    opt = flux.setup(flux.OptimiserChain(flux.ClipNorm(1.0), flux.Adam(4e-3)), model)
    rate = flux.schedules.CosAnneal(4e-3, 1e-4, period=steps)
    curve, step = [(0, perplexity(flux.cpu(model), test))], 0
    while step < steps:
        flux.reset(model)
        for x, y in batches(train, STREAMS, STEPS):
            x, y = to_device(x, device), to_device(y, device)
            flux.adjust(opt, rate(step))
            loss, grads = flux.withgradient(lambda m, x=x, y=y: flux.losses.logitcrossentropy(m(x), y), model)
            flux.update(opt, model, grads)
            step += 1
            if step % 100 == 0 or step == steps:
                curve.append((step, perplexity(flux.cpu(model), test)))
                print(f"step {step:5}: loss {loss.item():.3f}, perplexity on unseen text {curve[-1][1]:.2f}", flush=True)
            if step == steps:
                break
    for name, value in baselines.items():
        print(f"perplexity of counting {name}: {value:.2f}")
    print(f"perplexity of the LSTM: {curve[-1][1]:.2f}")
    model = flux.cpu(model)
    sample = write(model, 800, 0.5, np.random.default_rng(seed))
    print("\nIt writes:\n\n" + sample + "\n")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "sample.txt").write_text(sample)
    draw_curve(curve, baselines, out / "perplexity.png")
    draw_surprise(model, test[2000:4000], out / "surprise.png")
    print(f"pictures in {out}")
    return curve[-1][1], baselines["pairs of characters"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/characters")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N: where it trains (default: cpu)")
    main(**vars(parser.parse_args()))
