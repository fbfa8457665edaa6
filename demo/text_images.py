# SPDX-License-Identifier: Apache-2.0
"""Pictures of text lines, upright or upside down, drawn with the font that Pillow carries.

The same seed gives the same pictures on one version of Pillow; nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HEIGHT, WIDTH = 48, 192
_WORDS = [
    "invoice",
    "total",
    "amount",
    "due",
    "date",
    "name",
    "street",
    "order",
    "number",
    "quantity",
    "price",
    "discount",
    "delivery",
    "address",
    "customer",
    "phone",
    "Headrace",
    "dataflow",
    "compiler",
    "virtual",
    "device",
    "parking",
    "exit",
    "entrance",
    "open",
    "closed",
    "sale",
    "coffee",
    "bakery",
    "station",
    "platform",
    "2026",
    "1789",
    "42",
    "3.14",
    "007",
    "98.6%",
    "No.5",
    "A4",
    "B12",
    "$19.99",
    "info@example.org",
    "Main-Street",
    "Kiosk",
    "Museum",
    "Library",
    "Harbour",
]


def text_line(rng: np.random.Generator) -> Image.Image:
    """One upright line of text on a plain, noisy background, filling a 48×192 picture."""
    text = " ".join(str(w) for w in rng.choice(_WORDS, int(rng.integers(1, 4))))
    dark = bool(rng.integers(0, 2))
    paper, ink = rng.integers(170, 256, 3), rng.integers(0, 90, 3)
    if dark:
        paper, ink = ink, paper
    font = ImageFont.load_default(size=int(rng.integers(26, 38)))
    left, top, right, bottom = font.getbbox(text)
    margin = int(rng.integers(2, 10))
    picture = Image.new(
        "RGB", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), tuple(int(v) for v in paper)
    )
    ImageDraw.Draw(picture).text((margin - left, margin - top), text, fill=tuple(int(v) for v in ink), font=font)
    # As the classifier's own pipeline does: keep the aspect ratio at height 48, cut or pad to the width.
    width = min(WIDTH, max(1, round(picture.width * HEIGHT / picture.height)))
    line = picture.resize((width, HEIGHT), Image.Resampling.BILINEAR)
    if rng.integers(0, 3) == 0:
        line = line.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    return line


def text_images(count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pictures uint8 ``[count, 48, 192, 3]`` in BGR order, and labels int64 ``[count]``: 1 where upside down."""
    rng = np.random.default_rng(seed)
    images = np.full((count, HEIGHT, WIDTH, 3), 127, np.uint8)  # mid-grey is real 0 after normalisation
    labels = rng.integers(0, 2, count)
    for i in range(count):
        line = text_line(rng)
        if labels[i]:
            line = line.transpose(Image.Transpose.ROTATE_180)
        pixels = np.asarray(line, np.int64)
        noisy = pixels + rng.normal(0, float(rng.uniform(0, 8)), pixels.shape).astype(np.int64)
        images[i, :, : line.width] = np.clip(noisy, 0, 255)[:, :, ::-1]
    return images, labels
