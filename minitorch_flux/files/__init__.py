"""Saving and loading: safetensors, npz and PyTorch's files, whole or not at all, never a pickle."""

from .checkpoints import load_checkpoint, save_checkpoint
from .formats import FileError
from .models import load, save
from .torch_files import read_torch
from .torch_models import LoadReport, load_torch
from .torch_writing import save_torch

__all__ = [
    "FileError",
    "LoadReport",
    "load",
    "load_checkpoint",
    "load_torch",
    "read_torch",
    "save",
    "save_checkpoint",
    "save_torch",
]
