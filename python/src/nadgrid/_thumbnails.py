"""Directions as small pictures, for a first look in a notebook."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Colours of the largest negative number, of zero and of the largest positive one.
_COLOURS = np.array([[33, 102, 172], [255, 255, 255], [178, 24, 43]], dtype=np.float64)
#: Columns of white between two images.
_GAP = 2


def strip(images: NDArray[Any]) -> bytes:
    """Images, k x C x H x W, side by side as a PNG: three channels as red, green and blue about grey, of others the first one.

    Each image has its own scale, its largest magnitude.
    """
    count, channels, height, width = images.shape
    shown = np.full((height, count * (width + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for place in range(count):
        image = np.nan_to_num(images[place].astype(np.float64), posinf=0.0, neginf=0.0)
        image = image / (np.abs(image).max() or 1.0)
        pixels = 127.5 * (1.0 + image).transpose(1, 2, 0) if channels == 3 else _coloured(image[0])
        left = place * (width + _GAP)
        shown[:, left : left + width] = np.rint(pixels).astype(np.uint8)
    return _png(shown)


def _coloured(image: NDArray[np.float64]) -> NDArray[np.float64]:
    negative, white, positive = _COLOURS
    share = np.abs(image)[..., np.newaxis]
    ends = np.where(image[..., np.newaxis] < 0, negative, positive)
    mixed: NDArray[np.float64] = white + share * (ends - white)
    return mixed


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of H x W x 3 bytes."""
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    # Each row begins with the number of its filter: none.
    rows = np.concatenate([np.zeros((height, 1), dtype=np.uint8), pixels.reshape(height, -1)], axis=1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
