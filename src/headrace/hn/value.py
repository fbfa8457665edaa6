# SPDX-License-Identifier: Apache-2.0
"""What flows between layers: values, what is wished of their precision, and what has become of the wish."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from headrace.numerics.quantization import TensorQuantization

if TYPE_CHECKING:
    from headrace.hn.network import Layer

AXES = {2: ("batch", "channels"), 4: ("batch", "height", "width", "channels")}
Interval = tuple[float, float]


@dataclass(frozen=True)
class Wish:
    """What a float network asks of the quantization to come.

    Attributes:
        bits: of the codes, 8 or 16; ``None``: as ``optimize`` thinks best.
        range: the real values that the codes must show, where the meaning knows them better than the data.
        reach: the real values that the readers tell apart, where those are fewer.
        codes: what the model's own file says of its codes: exactly these, and nothing is searched; scale, zero point
            and bits, one pair for all of the value.
    """

    bits: int | None = None
    range: Interval | None = None
    reach: Interval | None = None
    codes: TensorQuantization | None = None


class Use(NamedTuple):
    """One reading of a value: operand number ``operand`` of ``layer``."""

    layer: Layer
    operand: int


@dataclass(eq=False, slots=True)
class Value:
    """One tensor of a network: a result of one layer, read by any number of others.

    Attributes:
        producer: the layer that makes it.
        index: which of the producer's results it is.
        shape: with the batch first: ``(-1, H, W, C)`` or ``(-1, C)``; -1 is the batch.
        uses: who reads it, in no order; kept by the network.
        wish: of a float network: what ``optimize`` is asked for.
        quantization: of a quantized network: frozen scale, zero point and bits.
        calibrated: of an input of a quantized network: least and greatest value that calibration saw.
    """

    producer: Layer
    index: int = 0
    shape: tuple[int, ...] = ()
    uses: list[Use] = field(default_factory=list)
    wish: Wish | None = None
    quantization: TensorQuantization | None = None
    calibrated: Interval | None = None

    @property
    def name(self) -> str:
        """The producer's name; of a further result that and its number, ``"net/split1:1"``."""
        return self.producer.name if self.index == 0 else f"{self.producer.name}:{self.index}"

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes."""
        return AXES.get(len(self.shape)) or tuple(f"axis {i}" for i in range(len(self.shape)))
