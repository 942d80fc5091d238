"""The mathematics: one file a family, each op a page (formula, reference, gradient, operation, kernel launcher)."""

from . import methods as methods  # attaches the operators and methods of Tensor
