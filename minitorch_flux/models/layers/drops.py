"""DropBlock and StochasticDepth: what is dropped hangs together, blocks of an image or whole samples."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor
from ...nn.dropouts import Dropout, check_active
from ...nn.inputs import layer_name, whole
from ...nn.module import Module, training
from ...ops.dropblocks import check_dropblock, dropblock
from ...ops.nonlinearities import identity


class DropBlock(Module):
    """DropBlock(drop_block_prob=0.1, block_size=7, gamma_scale=1.0, rng=None, *, batchwise=False, edge="free", noise=False,
    active=None)

    While training, zeroes out contiguous regions of ``block_size`` x ``block_size`` pixels of every channel of ``x`` (N, C,
    H, W), and scales the rest by the number of pixels over the number of those kept. In test mode it returns its very input.
    ``DropBlock(None)`` is ``identity``.

    Every pixel is the seed, the middle, of a block with probability ``gamma``; with b = min(block_size, H, W)::

        gamma = gamma_scale * drop_block_prob * H * W / b^2 / ((H - b + 1) * (W - b + 1)),  at most 1

    A pixel that k possible seeds could cover is dropped with probability 1 - (1 - gamma)^k. ``edge="valid"``: seeds lie only
    where the whole block is inside, as in the paper, and about ``drop_block_prob`` of all pixels is dropped;
    ``edge="free"``, the default and Metalhead's: blocks may stick out, and much more is dropped where the map is hardly
    larger than the block. ``batchwise``: one mask for all samples. ``noise``: blocks hold standard normal noise, and nothing
    is scaled. ``rng``: a flux.Generator, or NumPy's for arrays on the CPU. The probability may vary along the depth of a
    model: see ``linear_scheduler``. Some literature speaks of the survival probability, 1 - ``drop_block_prob``.

    Raises ValueError for probabilities outside [0, 1] and for an input that has not 4 axes.
    Sources: Metalhead's ``Layers.DropBlock``; Ghiasi, Lin and Le, "DropBlock", NeurIPS 2018; timm's options.
    """

    def __new__(cls, drop_block_prob: Any = 0.1, *arguments: Any, **keywords: Any) -> Any:
        """``identity`` in place of a layer that is off."""
        return identity if drop_block_prob is None else super().__new__(cls, **keywords)

    def __init__(
        self,
        drop_block_prob: float = 0.1,
        block_size: int = 7,
        gamma_scale: float = 1.0,
        rng: Any = None,
        *,
        batchwise: bool = False,
        edge: str = "free",
        noise: bool = False,
        active: bool | None = None,
    ) -> None:
        check_dropblock("DropBlock", drop_block_prob, block_size, gamma_scale, edge)
        self.drop_block_prob, self.block_size, self.gamma_scale = drop_block_prob, block_size, gamma_scale
        self.rng, self.batchwise, self.edge, self.noise = rng, batchwise, edge, noise
        self.active = check_active("DropBlock", active)

    def __call__(self, x: Any) -> Tensor:
        return dropblock(x, self.drop_block_prob, self.block_size, self.gamma_scale, training(self), rng=self.rng,
                          batchwise=self.batchwise, edge=self.edge, noise=self.noise, name=layer_name(self))


class StochasticDepth(Dropout):
    """StochasticDepth(p, mode="row", *, rng=None, active=None)

    A ``Dropout`` of whole samples: at the end of a residual branch it drops the branch, so that the sample goes through the
    skip connection alone. ``mode="row"`` decides for every sample of the batch (axis 0, whatever the rank of ``x``),
    ``mode="batch"`` once for all. What survives is scaled by 1 / (1 - p). In test mode it returns its very input.
    ``StochasticDepth(None)`` is ``identity``. ``rng``: a flux.Generator, or NumPy's for arrays on the CPU.

    The probability may vary along the depth of a model: see ``linear_scheduler``. Raises ValueError for a ``p`` outside
    [0, 1] and for another ``mode``. Sources: Metalhead's ``Layers.StochasticDepth``; Huang and others, "Deep networks with
    stochastic depth", 2016 (which scales at test time instead).
    """

    _axes = {"row": 0, "batch": ()}

    def __new__(cls, p: Any = 0.0, *arguments: Any, **keywords: Any) -> Any:
        """``identity`` in place of a layer that is off."""
        return identity if p is None else super().__new__(cls, **keywords)

    def __init__(self, p: Any, mode: str = "row", *, rng: Any = None, active: bool | None = None) -> None:
        if mode not in self._axes:
            raise ValueError(f"StochasticDepth: mode must be 'row' (for every sample) or 'batch' (for all at once), got "
                             f"{mode!r}")
        super().__init__(p, axis=self._axes[mode], rng=rng, active=active)
        self.mode = mode

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords = {"rng": self.rng, "active": self.active}
        return [self.p] + ([] if self.mode == "row" else [self.mode]), {n: v for n, v in keywords.items() if v is not None}


def linear_scheduler(drop_prob: float | None = 0.0, *, start_value: float = 0.0, depth: int) -> list[Any]:
    """linear_scheduler(drop_prob=0.0, *, start_value=0.0, depth)

    The probabilities of dropping for ``depth`` layers by the linear scaling rule: evenly spaced from ``start_value`` on
    towards ``drop_prob``, not including it. ``linear_scheduler(0.2, depth=4)`` is [0, 0.05, 0.1, 0.15]. Where ``drop_prob``
    is None, all of them are: nothing is dropped. Source: Metalhead's ``Layers.linear_scheduler``.
    """
    depth = whole(depth, "linear_scheduler: depth")
    if drop_prob is None:
        if start_value:
            raise TypeError(f"linear_scheduler: drop_prob=None drops nothing, so there is no start_value, got {start_value!r}")
        return [None] * depth
    return [start_value + i * (drop_prob - start_value) / depth for i in range(depth)]
