"""Capture: a step recorded once and replayed without Python's work (``capture``).

``backend/tracers.py`` has the stand-ins for arrays and numbers. Here: ``recorder.py`` writes down what is done with them,
``plans.py`` gives the recording memory and ``programs.py`` makes its calls ready, ``watching.py`` finds what the step depends
on in Python, ``courses.py`` records, proves and replays one way that a step goes, and ``captured.py`` chooses among them.
On a GPU ``device_recorder.py`` is the recorder, and ``graph_plans.py`` makes the recording one CUDA graph.
"""

from ..backend.tracers import CaptureError
from .captured import Captured, capture

__all__ = ["CaptureError", "Captured", "capture"]
