"""How many bicycles will be hired tomorrow, hour by hour? A GRU says it, and how sure it is.

    python examples/timeseries.py [--epochs 10] [--seed 0] [--out runs/timeseries] [--device cuda]

``bikes.txt`` counts the bicycles hired in Washington in every hour of 2011. Every midnight the GRU reads the last three days
and forecasts the next one: for each hour the median, and limits between which the count should lie four times in five. It
trains on the year up to October, about 12 s on two cores, and is judged on November and December, beside two forecasts
that cost nothing: as yesterday, and as a week ago. Leaves ``timeseries.png``. Needs matplotlib.
"""

import argparse
from datetime import date
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minitorch_flux as flux
from minitorch_flux.backend import to_device

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
BLUE, PALE, ORANGE, GREY = "#0072b2", "#56b4e9", "#d55e00", "#6b7785"
DAY, PAST, WEEK = 24, 72, 168  # hours: what is forecast, what is read, how long until things come again
LEVELS = 0.1, 0.5, 0.9  # the quantiles
TEST = (365 - 61) * DAY  # the first hour of November


def features(counts):
    """For each hour from the second week on (hours, 13): the root of the count, the one a week ago, and the calendar."""
    hours = np.arange(len(counts))
    angle = 2 * np.pi * (hours % DAY)[:, None] / DAY * [1, 2]
    weekday = np.eye(7)[(hours // DAY + 5) % 7]  # 2011 began on a Saturday
    root = np.sqrt(counts)[:, None] / 10
    return np.concatenate([root, np.roll(root, WEEK, 0), np.sin(angle), np.cos(angle), weekday], 1).astype(np.float32)


def windows(table, firsts):
    """What is read, (96, N, 13): three days before each hour of ``firsts`` and the day from then on; what is to be said."""
    x = table[firsts + np.arange(-PAST, DAY)[:, None]]
    y = x[PAST:, :, 0].copy()
    x[PAST:, :, 0] = 0  # the future is not known
    return x, y


class Forecaster(flux.Module):
    """Windows (96, N, 13) to the quantiles of the last 24 hours (24, N, 3), which are in order."""

    def __init__(self, hidden=48):
        self.gru, self.dense = flux.GRU(13, hidden), flux.Dense(hidden, 3)

    def __call__(self, x):
        found = self.dense(self.gru(x)[PAST:])
        median, below, above = found[..., :1], flux.softplus(found[..., 1:2]), flux.softplus(found[..., 2:])
        return flux.cat([median - below, median, median + above], axis=-1)


def pinball(y_hat, y, levels):
    """The loss that is least when shares of ``levels`` of the truth lie below the three forecasts."""
    over = y[..., None] - y_hat
    return flux.maximum(over * levels, over * (levels - 1)).mean()


def learn(model, table, epochs, device):
    """Train on the windows that end before November, wherever in the day they begin."""
    loader = flux.DataLoader(np.arange(WEEK + PAST, TEST - DAY + 1), batchsize=64, shuffle=True)
    levels = to_device(np.float32(LEVELS), device)
    rate = flux.schedules.CosAnneal(5e-3, 1e-4, period=epochs * len(loader))

    def loss(m, firsts):
        x, y = (to_device(a, device) for a in windows(table, firsts))
        return pinball(m(x), y, levels)

    opt = flux.OptimiserChain(flux.ClipNorm(1.0), flux.AdamW(5e-3, weight_decay=1e-2))
    for row in flux.train(loss, model, loader, opt, epochs=epochs, callbacks=[flux.Schedule(rate)]).history:
        print(f"epoch {row['epoch']:2}: loss {row['loss']:.4f}")


def draw(truth, forecast, errors, path, days=14):
    """Two weeks of forecasts and what came, and the errors by the hour of the day."""
    figure, (ax, hourly) = plt.subplots(2, 1, figsize=(13, 7.4), height_ratios=(1.5, 1))
    hours, (low, median, high) = np.arange(days * DAY) / DAY, forecast[: days * DAY].T
    ax.fill_between(hours, low, high, color=BLUE, alpha=0.2, lw=0, label="forecast: four times in five between these")
    ax.plot(hours, median, color=BLUE, label="forecast: the median")
    ax.plot(hours, truth[: days * DAY], color=ORANGE, lw=1.4, label="what came")
    ax.set(xlim=(0, days), ylim=(0, 720), ylabel="bicycles an hour", xticks=np.arange(days) + 0.5)
    ax.set_xticklabels([f"{date(2011, 11, 1 + d):%a} {1 + d} Nov" for d in range(days)])
    ax.legend(loc="upper left", ncols=3, title="Each day was forecast at the midnight before it", alignment="left")
    for (name, error), colour in zip(errors.items(), (GREY, PALE, BLUE), strict=True):
        hourly.plot(error.reshape(-1, DAY).mean(0), color=colour, label=f"{name}: {error.mean():.1f}")
    hourly.set(xlim=(0, 23), ylim=(0, None), xticks=range(0, 24, 3), xlabel="hour of the day", ylabel="bicycles an hour")
    hourly.legend(loc="upper left", title="Mean absolute error in November and December", alignment="left")
    figure.savefig(path)


def main(epochs=10, seed=0, out="runs/timeseries", device="cpu"):
    """Train, forecast, draw; returns the mean absolute errors by name, and how often the truth was between the limits."""
    flux.seed(seed)
    counts = np.loadtxt(Path(__file__).with_name("bikes.txt")).ravel()
    table, midnights = features(counts), np.arange(TEST, len(counts), DAY)
    model = Forecaster().to(device)
    learn(model, table, epochs, device)
    roots = flux.cpu(model)(windows(table, midnights)[0]).numpy()  # (24, days, 3)
    forecast, truth = (10 * roots.clip(0).transpose(1, 0, 2).reshape(-1, 3)) ** 2, counts[TEST:]
    forecasts = {"as yesterday": counts[TEST - DAY : -DAY], "as a week ago": counts[TEST - WEEK : -WEEK], "GRU": forecast[:, 1]}
    covered = float(np.mean((forecast[:, 0] <= truth) & (truth <= forecast[:, 2])))
    errors = {name: np.abs(truth - forecast) for name, forecast in forecasts.items()}
    for name in errors:
        print(f"{name}: wrong by {errors[name].mean():.1f} bicycles an hour on average (the mean count is {truth.mean():.1f})")
    print(f"between the limits: {covered:.1%} of the hours (meant: 80%); picture in {out}")
    Path(out).mkdir(parents=True, exist_ok=True)
    draw(truth, forecast, errors, Path(out, "timeseries.png"))
    return {name: float(error.mean()) for name, error in errors.items()}, covered


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"epochs": 10, "seed": 0, "out": "runs/timeseries", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
