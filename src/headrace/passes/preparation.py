# SPDX-License-Identifier: Apache-2.0
"""The rewrites between a parsed network and one whose layers the device has: made before anything is measured."""

from __future__ import annotations

from headrace.passes.cut_before_join import CutBeforeJoin
from headrace.passes.decompose_matmul import DecomposeMatmul
from headrace.passes.decompose_softmax import DecomposeSoftmax
from headrace.passes.file_codes import SeparateCodes
from headrace.passes.fuse_elementwise_add import FuseElementwiseAdd
from headrace.passes.rewriting import Pass
from headrace.passes.split_affine import SplitAffine


def preparation(apart: frozenset[str] = frozenset()) -> tuple[Pass, ...]:
    """The passes in order; the sums named in ``apart`` join no convolution."""
    return (
        CutBeforeJoin(),
        DecomposeMatmul(),
        DecomposeSoftmax(),
        SplitAffine(),
        FuseElementwiseAdd(apart),
        SeparateCodes(),
    )


PREPARATION: tuple[Pass, ...] = preparation()
