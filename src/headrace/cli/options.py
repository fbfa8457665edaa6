# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and options that take several values the way people type them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from headrace.errors import Diagnostic, UsageError

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_RANK = 8
_SHAPE = re.compile(r"(?:(?P<name>[^=\[\]]+)=)?\[?(?P<dims>\s*-?\d{1,9}\s*(?:,\s*-?\d{1,9}\s*)*)\]?", re.ASCII)


class ManyCommand(click.Command):
    """A command whose ``multiple`` options also take several values after one mention.

    ``--end-node-names a b c`` is the spelling people know; an option takes the values up to the next one that begins
    with ``-``, so a file name has to stand before such an option or after ``--``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        greedy = {
            name for param in self.params if isinstance(param, click.Option) and param.multiple for name in param.opts
        }
        return super().parse_args(ctx, _repeat_options(args, greedy))


def _repeat_options(args: Sequence[str], greedy: set[str]) -> list[str]:
    """``--x a b`` as ``--x a --x b`` for every option in ``greedy``."""
    result: list[str] = []
    current = ""
    for index, argument in enumerate(args):
        if argument == "--":
            result += args[index:]
            break
        if argument.startswith("-") and not re.fullmatch(r"-\d.*", argument):
            current = argument if argument in greedy else ""
            if not current:
                result.append(argument)
            continue
        result += [current, argument] if current else [argument]
    return result


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
batch_option = click.option(
    "--batch",
    type=click.IntRange(1, 65536),
    help="Frames between two switches of context, for a network that needs several; default: the model script's "
    "performance_param(optimize_for_batch=...), else 1.",
)
force_option = click.option(
    "--force", is_flag=True, help="Replace a file of another kind that stands where a result goes (never an input)."
)
hw_arch_option = click.option(
    "--hw-arch", metavar="NAME", help="Target device: a name that `headrace devices` lists, or a target file."
)

resize_option = click.option(
    "--resize",
    type=click.Choice(("letterbox", "letterbox-corner", "crop", "stretch")),
    help="Give pictures the input's size: whole with grey bars (in the middle, or at the top left), cut to shape, "
    "distorted. Without: they must have it.",
)
channels_option = click.option(
    "--channels",
    type=click.Choice(("rgb", "bgr")),
    help="Order in which the network takes the channels of pictures; default: rgb.",
)


def refuse(options: Sequence[str], where: str, rule: str, levers: Sequence[str] = ()) -> None:
    """Refuse options that were given and would have no effect.

    Args:
        options: as the user says them; none: nothing is wrong.
        where: the command, or the option that makes them idle.
        rule: why they have no effect.
        levers: what to do instead of leaving them out.

    Raises:
        UsageError: naming them all.
    """
    if options:
        named = ", ".join(options)
        told = (f"leave out {named}", *levers)
        raise UsageError(Diagnostic("E-CLI-CONTRADICTION", named, rule, where, levers=told))


def check_picture_options(resize: str | None, channels: str | None, got: str) -> None:
    """Raises UsageError for options about pictures where there are none, but what ``got`` says."""
    if resize is not None:
        rule, levers = "only pictures are resized", ("leave --resize out",)
        raise UsageError(Diagnostic("E-DATA-RESIZE", "--resize", rule, got, "picture files", levers))
    if channels is not None:
        rule, levers = "only the channels of pictures are put in order", ("leave --channels out",)
        raise UsageError(Diagnostic("E-DATA-CHANNELS", "--channels", rule, got, "picture files", levers))


def given(*names: str) -> tuple[str, ...]:
    """Those of some parameters of the running command that stand on its command line, as options."""
    context = click.get_current_context()
    stands = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    known = {param.name: param.opts[0] for param in context.command.params}
    return tuple(known[name] for name in stands)


@dataclass(frozen=True)
class Calibration:
    """Where calibration data comes from, how pictures get the input's size, and the least dB (0 disables).

    Attributes:
        path: of the data.
        random: calibrate with noise.
        random_max: its largest value.
        min_snr: of every output against float; noise is not judged.
        resize: how pictures get the input's size.
        given: options of these that stand on the command line.
        requantize: of a model that was quantized already, start afresh.
        channels: the order of pictures' channels.
    """

    path: Path | None = None
    random: bool = False
    random_max: float = 1.0
    min_snr: float = 10.0
    resize: str | None = None
    given: tuple[str, ...] = ()
    requantize: bool = False
    channels: str | None = None

    @property
    def has_data(self) -> bool:
        """Whether data, or noise, were named."""
        return self.random or self.path is not None

    def check(self, states_codes: bool | None = None) -> None:
        """Raises UsageError unless there is one kind of data, and every option is about it.

        Args:
            states_codes: whether the network's own file states its codes, so that none are needed; None: not known yet.
        """
        if not self.has_data and states_codes is not False and not self.requantize:
            idle = "there are no calibration data: nothing is measured"
            refuse([one for one in self.given if one != "--requantize"], "no --calib-set-path", idle)
            return
        if self.random == (self.path is not None):
            rule = "both kinds of calibration data were named" if self.random else "no calibration data was named"
            levers = ("--calib-set-path FILE_OR_FOLDER", "--use-random-calib-set, to try the flow without data")
            raise UsageError(
                Diagnostic("E-CALIBRATION-MISSING", "optimize", rule, need="one of the two", levers=levers)
            )
        if self.random:
            check_picture_options(self.resize, self.channels, "--use-random-calib-set")
        if self.random and self.min_snr != 0:
            judged = [one for one in self.given if one == "--min-snr"]
            refuse(judged, "--use-random-calib-set", "the accuracy of what noise calibrates is not judged")
        if not self.random:
            noise = [one for one in self.given if one == "--calib-random-max"]
            refuse(noise, "--calib-set-path", "this is about random data", ("--use-random-calib-set",))

    def refuse(self, where: str, rule: str, levers: Sequence[str] = ()) -> None:
        """Raises UsageError where any of the options was given, because nothing is calibrated."""
        refuse(self.given, where, rule, levers)


_OPTIONS = (
    click.option(
        "--calib-set-path",
        "--calib-set",
        "calib_set_path",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="Calibration data: .npy, .npz (keyed by input) or a folder of pictures. A quantized model needs none.",
    ),
    resize_option,
    channels_option,
    click.option(
        "--use-random-calib-set",
        is_flag=True,
        help="Calibrate with noise: for trying the flow only, accuracy becomes meaningless.",
    ),
    click.option(
        "--calib-random-max", type=float, default=1.0, show_default=True, help="Largest value of random data."
    ),
    click.option(
        "--min-snr",
        type=float,
        default=10.0,
        show_default=True,
        metavar="DB",
        help="Fail when an output's signal-to-noise ratio is below this; 0 disables.",
    ),
    click.option(
        "--requantize",
        is_flag=True,
        help="Of a model that was quantized already: start afresh from what its numbers mean, with data. "
        "Without it the model's own codes are kept, and no calibration data are needed.",
    ),
)
_CALIBRATION = (
    "calib_set_path",
    "resize",
    "channels",
    "use_random_calib_set",
    "calib_random_max",
    "min_snr",
    "requantize",
)


def calibration_options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say where calibration data comes from and how good the result has to be.

    The command gets them as one :class:`Calibration`, ``calibration``.
    """

    @functools.wraps(function)
    def command(
        *,
        calib_set_path: Path | None,
        resize: str | None,
        channels: str | None,
        use_random_calib_set: bool,
        calib_random_max: float,
        min_snr: float,
        requantize: bool,
        **rest: object,
    ) -> None:
        stands = given(*_CALIBRATION)
        chosen = Calibration(
            calib_set_path, use_random_calib_set, calib_random_max, min_snr, resize, stands, requantize, channels
        )
        function(calibration=chosen, **rest)

    decorated: Callable[..., None] = command
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def script_option(function: Function) -> Function:
    """Adds ``--model-script``."""
    return click.option(
        "--model-script", type=click.Path(path_type=Path), metavar="FILE", help="Model script (.alls) to apply."
    )(function)


