"""See inside a model: what it is made of, what it computes, and where its time and its numbers go."""

from .drawings import Drawing, draw
from .explanations import Explanation, explain
from .figures import show_heat, show_maps
from .maps import attention_maps, feature_maps, filters
from .nonfinites import NonFinite, find_nonfinite
from .profiles import Profile, profile
from .saliencies import grad_cam, saliency
from .summaries import Row, Summary, summary
from .watches import Watch, watch

__all__ = [
    "Drawing",
    "Explanation",
    "NonFinite",
    "Profile",
    "Row",
    "Summary",
    "Watch",
    "attention_maps",
    "draw",
    "explain",
    "feature_maps",
    "filters",
    "find_nonfinite",
    "grad_cam",
    "profile",
    "saliency",
    "show_heat",
    "show_maps",
    "summary",
    "watch",
]
