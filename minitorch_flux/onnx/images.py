"""ImageDecoder: the pixels of an image file."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any

import numpy as np

from .registry import register

MODES = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}


@register("ImageDecoder", host=("encoded_stream",))
def image_decoder(encoded_stream: Any, *, pixel_format: str = "RGB") -> Any:
    """The bytes of a file, JPEG, PNG, BMP, TIFF, WebP and others, as (H, W, C) of bytes. Read by Pillow."""
    if pixel_format not in MODES:
        raise ValueError(f"pixel_format={pixel_format!r} is not one of {', '.join(MODES)}")
    try:
        image = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ImportError("ImageDecoder needs the package Pillow: pip install pillow") from error
    with warnings.catch_warnings():
        warnings.simplefilter("error", image.DecompressionBombWarning)  # of a size that no picture has
        try:
            stream = io.BytesIO(np.asarray(encoded_stream, np.uint8).tobytes())
            pixels = np.asarray(image.open(stream).convert(MODES[pixel_format]))
        except (OSError, image.DecompressionBombError, image.DecompressionBombWarning) as error:
            raise ValueError(f"the bytes are no image: {error}") from None
    if pixel_format == "Grayscale":
        return pixels[:, :, None]
    return np.ascontiguousarray(pixels[:, :, ::-1]) if pixel_format == "BGR" else pixels
