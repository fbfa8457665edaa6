# SPDX-License-Identifier: Apache-2.0
"""Calibration data as people of other toolchains pass them: callables, data sets, loaders, tuples, endless ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.data import iterables
from headrace.data.calibration import load_calibration
from headrace.data.notes import Notes
from headrace.errors import DataError
from headrace.hn import Network
from layer_maker import set_attributes
from random_graphs import GraphBuilder

torch: Any = pytest.importorskip("torch")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 6, 8, 3)).astype(np.uint8)
CHANNELS_FIRST = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))
LABELS = np.arange(6)


def network(*shapes: tuple[int, ...]) -> Network:
    b = GraphBuilder(1)
    for i, shape in enumerate(shapes or ((6, 8, 3),)):
        x = b.input(shape)
        set_attributes(b.net, x, source_name=f"data{i or ''}")
        b.output(b.add("activation", [x], {"activation": "relu"}))
    return b.net


class TfLike:
    """What tf.data.Dataset offers; its plain iteration gives tensors that numpy does not know."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter([object()])

    def as_numpy_iterator(self) -> Iterator[Any]:
        return iter(self.items)


class Indexed:
    """A torch Dataset: no __iter__, and no IndexError at its end."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(CHANNELS_FIRST[index % len(IMAGES)]), int(LABELS[index % len(IMAGES)])


class Dictionaries(Indexed):
    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return {"data": image, "label": label}


def loader(data: Any, **options: Any) -> Any:
    return torch.utils.data.DataLoader(data, **options)


SOURCES: dict[str, Callable[[], Any]] = {
    "callable of an array": lambda: lambda: IMAGES,
    "callable of a generator": lambda: lambda: (frame for frame in IMAGES),
    "callable of a zoo data set": lambda: lambda: TfLike([(frame, {"image_name": "a"}) for frame in IMAGES]),
    "bound method": lambda: TfLike(list(IMAGES)).as_numpy_iterator,
    "tuples with infos": lambda: [(frame, {"name": "x"}) for frame in IMAGES],
    "tuples of batches and labels": lambda: [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])],
    "tuple of a mapping and a label": lambda: [({"data": frame}, 3) for frame in IMAGES],
    "tf data": lambda: TfLike(list(IMAGES)),
    "tf batches": lambda: TfLike([IMAGES[:5], IMAGES[5:]]),
    "tf mappings": lambda: TfLike([{"data": frame} for frame in IMAGES]),
    "torch data set": Indexed,
    "torch loader": lambda: loader(Indexed(), batch_size=4),
    "torch loader, drop nothing, batch 1": lambda: loader(Indexed(), batch_size=1),
    "torch loader of mappings": lambda: loader(Dictionaries(), batch_size=4),
    "torch tensors that need gradients": lambda: [
        torch.from_numpy(f.astype(np.float32)).requires_grad_() for f in IMAGES
    ],
    "bfloat16 tensor": lambda: torch.from_numpy(IMAGES).to(torch.bfloat16),
    "frames of unlike types": lambda: [IMAGES[:2], IMAGES[2:4].astype("f4"), IMAGES[4:].astype(">i8")],
    "memory": lambda: memoryview(IMAGES),
    "nothing masked": lambda: np.ma.masked_greater(IMAGES, 255),
    "one tensor": lambda: torch.from_numpy(CHANNELS_FIRST),
    "list of arrays": lambda: list(IMAGES),
    "tuple of arrays": lambda: tuple(IMAGES),
    "batches of unlike size": lambda: [IMAGES[:1], IMAGES[1:4], IMAGES[4:]],
    "frames and batches": lambda: [IMAGES[0], IMAGES[1:]],
    "channels first": lambda: iter(CHANNELS_FIRST),
    "nested lists": lambda: [frame.tolist() for frame in IMAGES],
    "a whole nested list": lambda: IMAGES.tolist(),
    "lists of mappings with labels": lambda: [{"data": frame, "label": 1} for frame in IMAGES],
    "sequence protocol": lambda: type("S", (), {"__getitem__": lambda _, i: list(IMAGES)[i]})(),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_people_pass(name: str) -> None:
    data = load_calibration(SOURCES[name](), network())["net/input_layer1"]
    want = IMAGES.astype(np.float32)
    if name == "bfloat16 tensor":
        want = torch.from_numpy(IMAGES).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(data, want)


def test_a_tuple_of_arrays_is_a_data_set_and_a_tuple_of_a_frame_is_a_frame() -> None:
    notes = Notes()
    load_calibration([(frame, 1) for frame in IMAGES], network(), notes=notes)
    assert notes.lines() == ["of each tuple of 2 the first entry is the data, the rest is not used"]
    notes = Notes()
    load_calibration([{"data": frame, "label": 1} for frame in IMAGES], network(), notes=notes)
    assert notes.lines() == ["entries that are no network input are not used: 'label'"]


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_endless_iterators_stop(limit: int) -> None:
    pulled: list[int] = []

    def endless() -> Iterator[Any]:
        for i in itertools.count():
            pulled.append(i)
            yield IMAGES[i % 6 : i % 6 + 1]

    data = load_calibration(endless, network(), limit=limit)["net/input_layer1"]
    np.testing.assert_array_equal(data, IMAGES[:limit])
    assert len(pulled) == limit


def test_endless_without_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterables, "MAX_FRAMES", 50)
    with pytest.raises(DataError, match="calibset_size") as caught:
        load_calibration(itertools.cycle(IMAGES), network())
    assert caught.value.code == "E-DATA-TOO-LARGE"
    monkeypatch.setattr(iterables, "memory_limit", lambda: 1000)
    with pytest.raises(DataError, match="keep in memory"):
        load_calibration(itertools.cycle(IMAGES), network())


class Broken:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("gone")


def fails() -> Iterator[Any]:
    yield IMAGES[0]
    yield IMAGES[1]
    raise FileNotFoundError("img_0002.jpg")


@pytest.mark.parametrize(
    ("source", "code", "where"),
    [
        (fails, "E-DATA-ITERABLE", "frame 2"),
        (lambda: 1 / 0, "E-DATA-CALLABLE", "net"),
        (lambda path: path, "E-DATA-CALLABLE", "net"),
        (lambda: print, "E-DATA-CALLABLE", "net"),
        (lambda: None, "E-DATA-DTYPE", "net/input_layer1"),
        (None, "E-DATA-DTYPE", "net/input_layer1"),
        (7, "E-DATA-SHAPE", "net/input_layer1"),
        ([IMAGES[0], IMAGES[0, :5]], "E-DATA-SHAPE", "frame 1, net/input_layer1"),
        ([IMAGES[0], "frame"], "E-FILE-MISSING", "frame"),
        ([IMAGES[0], None], "E-DATA-DTYPE", "frame 1"),
        ([IMAGES[0], [[1, 2], [3]]], "E-DATA-ARRAY", "frame 1"),
        ([IMAGES[0], ()], "E-DATA-ARRAY", "frame 1"),
        ([IMAGES[0], {"dta": IMAGES[0]}], "E-DATA-NAME", "frame 1"),
        ([IMAGES[0], {"data": IMAGES[0], "input_layer1": IMAGES[0]}], "E-DATA-NAME", "frame 1"),
        ([IMAGES[0], np.full((6, 8, 3), np.nan)], "E-DATA-NOT-FINITE", "net/input_layer1"),
        ([], "E-DATA-EMPTY", "net"),
        (iter(()), "E-DATA-EMPTY", "net"),
        ([IMAGES[:0]], "E-DATA-EMPTY", "net"),
        (iter([object()]), "E-DATA-DTYPE", "frame 0"),
        ({1, 2, 3}, "E-DATA-SHAPE", "frame 0, net/input_layer1"),
        ("", "E-DATA-EMPTY", "net"),
        (np.ma.masked_greater(IMAGES, 250), "E-DATA-ARRAY", "net/input_layer1"),
        (Broken(), "E-DATA-ARRAY", "net/input_layer1"),
        ([IMAGES[0], Broken()], "E-DATA-ARRAY", "frame 1"),
    ],
)
def test_what_cannot_be_used_is_named(source: Any, code: str, where: str) -> None:
    from headrace.errors import HeadraceError

    with pytest.raises(HeadraceError) as caught:
        load_calibration(source, network())
    first = caught.value.diagnostics[0]
    assert (first.code, first.where) == (code, where), caught.value


def test_several_inputs_by_name() -> None:
    two = network((2, 2, 1), (3,))
    frames = [({"data": np.zeros((2, 2, 1)), "input_layer2": np.ones(3)}, "info") for _ in range(4)]
    assert [v.shape for v in load_calibration(lambda: frames, two).values()] == [(4, 2, 2, 1), (4, 3)]
    for item, code in (
        ((np.zeros((2, 2, 1)), np.ones(3)), "E-DATA-MISSING"),
        ({"data": np.zeros((2, 2, 1))}, "E-DATA-MISSING"),
        ({"data": np.zeros((2, 2, 2, 1)), "data1": np.ones((3, 3))}, "E-DATA-COUNT"),
    ):
        with pytest.raises(DataError) as caught:
            load_calibration([item], two)
        assert caught.value.diagnostics[-1].code == code
        assert "frame 0" in caught.value.diagnostics[-1].where


def test_pictures_one_by_one(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for i, frame in enumerate(IMAGES):
        image.fromarray(frame).save(tmp_path / f"{i}.png")
    paths = sorted(tmp_path.iterdir())
    for source in (paths, map(str, paths), (image.open(p) for p in paths), lambda: [(p, {"label": 1}) for p in paths]):
        np.testing.assert_array_equal(load_calibration(source, network())["net/input_layer1"], IMAGES)
    small = load_calibration(paths, network((3, 4, 3)), resize="stretch")["net/input_layer1"]
    assert small.shape == (6, 3, 4, 3)
    with pytest.raises(DataError, match="only pictures are resized"):
        load_calibration(list(IMAGES), network(), resize="crop")
