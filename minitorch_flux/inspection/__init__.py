"""See inside a model: what it is made of, what it computes, and where its time and its numbers go."""

from .drawings import Drawing, draw
from .nonfinites import NonFinite, find_nonfinite
from .profiles import Profile, profile
from .summaries import Row, Summary, summary
from .watches import Watch, watch

__all__ = [
    "Drawing",
    "NonFinite",
    "Profile",
    "Row",
    "Summary",
    "Watch",
    "draw",
    "find_nonfinite",
    "profile",
    "summary",
    "watch",
]
