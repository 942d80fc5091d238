"""A network solves a differential equation: how far does a membrane give way under a load?

    python examples/membrane.py [--steps 1500] [--seed 0] [--out runs/membrane] [--device cuda]

The membrane is stretched over a square; where it is pressed with f it moves by u, and -(u_xx + u_yy) = f. The network is
asked for u(x, y) and is trained on nothing but the equation: its second derivatives with respect to its own input have to
fit, at 256 random places in every step. So each update needs gradients of gradients of gradients. Takes about 8 s on
two cores; the step is recorded once and replayed. Leaves ``membrane.png``, with the difference from a solution on a grid.
Needs matplotlib. (Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks", 2019.)
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, tanh

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
LOADS = (-0.4, 0.35, 12.0), (0.45, -0.3, -9.0), (0.45, 0.5, 7.0)  # where, and how strongly: f is a sum of three bumps


def load(p):
    """f at the points (N, 2): (N,)."""
    return sum(strength * flux.exp(-12 * ((p[:, 0] - x) ** 2 + (p[:, 1] - y) ** 2)) for x, y, strength in LOADS)


def height(model, p):
    """u at the points (N, 2): (N,). The first factor holds the membrane at the edges of the square from -1 to 1."""
    return (1 - p[:, 0] ** 2) * (1 - p[:, 1] ** 2) * model(p)[:, 0]


def residual(model, p):
    """u_xx + u_yy + f at each point, which should be 0."""

    def slope(p):  # every point's height depends on that point alone, so the gradient of the sum has all slopes
        return flux.gradient(lambda p: height(model, p).sum(), p)

    curvature = [flux.gradient(lambda p, k=k: slope(p)[:, k].sum(), p)[:, k] for k in (0, 1)]
    return curvature[0] + curvature[1] + load(p)


def on_grid(n):
    """The points of a grid (n, n, 2) inside the square, and u there by finite differences."""
    x = np.linspace(-1, 1, n + 2)[1:-1]
    grid = np.stack(np.meshgrid(x, x), -1)
    second = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) / (x[1] - x[0]) ** 2
    f = load(flux.tensor(grid.reshape(-1, 2))).numpy()
    return grid, np.linalg.solve(np.kron(second, np.eye(n)) + np.kron(np.eye(n), second), f).reshape(n, n)


def draw(grid, u, truth, losses, path):
    """The membrane, its difference from the solution on the grid, and the residual over the training steps."""
    figure = plt.figure(figsize=(14, 5))
    surface, apart, curve = (figure.add_subplot(1, 3, i + 1, projection="3d" if i == 0 else None) for i in range(3))
    most = abs(u).max()
    surface.plot_surface(*np.moveaxis(grid, -1, 0), u, cmap="RdBu_r", rcount=47, ccount=47, vmin=-most, vmax=most)
    surface.view_init(28, -55)
    surface.set_axis_off()
    surface.set_box_aspect((1, 1, 0.7), zoom=1.35)
    surface.set_title("The network's membrane")
    most = abs(u - truth).max()
    shown = apart.imshow(u - truth, cmap="PuOr", extent=(-1, 1, -1, 1), origin="lower", vmin=-most, vmax=most)
    apart.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    apart.grid(False)
    figure.colorbar(shown, ax=apart, shrink=0.72).outline.set_visible(False)
    apart.set_title(f"Its difference from a solution on a grid\n(heights: {u.min():.2f} to {u.max():.2f})")
    curve.semilogy(np.sqrt(losses), lw=0.6)
    curve.minorticks_off()
    curve.set(xlabel="training steps", xlim=(0, len(losses)))
    curve.set_title("How far the equation is off")
    figure.savefig(path)


def main(steps=1500, seed=0, out="runs/membrane", device="cpu"):
    """Train, compare, draw; returns the largest difference from the solution on a grid, as a share of the largest height."""
    flux.seed(seed)
    rng = flux.Generator(seed)
    model = Chain(Dense(2, 32, tanh), Dense(32, 32, tanh), Dense(32, 32, tanh), Dense(32, 1)).to(device)
    opt, rate = flux.setup(flux.Adam(5e-3), model), flux.schedules.CosAnneal(5e-3, 1e-5, period=steps)
    step = flux.capture(lambda p: flux.withgradient(lambda m: (residual(m, p) ** 2).mean(), model))
    losses = []
    for i in range(steps):
        loss, grads = step(2 * rng.uniform((256, 2), like=model[0].weight.data) - 1)
        flux.adjust(opt, rate(i))
        flux.update(opt, model, grads)
        losses.append(loss.item())
        if (i + 1) % 100 == 0:
            print(f"step {i + 1:5}: the equation is off by {np.mean(losses[-100:]) ** 0.5:.3f}", flush=True)
    grid, truth = on_grid(47)
    u = height(flux.cpu(model), grid.reshape(-1, 2).astype(np.float32)).numpy().reshape(truth.shape)
    error = float(abs(u - truth).max() / abs(truth).max())
    print(f"largest difference from the solution on a grid: {error:.2%} of the largest height; picture in {out}")
    Path(out).mkdir(parents=True, exist_ok=True)
    draw(grid, u, truth, losses, Path(out, "membrane.png"))
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"steps": 1500, "seed": 0, "out": "runs/membrane", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
