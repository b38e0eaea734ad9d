"""Arrays to look at: small ones as numbers, large ones as pictures, downsampled so that no extreme entry is lost.

A picture is a PNG of sixteen colours, written here: these colours are all that matplotlib is asked for.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np

__all__ = ["CELLS", "COLUMNS", "colour", "is_small", "montage", "picture", "pooled", "shades"]

COLUMNS, CELLS = 12, 144
"""A matrix is shown as numbers if it has no more columns, and no more entries, than this."""
LINE, ROW = 8, 48
"""A row of no more than ``ROW`` numbers is shown too, in lines of ``LINE`` if it is longer than ``COLUMNS``."""
SIDE = 96
"""Pictures are pooled to no more blocks than this in each direction."""
LEVELS = 15
"""How many colours a picture has; odd, so that one is white."""


@cache
def _palette(name: str) -> bytes:
    """The colours of a map of matplotlib, three bytes each, and grey for what is no number."""
    from matplotlib import colormaps

    shades = (colormaps[name](np.linspace(0, 1, LEVELS))[:, :3] * 255).round().astype(np.uint8)
    return bytes([*shades.ravel(), 150, 150, 150])


def colour(share: float) -> str:
    """The colour of a number in [-1, 1], blue to red, as #rrggbb: not the darkest, so that text stands on it."""
    level = 3 * round((0.5 + 0.31 * min(max(share, -1.0), 1.0)) * (LEVELS - 1))
    return "#" + _palette("RdBu_r")[level : level + 3].hex()


def is_small(array: Any) -> bool:
    """Whether it is shown as numbers."""
    shape: tuple[int, ...] = np.shape(array)
    if len(shape) == 1:
        return shape[0] <= ROW
    return len(shape) <= 2 and (shape[-1] if shape else 1) <= COLUMNS and math.prod(shape) <= CELLS


def montage(array: np.ndarray) -> tuple[np.ndarray, str]:
    """Any array as one matrix, and in words how."""
    if array.ndim <= 1:
        row = array.reshape(-1)
        width = row.size if row.size <= SIDE else math.ceil(math.sqrt(row.size))
        filled = np.zeros(math.ceil(row.size / width) * width)
        filled[: row.size] = row
        return filled.reshape(-1, width), "" if row.size <= SIDE else f"one row, broken into lines of {width}"
    if array.ndim == 2:
        return array, ""
    words = []
    if array.ndim == 4 and array.shape[0] > 4:
        words.append(f"the first of {array.shape[0]}")
        array = array[:1]
    tiles = array.reshape(-1, *array.shape[-2:])
    lines = array.ndim == 4 and 1 < array.shape[1] <= 8  # channels side by side, samples one below the other
    across = array.shape[1] if lines else 8
    many = min(len(tiles), 64)
    if many < len(tiles):
        words.append(f"{many} of {len(tiles)} tiles")
    across = min(across, many)
    down = math.ceil(many / across)
    H, W = tiles.shape[1:]
    gap = 1 if max(H, W) > 1 else 0
    canvas = np.full((down * (H + gap) - gap, across * (W + gap) - gap), np.nan)
    for n in range(many):
        top, left = n // across * (H + gap), n % across * (W + gap)
        canvas[top : top + H, left : left + W] = tiles[n]
    if lines:
        words.append("a row of tiles for each index of the first axis")
    elif len(tiles) > 1:
        words.append("a tile for each index before the last two")
    return canvas, ", ".join(words)


def pooled(matrix: Any, rows: int = SIDE, columns: int = SIDE) -> np.ndarray:
    """A dense or sparse matrix with at most so many rows and columns: of each block the entry of largest magnitude."""
    height, width = matrix.shape
    small = np.zeros((min(height, rows), min(width, columns)))
    if hasattr(matrix, "tocoo"):
        entries = matrix.tocoo()
        (i, j), data = entries.coords, entries.data
    else:
        i, j = (axis.ravel() for axis in np.indices(matrix.shape))
        data = np.ravel(matrix)
    data = np.nan_to_num(np.asarray(data, dtype=float))
    at = i * small.shape[0] // max(height, 1), j * small.shape[1] // max(width, 1)
    most, least = small.copy(), small.copy()
    np.maximum.at(most, at, data)
    np.minimum.at(least, at, data)
    return np.where(most >= -least, most, least)


def picture(matrix: Any, colours: str = "RdBu_r") -> tuple[str, tuple[int, int], bool]:
    """A PNG as the address of an image, the size to show it at in pixels, and whether entries were pooled.

    "RdBu_r" is centred at 0, white; "cividis" spans the values.
    """
    whole = max(matrix.shape) <= SIDE
    small = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix) if whole else pooled(matrix)
    if colours == "RdBu_r":
        share = (small / (float(np.nanmax(abs(small))) or 1.0) + 1) / 2
    else:
        bottom = float(np.nanmin(small))
        share = (small - bottom) / ((float(np.nanmax(small)) - bottom) or 1.0)
    levels = np.where(np.isfinite(share), np.nan_to_num(share) * (LEVELS - 1), LEVELS).round().astype(np.uint8)
    height, width = levels.shape
    scale = max(2, min(20, 330 // max(height, width)))
    # viewers blur what they enlarge, unless the page may tell them not to: the smaller, the more pixels an entry has
    pixels = 8 if levels.size <= 256 else 4 if levels.size <= 1024 else 2
    stride = width * pixels // 2  # bytes, four bits a pixel; all lines of an entry but the first are as the one above
    lines = b"".join(
        b"\0" + (17 * row).repeat(pixels // 2).tobytes() + (b"\2" + bytes(stride)) * (pixels - 1) for row in levels
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", pixels * width, pixels * height, 4, 3, 0, 0, 0))
    png += chunk(b"PLTE", _palette(colours)) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    address = "data:image/png;base64," + base64.b64encode(png).decode()
    return address, (scale * width, scale * height), not whole


def shades(matrix: Any) -> list[str]:
    """A picture in characters: the darker, the larger the magnitude of the largest entry there; 0 is a dot."""
    small = abs(pooled(matrix, 16, 64))
    share = small / (small.max(initial=0) or 1.0)
    return ["".join("·" if s == 0 else "░▒▓█"[min(int(4 * s), 3)] for s in row) for row in share]
