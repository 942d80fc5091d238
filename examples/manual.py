"""What ``characters.py`` and ``gpt.py`` share: the text they learn from, what counting makes of it, and a picture of both.

The text is the Python language reference, ``pydoc_data.topics``, which comes with every Python: 420 thousand characters.
"""

from pydoc_data.topics import topics

import numpy as np

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))  # 96 characters


def corpus():
    """The text as numbers of the alphabet, without the lines of tables: nine tenths to train on, and the rest."""
    lines = "\n".join(topics[name] for name in sorted(topics)).split("\n")
    text = "\n".join(line for line in lines if "|" not in line and "+--" not in line)
    codes = np.array([max(ALPHABET.find(c), 0) for c in text], np.int64)
    split = len(codes) * 9 // 10
    return codes[:split], codes[split:]


def baselines(train, test):
    """The perplexities on ``test`` of counting in ``train`` what follows the last few characters; the best is that of 4."""
    return {f"counting what follows {k} characters": counted(train, test, k) for k in (0, 1, 2, 4)}


def counted(train, test, order):
    """The perplexity on ``test`` of counting in ``train`` what follows 0 to ``order`` characters.

    What follows few is mixed in where many were seldom seen (Witten and Bell, "The zero-frequency problem", 1991).
    """
    p = np.full(len(test) - order, 1 / len(ALPHABET))
    for k in range(order + 1):
        (before, pairs), (test_before, test_pairs) = (numbered(codes, order, k) for codes in (train, test))
        seen = how_often(before, test_before)
        kinds = how_often(np.unique(pairs) // len(ALPHABET), test_before)  # different characters that followed
        p = np.where(seen > 0, (how_often(pairs, test_pairs) + kinds * p) / np.maximum(seen + kinds, 1), p)
    return float(np.exp(-np.log(p).mean()))


def numbered(codes, order, k):
    """For each place from ``order`` on the k characters before it as one number, and these with its own."""
    before = np.zeros(len(codes) - order, np.int64)
    for back in range(k, 0, -1):
        before = before * len(ALPHABET) + codes[order - back : len(codes) - back]
    return before, before * len(ALPHABET) + codes[order:]


def how_often(values, asked):
    """How often each of ``asked`` is among the values."""
    known, counts = np.unique(values, return_counts=True)
    at = np.searchsorted(known, asked).clip(max=len(known) - 1)
    return np.where(known[at] == asked, counts[at], 0)


def draw_perplexity(ax, curve, others):
    """Perplexity over the training steps, ``curve`` [(step, value), ...], beside that of others."""
    steps, values = zip(*curve, strict=True)
    for name, value in others.items():
        ax.axhline(value, color="#6b7785", lw=1.2, ls=(0, (5, 3)))
        ax.annotate(f"{name}: {value:.1f}", (steps[-1], value), (0, 4 if value > values[-1] else -12), ha="right",
                    textcoords="offset points", color="#6b7785")
    ax.plot(steps, values)
    ax.set(xlabel="training steps", yscale="log", ylim=(min(3.2, values[-1] * 0.85), 110), xlim=(0, steps[-1]))
    ax.set_yticks([3, 5, 10, 20, 50, 100], labels=["3", "5", "10", "20", "50", "100"])
    ax.minorticks_off()
    ax.set_title(f"Perplexity on text that it has not seen: {values[-1]:.2f} in the end")
