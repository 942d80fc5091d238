"""Saving and loading: safetensors and npz, whole or not at all, never a pickle."""

from .checkpoints import load_checkpoint, save_checkpoint
from .formats import FileError
from .models import load, save

__all__ = ["FileError", "load", "load_checkpoint", "save", "save_checkpoint"]