def start_end_options(function: Function) -> Function:
    """Adds the options of translation that `parse` and `build` share."""
    for option in reversed(
        (
            click.option("--net-name", metavar="NAME", help="Name of the network; default: the file's name."),
            click.option("--start-node-names", multiple=True, metavar="NAME...", help="Cut the network before these."),
            click.option("--end-node-names", multiple=True, metavar="NAME...", help="Cut the network after these."),
            click.option(
                "--tensor-shapes",
                multiple=True,
                metavar="SHAPE...",
                help="Input shapes, for inputs with symbolic dimensions: [1,3,32,32] or name=[1,3,32,32].",
            ),
            click.option(
                "--input-values",
                multiple=True,
                metavar="NAME=VALUE...",
                help="Values that inputs of the file always have, so that nobody asks: sr=16000 or scale=[1,0.5].",
            ),
            click.option(
                "--signature", metavar="NAME", help="Of a SavedModel: which signature; default: serving_default."
            ),
            click.option(
                "--device-only",
                is_flag=True,
                help="Refuse what cannot be on the device. Without: the host runs that, before or behind the device.",
            ),
        )
    ):
        function = option(function)
    return function


def parse_shapes(texts: Sequence[str]) -> dict[str, list[int]] | list[int] | None:
    """Values of ``--tensor-shapes``: one nameless shape, or name → shape; None when not given.

    Raises:
        UsageError: a shape is malformed, a name is given twice, or nameless and named shapes are mixed.
    """
    problems: list[Diagnostic] = []
    shapes: dict[str, list[int]] = {}
    for text in _joined(texts):
        match = _SHAPE.fullmatch(text.strip())
        dims = [int(part) for part in match["dims"].split(",")] if match else []
        name = (match["name"] or "") if match else ""
        if not 1 <= len(dims) <= MAX_RANK or any(d < 1 and d != -1 for d in dims):
            need = f"[1,3,224,224] or name=[1,3,224,224]: 1 to {MAX_RANK} positive sizes"
            problems.append(Diagnostic("E-CLI-SHAPE", "--tensor-shapes", "this is not a shape", text[:200], need))
        elif name in shapes or (shapes and ("" in shapes or not name)):
            rule = "a shape is given twice, or shapes with and without a name are mixed"
            problems.append(Diagnostic("E-CLI-SHAPE", "--tensor-shapes", rule, text[:200], "name=[...] once per input"))
        else:
            shapes[name] = dims
    if problems:
        raise UsageError(problems)
    if not shapes:
        return None
    return shapes.get("", shapes)


