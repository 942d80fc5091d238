"""A small GPT learns to write from the same text as the LSTM of ``characters.py``.

    python examples/gpt.py [--steps 1000] [--seed 0] [--out runs/gpt] [--device cuda]

Three blocks of causal attention see 128 characters at once and say, for each, what comes next. Takes about 120 s on two
cores. Prints a text that it makes up, and leaves ``gpt.png``: its perplexity on text that it has not seen, beside that of
counting and that of the LSTM, and what every head looks at. Needs matplotlib. (The blocks have GPT-2's form.)
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from manual import ALPHABET, baselines, corpus, draw_perplexity

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, LayerNormV2, MultiHeadAttention, gelu
from minitorch_flux.backend import to_device
from minitorch_flux.losses import logitcrossentropy

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
WIDTH, HEADS, DEPTH, CONTEXT, BATCH = 128, 4, 3, 128, 16
LSTM = 3.86  # the perplexity of characters.py


class Block(flux.Module):
    """Tokens (N, L, WIDTH): each looks at those before it, then thinks for itself; both is added to what it was."""

    def __init__(self):
        self.norm1, self.norm2, self.attention = LayerNormV2(WIDTH), LayerNormV2(WIDTH), MultiHeadAttention(WIDTH, HEADS)
        self.mlp = Chain(Dense(WIDTH, 4 * WIDTH, gelu), Dense(4 * WIDTH, WIDTH))

    def __call__(self, x):
        x = x + self.attention(self.norm1(x), causal=True)
        return x + self.mlp(self.norm2(x))


class GPT(flux.Module):
    """Characters (N, L), at most CONTEXT of them, to the scores (N, L, 96) of the next ones."""

    def __init__(self):
        self.letters = flux.Embedding(len(ALPHABET), WIDTH)
        angles = np.arange(CONTEXT)[:, None] / 1000 ** (np.arange(0, WIDTH, 2) / WIDTH)
        self.places = flux.Param(np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32))  # to begin with
        self.blocks = Chain(*(Block() for _ in range(DEPTH)))
        self.scores = Chain(LayerNormV2(WIDTH), Dense(WIDTH, len(ALPHABET)))

    def __call__(self, x):
        return self.scores(self.blocks(self.letters(x) + self.places[: x.shape[1]]))  # which character, and where it stands


def pieces(codes, firsts):
    """The CONTEXT characters from each of ``firsts`` on, and the ones that come next: two (N, CONTEXT)."""
    found = codes[firsts[:, None] + np.arange(CONTEXT + 1)]
    return found[:, :-1], found[:, 1:]


def perplexity(model, codes, every=1):
    """exp of the mean cross-entropy, of characters that have half a context or more before them, in every so many pieces."""
    x, y = pieces(codes, np.arange(0, len(codes) - CONTEXT, every * CONTEXT // 2))
    scores = flux.predict(model, x, batchsize=32)[:, CONTEXT // 2 :]
    return float(np.exp(logitcrossentropy(scores, y[:, CONTEXT // 2 :]).item()))


def write(model, length, rng, temperature=0.8, top=10, start="The "):
    """Let the model go on from ``start``: each character is drawn from the ``top`` ones that it finds likeliest."""
    codes = [ALPHABET.index(c) for c in start]
    while len(codes) < length:
        values, likeliest = flux.topk(model(np.array([codes[-CONTEXT:]]))[0, -1] / temperature, top)
        p = flux.softmax(values).numpy()
        codes.append(int(rng.choice(likeliest, p=p / p.sum(dtype=np.float64))))
    return "".join(ALPHABET[c] for c in codes)


def draw(model, curve, others, passage, path):
    """Perplexity over the training steps; the attention weights of every head for a passage."""
    left, right = plt.figure(figsize=(14, 6.6)).subfigures(1, 2, width_ratios=(1, 1.25))
    draw_perplexity(left.subplots(), curve, others)
    right.suptitle("What each character (row) looks at (column): the heads of each block", x=0.02, ha="left")
    x = model.letters(passage[None]) + model.places[: len(passage)]
    for row, block in zip(right.subplots(DEPTH, HEADS), model.blocks, strict=True):
        _, heads = block.attention(block.norm1(x), causal=True, return_weights=True)
        for ax, weights in zip(row, heads.numpy()[0], strict=True):  # (L, L)
            ax.imshow(weights**0.5, cmap="Blues", vmin=0, vmax=1)
            ax.set_xticks(range(len(passage)), [ALPHABET[c] for c in passage], fontsize=6, family="monospace")
            ax.set_yticks([])
        x = block(x)
    plt.savefig(path)


def main(steps=1000, seed=0, out="runs/gpt", device="cpu"):
    """Train, test, write, draw; returns the perplexities of the GPT and of the best counts, and the text it wrote."""
    train, test = corpus()
    others = baselines(train, test) | {"the LSTM": LSTM}
    flux.seed(seed)
    rng, model, curve = np.random.default_rng(seed), GPT().to(device), []
    opt = flux.setup(flux.OptimiserChain(flux.ClipNorm(1.0), flux.AdamW(3e-3, weight_decay=0.1)), model)
    rate = flux.schedules.OneCycle(3e-3, steps, pct_start=0.05)
    for step in range(steps):
        x, y = (to_device(a, device) for a in pieces(train, rng.integers(0, len(train) - CONTEXT, BATCH)))
        flux.adjust(opt, rate(step))
        loss, grads = flux.withgradient(lambda m, x=x, y=y: logitcrossentropy(m(x), y), model)
        flux.update(opt, model, grads)
        if step % 100 == 0 or step + 1 == steps:
            curve.append((step + 1, perplexity(flux.cpu(model), test, every=1 if step + 1 == steps else 8)))
            print(f"step {step + 1:5}: loss {loss.item():.3f}, perplexity on unseen text {curve[-1][1]:.2f}", flush=True)
    sample = write(flux.cpu(model), 800, rng)
    print(*(f"perplexity of {name}: {value:.2f}" for name, value in others.items()), "\nIt writes:\n", sample, sep="\n")
    Path(out).mkdir(parents=True, exist_ok=True)
    draw(flux.cpu(model), curve, others, test[2000:2032], Path(out, "gpt.png"))
    return curve[-1][1], sample


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"steps": 1000, "seed": 0, "out": "runs/gpt", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
