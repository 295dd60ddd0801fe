"""What an image in a prompt costs in tokens: its size from the header, and the model's own way of counting.

Source: "Calculating costs" in OpenAI's guide to images and vision.
"""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

_HEADER_BASE64_CHARS = 262_144
"""How much of an image is looked at: a JPEG may have long metadata before its size."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a prompt; its size is None where only the provider will see it."""

    low_detail: bool
    size_px: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Scaled down into 2,048 × 2,048 and to a short side of 768 pixels, then counted in 512 × 512 tiles."""

    base_tokens: int
    tile_tokens: int

    def tokens(self, image: Image) -> int:
        if image.low_detail:
            return self.base_tokens
        width, height = image.size_px or (2_048, 768)
        scale = min(1.0, 2_048 / max(width, height), 768 / min(width, height))
        columns, rows = (max(1, ceil(round(side * scale) / 512)) for side in (width, height))
        return self.base_tokens + self.tile_tokens * columns * rows


@dataclass(frozen=True, slots=True)
class _Patches:
    """Counted in patches of 32 × 32 pixels, at most 1,536 of them, whatever the detail."""

    tokens_per_patch: float

    def tokens(self, image: Image) -> int:
        width, height = image.size_px or (2_048, 2_048)
        return ceil(min(ceil(width / 32) * ceil(height / 32), 1_536) * self.tokens_per_patch)


_USUAL = _Tiles(base_tokens=85, tile_tokens=170)
_DEARER: Mapping[str, _Tiles | _Patches] = {
    "gpt-4o-mini": _Tiles(base_tokens=2_833, tile_tokens=5_667),
    "gpt-4.1-mini": _Patches(1.62),
    "gpt-4.1-nano": _Patches(2.46),
    "gpt-5-mini": _Patches(1.62),
    "gpt-5-nano": _Patches(2.46),
    "o4-mini": _Patches(1.72),
}
"""The models that charge more for an image than the usual; dated versions begin with the same name."""


def image_tokens(image: Image, model: str) -> int:
    """The tokens of one image for the model of that name (the provider's, with or without a vendor's
    prefix).

    Where the size is unknown, as much as the largest image costs.
    """
    name = model.rpartition("/")[2]
    for prefix, price in _DEARER.items():
        if name.startswith(prefix):
            return price.tokens(image)
    return _USUAL.tokens(image)


def size_of_data_url(url: str) -> tuple[int, int] | None:
    """Width and height in pixels of the PNG, GIF, WebP or JPEG image in a base64 data: URL.

    None for any other URL or format, and for a header that cannot be read.
    """
    scheme, comma, _ = url[:256].partition(",")
    if not (comma and scheme.startswith("data:") and scheme.endswith(";base64")):
        return None
    start = len(scheme) + 1
    encoded = "".join(url[start : start + _HEADER_BASE64_CHARS].split())
    try:
        header = binascii.a2b_base64(encoded[: len(encoded) // 4 * 4])
    except ValueError:
        return None
    size = _size(header)
    return size if size and all(size) else None


def _size(header: bytes) -> tuple[int, int] | None:
    if header.startswith(b"\x89PNG\r\n\x1a\n") and len(header) >= 24:
        return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    if header.startswith((b"GIF87a", b"GIF89a")) and len(header) >= 10:
        return int.from_bytes(header[6:8], "little"), int.from_bytes(header[8:10], "little")
    if header.startswith(b"RIFF") and header[8:12] == b"WEBP" and len(header) >= 30:
        return _webp_size(header)
    if header.startswith(b"\xff\xd8"):
        return _jpeg_size(header)
    return None


def _webp_size(header: bytes) -> tuple[int, int] | None:
    """By the kind of its first chunk: extended, lossless or lossy (RFC 9649)."""
    kind = header[12:16]
    if kind == b"VP8X":
        return int.from_bytes(header[24:27], "little") + 1, int.from_bytes(header[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(header[26:28], "little") & 0x3FFF, int.from_bytes(
            header[28:30], "little"
        ) & 0x3FFF
    return None


def _jpeg_size(header: bytes) -> tuple[int, int] | None:
    """From the frame header, found by stepping over the segments before it (ITU T.81, annex B)."""
    at = 2
    while at + 9 <= len(header) and header[at] == 0xFF:
        marker = header[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(header[at + 7 : at + 9], "big"), int.from_bytes(
                header[at + 5 : at + 7], "big"
            )
        at += 1 if marker == 0xFF else 2 + int.from_bytes(header[at + 2 : at + 4], "big")
    return None