def parse_values(texts: Sequence[str]) -> dict[str, object]:
    """Values of ``--input-values``: name → a number, a truth value, or nested lists of them.

    Raises:
        UsageError: a value is malformed, or a name is given twice.
    """
    problems: list[Diagnostic] = []
    values: dict[str, object] = {}
    for text in _joined(texts):
        name, equals, written = text.strip().partition("=")
        try:
            value: object = json.loads(written)
        except (ValueError, RecursionError):
            value = None
        if not name or not equals or value is None or isinstance(value, str | dict):
            need = "name=16000, name=true or name=[1,2.5]"
            problems.append(
                Diagnostic("E-CLI-VALUE", "--input-values", "this is no value of an input", text[:200], need)
            )
        elif name in values:
            problems.append(
                Diagnostic("E-CLI-VALUE", "--input-values", "a value is given twice", text[:200], "it once")
            )
        else:
            values[name] = value
    if problems:
        raise UsageError(problems)
    return values


def _joined(texts: Sequence[str]) -> list[str]:
    """Shells split ``[1, 3, 8, 8]`` at its spaces; parts are put together until the bracket closes."""
    result: list[str] = []
    for text in texts:
        if result and result[-1].count("[") > result[-1].count("]"):
            result[-1] += text
        else:
            result.append(text)
    return result
