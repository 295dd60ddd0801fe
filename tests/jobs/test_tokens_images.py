"""Images in prompts: their size from the header of a data: URL, their price by the model."""

import base64
from collections.abc import Callable

import pytest

from jobs.tokens.images import Image, image_tokens, size_of_data_url


def _data_url(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _png(width: int, height: int) -> bytes:
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + size + b"\x08\x06\0\0\0"


def _gif(width: int, height: int) -> bytes:
    return b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\xf7\0\0"


def _jpeg(width: int, height: int, *, metadata_bytes: int = 0) -> bytes:
    segment = b"\xff\xe1" + (metadata_bytes + 2).to_bytes(2, "big") + bytes(metadata_bytes)
    frame = b"\xff\xff\xc2\0\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x03"
    return b"\xff\xd8\xff\xe0\0\x04JF" + segment + frame


def _webp(kind: bytes, content: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + content + bytes(16)


def _webp_lossy(width: int, height: int) -> bytes:
    return _webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little"))


def _webp_lossless(width: int, height: int) -> bytes:
    return _webp(b"VP8L", b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little"))


def _webp_extended(width: int, height: int) -> bytes:
    return _webp(b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


@pytest.mark.parametrize("image", [_png, _gif, _jpeg, _webp_lossy, _webp_lossless, _webp_extended])
def test_size_is_read_from_the_header(image: Callable[[int, int], bytes]) -> None:
    assert size_of_data_url(_data_url(image(1_234, 567))) == (1_234, 567)


def test_size_of_a_photo_is_found_behind_its_metadata() -> None:
    assert size_of_data_url(_data_url(_jpeg(4_032, 3_024, metadata_bytes=65_000))) == (4_032, 3_024)


def test_line_breaks_in_the_base64_do_no_harm() -> None:
    head, encoded = _data_url(_png(640, 480)).split(",")

    assert size_of_data_url(head + ",\r\n" + "\r\n".join(encoded)) == (640, 480)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "",
        "data:",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,x",
        "data:image/png;base64,é€",
        "data:image/png;base64,\ud800",
        "data:image/svg+xml,<svg/>",
        _data_url(b"BM" + bytes(100), "bmp"),
        _data_url(_png(1, 1)[:20]),
        _data_url(_png(0, 100)),
        _data_url(_gif(5, 5)[:8]),
        _data_url(_webp(b"ALPH", bytes(20))),
        _data_url(b"\xff\xd8"),
        _data_url(b"\xff\xd8" + b"\xff" * 5_000),
        _data_url(b"\xff\xd8" + b"\xff\xe0\0\0" * 50_000),
        _data_url(b"\xff\xd8\xff\xe0\xff\xff"),
    ],
)
def test_what_has_no_readable_size_has_none(url: str) -> None:
    assert size_of_data_url(url) is None


@pytest.mark.parametrize(
    ("model", "size_px", "low_detail", "tokens"),
    [
        # The examples of OpenAI's guide.
        ("gpt-4o", (1_024, 1_024), False, 765),
        ("gpt-4o", (2_048, 4_096), False, 1_105),
        ("gpt-4o", (4_096, 8_192), True, 85),
        # Billed for an image of 128 × 64, as published in OpenAI's community forum.
        ("gpt-4o-2024-11-20", (128, 64), False, 255),
        ("gpt-4o-mini-2024-07-18", (128, 64), False, 8_500),
        ("gpt-4o-mini", (128, 64), True, 2_833),
        ("gpt-4.1-mini", (128, 64), False, 13),
        ("gpt-4.1-mini", (128, 64), True, 13),
        # Nothing tells the size: the most that one image can cost.
        ("gpt-4o", None, False, 1_445),
        ("openai/gpt-4o-mini", None, False, 48_169),
        ("o4-mini", None, False, 2_642),
        ("some-local-model", None, False, 1_445),
        ("gpt-4o", (1, 1_000_000), False, 765),
    ],
)
def test_price_of_an_image(
    model: str, size_px: tuple[int, int] | None, low_detail: bool, tokens: int
) -> None:
    assert image_tokens(Image(low_detail, size_px), model) == tokens


def test_no_image_costs_more_than_one_of_unknown_size() -> None:
    sides = (1, 511, 513, 767, 769, 1_025, 2_047, 2_048, 2_049, 5_000, 70_000)
    for model in ("gpt-4o", "gpt-4o-mini", "gpt-5-nano"):
        most = image_tokens(Image(False, None), model)
        assert all(image_tokens(Image(False, (w, h)), model) <= most for w in sides for h in sides)
