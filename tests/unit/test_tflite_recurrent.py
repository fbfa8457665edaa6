# SPDX-License-Identifier: Apache-2.0
"""LSTM and RNN over a sequence in TFLite, against LiteRT with its variables reset before every frame."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")

from frontend_oracle import run_network
from headrace.errors import UnsupportedModelError
from parsing import parse_tflite
from small_tflite import SmallModel, uniform_feeds, worst_difference

STEPS, FEATURES, SIZE = 5, 3, 4


class Cells:
    """Operands of recurrent operators, with weights at random."""

    def __init__(self, time_major=False):
        self.model, self.rng, self.time_major = SmallModel(), np.random.default_rng(0), time_major
        self.shape = (STEPS, 1, FEATURES) if time_major else (1, STEPS, FEATURES)
        self.x = self.model.input(*self.shape)

    def result(self, size=SIZE):
        return [*self.shape[:2], size]

    def constants(self, count, *shape):
        return [self.model.constant(self.rng.uniform(-0.8, 0.8, shape).astype(np.float32)) for _ in range(count)]

    def states(self, count):
        return [self.model.tensor([1, SIZE], variable=True) for _ in range(count)]

    def lstm(self, coupled=False, peephole=False):
        """Weights of the input and the state, peepholes, biases, no projection."""
        weights, recurrences = self.constants(4, SIZE, FEATURES), self.constants(4, SIZE, SIZE)
        peepholes = self.constants(3, SIZE) if peephole else [-1] * 3
        biases = self.constants(4, SIZE)
        if coupled:
            weights[0] = recurrences[0] = biases[0] = -1
            peepholes[0] = -1
        return [*weights, *recurrences, *peepholes, *biases, -1, -1]

    def rnn(self):
        return [*self.constants(1, SIZE, FEATURES), *self.constants(1, SIZE, SIZE), *self.constants(1, SIZE)]

    def check(self, *outputs):
        data = self.model.bytes(*outputs)
        network = parse_tflite(data, "net").network
        feeds = uniform_feeds(data)
        if self.time_major:  # the first dimension is no batch
            feeds = {name: self.rng.normal(size=self.shape).astype(np.float32) for name in feeds}
            for name, found in run_network(network, feeds).items():
                np.testing.assert_allclose(found, run_once(data, feeds)[name], atol=1e-5)
        else:
            assert worst_difference(network, data, feeds, run_network) < 1e-5


def run_once(data, feeds):
    """LiteRT's outputs by name, of one run."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], feeds[detail["name"]])
    interpreter.invoke()
    return {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}


@pytest.mark.parametrize("activation", ["TANH", "RELU"])
@pytest.mark.parametrize("time_major", [False, True])
def test_unidirectional_lstm(activation, time_major):
    c = Cells(time_major)
    operands = [c.x, *c.lstm(), *c.states(2)]
    options = {"activation": activation, "time_major": time_major}
    c.check(c.model.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, c.result(), **options))


@pytest.mark.parametrize("options", [{"coupled": True}, {"peephole": True}, {"coupled": True, "peephole": True}])
def test_lstm_forms(options):
    c = Cells()
    operands = [c.x, *c.lstm(**options), *c.states(2)]
    c.check(c.model.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, c.result(), activation="TANH"))


def test_cell_clip():
    c = Cells()
    operands = [c.x, *c.lstm(), *c.states(2)]
    c.check(c.model.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, c.result(), activation="TANH", cell_clip=0.2))


@pytest.mark.parametrize("merged", [False, True])
def test_bidirectional_lstm(merged):
    c = Cells()
    operands = [c.x, *c.lstm(), *c.lstm(), *c.states(4), *[-1] * 9]
    sizes = [2 * SIZE] if merged else [SIZE, SIZE]
    outputs = [c.model.tensor(c.result(size)) for size in sizes]
    options = {"activation": "TANH", "merge_outputs": merged, "time_major": False}
    c.model.op("BIDIRECTIONAL_SEQUENCE_LSTM", operands, None, outputs=outputs, **options)
    c.check(*outputs)


@pytest.mark.parametrize("time_major", [False, True])
def test_unidirectional_rnn(time_major):
    c = Cells(time_major)
    operands = [c.x, *c.rnn(), *c.states(1)]
    options = {"activation": "TANH", "time_major": time_major}
    c.check(c.model.op("UNIDIRECTIONAL_SEQUENCE_RNN", operands, c.result(), **options))


@pytest.mark.parametrize("merged", [False, True])
def test_bidirectional_rnn(merged):
    c = Cells()
    operands = [c.x, *c.rnn(), *c.states(1), *c.rnn(), *c.states(1), -1, -1, -1]
    sizes = [2 * SIZE] if merged else [SIZE, SIZE]
    outputs = [c.model.tensor(c.result(size)) for size in sizes]
    options = {"activation": "TANH", "merge_outputs": merged}
    c.model.op("BIDIRECTIONAL_SEQUENCE_RNN", operands, None, outputs=outputs, **options)
    c.check(*outputs)


def test_the_report_tells_where_the_states_begin():
    c = Cells()
    y = c.model.op("UNIDIRECTIONAL_SEQUENCE_RNN", [c.x, *c.rnn(), *c.states(1)], c.result(), activation="TANH")
    warnings = parse_tflite(c.model.bytes(y)).report.warnings
    assert [w for w in warnings if "begin with zero in every frame" in w]


def refusal(c, *outputs):
    with pytest.raises(UnsupportedModelError) as caught:
        parse_tflite(c.model.bytes(*outputs))
    assert caught.value.code == "E-TFLITE-UNSUPPORTED"
    return str(caught.value)


def test_projections_and_normalization_are_refused():
    c = Cells()
    operands = [c.x, *c.lstm(), *c.states(2)]
    operands[16] = c.constants(1, SIZE, SIZE)[0]
    assert "projection" in refusal(c, c.model.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, c.result()))
    c = Cells()
    operands = [c.x, *c.lstm(), *c.states(2), *c.constants(4, SIZE)]
    assert "normalization" in refusal(c, c.model.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, c.result()))


def test_a_state_that_others_read_is_refused():
    c = Cells()
    states = c.states(2)
    y = c.model.op("UNIDIRECTIONAL_SEQUENCE_LSTM", [c.x, *c.lstm(), *states], c.result(), activation="TANH")
    assert "variable" in refusal(c, y, c.model.op("RELU", states[:1], [1, SIZE]))


@pytest.mark.parametrize("lost", range(1, 20))
def test_operands_that_are_missing(lost):
    c = Cells()
    operands = [c.x, *c.lstm(), *c.states(2)]
    operands[lost] = -1
    data = c.model.bytes(c.model.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, c.result(), activation="TANH"))
    try:
        parse_tflite(data)
    except UnsupportedModelError as error:
        assert error.code == "E-TFLITE-UNSUPPORTED"
    else:
        assert lost in (9, 10, 11, 16, 17)
