"""The command: ``minitorch-flux train | summary | kernels | emulate | bench | info``, also ``python -m minitorch_flux``."""

from .program import main

__all__ = ["main"]
