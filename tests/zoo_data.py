# SPDX-License-Identifier: Apache-2.0
"""Real pictures of the zoo in the form each network wants, as uint8 frames in NHWC.

Calibration pictures are never test pictures. Where a data set is small and all of it is the test set, calibration
takes pictures of another set: classifiers of data_imagenet250 calibrate on crops of COCO pictures, detectors that are
judged on data_coco64 calibrate on mosaics of ImageNet pictures.
"""

from __future__ import annotations

import gzip
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
Array = np.ndarray[Any, Any]
NO_LABELS = np.zeros(0, np.int64)


# --- labelled sets -------------------------------------------------------------------------------------------------


def cifar_calibration(zoo: Path) -> Array:
    """512 training pictures of CIFAR-10."""
    return np.load(zoo / "data_cifar10" / "calib512.npz")["x"]


def cifar_test(zoo: Path) -> tuple[Array, Array]:
    data = np.load(zoo / "data_cifar10" / "test2000.npz")
    return data["x"], data["y"].astype(np.int64).reshape(-1)


@lru_cache(maxsize=1)
def _mnist(zoo: Path) -> tuple[Array, Array]:
    folder = zoo / "data_mnist"
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return x, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def mnist_calibration(zoo: Path) -> Array:
    """The last 512 pictures; the test takes the first 2000."""
    return _mnist(zoo)[0][-512:]


def mnist_test(zoo: Path) -> tuple[Array, Array]:
    x, y = _mnist(zoo)
    return x[:2000], y[:2000]


def vww_test(zoo: Path) -> tuple[Array, Array]:
    data = np.load(zoo / "data_vww" / "vww_from_coco_292.npz")
    return data["x"], data["y"].astype(np.int64).reshape(-1)


@lru_cache(maxsize=1)
def imagenet_test(zoo: Path) -> tuple[Array, Array]:
    """All 250 crops, uint8 ``[250, 224, 224, 3]`` RGB, and their classes 0..999."""
    folder = zoo / "data_imagenet250"
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    images = [np.asarray(Image.open(folder / "val224" / row[0]).convert("RGB")) for row in rows]
    return np.stack(images), np.array([int(row[1]) for row in rows], np.int64)


def imagenet_resized(zoo: Path, size: int, count: int) -> Array:
    """``count`` pictures spread over data_imagenet250, resized to a square."""
    images, _ = imagenet_test(zoo)
    picked = images[np.linspace(0, len(images) - 1, count).astype(int)]
    return np.stack([np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BILINEAR)) for i in picked])


# --- COCO ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def coco_annotations(zoo: Path) -> dict[str, Any]:
    return json.loads((zoo / "data_coco64" / "instances.json").read_text())


@lru_cache(maxsize=1)
def coco_images(zoo: Path) -> tuple[tuple[int, Array], ...]:
    """(image id, uint8 H×W×3 RGB) in the order of instances.json."""
    folder = zoo / "data_coco64" / "images"
    entries = coco_annotations(zoo)["images"]
    return tuple((e["id"], np.asarray(Image.open(folder / e["file_name"]).convert("RGB"))) for e in entries)


def resized(image: Array, height: int, width: int) -> Array:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def letterboxed(image: Array, size: int, fill: int = 114) -> Array:
    """Scaled to fit a square, at its top left corner, the rest filled (as YOLOX does)."""
    height, width = image.shape[:2]
    scale = min(size / height, size / width)
    inner = resized(image, max(1, int(height * scale)), max(1, int(width * scale)))
    out = np.full((size, size, 3), fill, np.uint8)
    out[: inner.shape[0], : inner.shape[1]] = inner
    return out


def coco_crops(zoo: Path, size: int) -> Array:
    """Two square crops of each COCO picture, left or top and right or bottom, uint8 ``[128, size, size, 3]`` RGB."""
    crops = []
    for _, image in coco_images(zoo):
        side = min(image.shape[:2])
        crops += [resized(image[:side, :side], size, size), resized(image[-side:, -side:], size, size)]
    return np.stack(crops)


def mosaics(zoo: Path) -> list[Array]:
    """62 pictures of 2×2 ImageNet crops, cut to 4:3 or 3:4 so that they look like COCO's, uint8 RGB."""
    images, _ = imagenet_test(zoo)
    out = []
    for i in range(len(images) // 4):
        a, b, c, d = images[4 * i : 4 * i + 4]
        whole = np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)], 0)
        out.append(whole[56:392] if i % 3 else whole[:, 56:392])
    return out


def bgr(images: list[Array]) -> Array:
    return np.ascontiguousarray(np.stack(images)[..., ::-1])


def rgb(images: list[Array]) -> Array:
    return np.stack(images)


def person_heads(zoo: Path, size: int) -> tuple[Array, Array]:
    """Square crops of the upper end of large COCO persons, and of which half of the pictures (0, 1) each comes."""
    data = coco_annotations(zoo)
    person = next(c["id"] for c in data["categories"] if c["name"] == "person")
    pictures = dict(coco_images(zoo))
    half = {image: k % 2 for k, image in enumerate(sorted(pictures))}
    crops, halves = [], []
    for entry in data["annotations"]:
        x, y, w, h = (round(v) for v in entry["bbox"])
        if entry["category_id"] != person or entry["iscrowd"] or w < 32 or h < 64:
            continue
        image = pictures[entry["image_id"]]
        side = min(max(32, min(w, h // 2)), *image.shape[:2])
        left = min(max(0, x + (w - side) // 2), image.shape[1] - side)
        top = min(max(0, y), image.shape[0] - side)
        crops.append(resized(image[top : top + side, left : left + side], size, size))
        halves.append(half[entry["image_id"]])
    return np.stack(crops), np.array(halves, np.int64)


# --- text ----------------------------------------------------------------------------------------------------------


def text_images(count: int, seed: int) -> tuple[Array, Array]:
    """Rendered text lines (demo/text_images.py)."""
    if str(ROOT / "demo") not in sys.path:
        sys.path.insert(0, str(ROOT / "demo"))
    from text_images import text_images as render

    return render(count, seed)


def text_pages(backgrounds: list[Array], size: int, seed: int) -> Array:
    """Rendered lines on pictures, uint8 ``[N, size, size, 3]`` BGR, N the number of backgrounds."""
    rng = np.random.default_rng(seed)
    lines, _ = text_images(3 * len(backgrounds), seed)
    pages = np.stack([resized(image, size, size)[..., ::-1] for image in backgrounds])
    for k, line in enumerate(lines):
        height = int(rng.integers(16, 49))
        width = min(size, 4 * height)
        scaled = resized(line, height, width)
        top = (k % 3) * (size // 3) + int(rng.integers(0, size // 3 - height + 1))
        left = int(rng.integers(0, size - width + 1))
        pages[k // 3, top : top + height, left : left + width] = scaled
    return pages
