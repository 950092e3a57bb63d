"""What the numbers of an output prove, what contradicts them, and what is asked because they leave it open."""

import re

import numpy as np
import pytest

from fsf_core.errors import ConfigError
from fsf_core.export.interface import Given
from fsf_core.export.output_kind import read_output, with_background
from fsf_core.model.bundle import Output

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (1, 4, 6, 8)).astype(np.float32)
PROBABILITIES = (np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)).astype(np.float32)
SIGMOIDS = (1 / (1 + np.exp(-LOGITS))).astype(np.float32)
IDS = LOGITS.argmax(1)
OVERSHOT = (PROBABILITIES + 0.2 * (PROBABILITIES - 0.25)).astype(np.float32)
NONE = Given(input={})


def read(raw, given=NONE, *, names=4, input_hw=(12, 16)):
    return read_output([(one, input_hw) for one in (raw, raw[..., ::-1])], given, names=names)[0]


@pytest.mark.parametrize(
    ("raw", "names", "kind", "layout", "dtype"),
    [
        (LOGITS, 4, "logits", "NKHW", "float32"),
        (np.log(PROBABILITIES), 4, "logits", "NKHW", "float32"),  # softmax of log-probabilities gives them back
        (LOGITS.astype(np.float64), 4, "logits", "NKHW", "float64"),
        (LOGITS.transpose(0, 2, 3, 1), 4, "logits", "NHWK", "float32"),
        (PROBABILITIES, 4, "probabilities", "NKHW", "float32"),
        (PROBABILITIES.astype(np.float16), 4, "probabilities", "NKHW", "float16"),
        (PROBABILITIES.transpose(0, 2, 3, 1), 4, "probabilities", "NHWK", "float32"),
        (np.eye(4, dtype=np.float32)[IDS], 4, "probabilities", "NHWK", "float32"),
        (OVERSHOT, 4, "probabilities", "NKHW", "float32"),  # behind a cubic resize, and no logits
        (SIGMOIDS[:, :1], 2, "binary_probability", "N1HW", "float32"),
        (SIGMOIDS[:, :1], 1, "binary_probability", "N1HW", "float32"),
        (SIGMOIDS[:, 0], 2, "binary_probability", "NHW", "float32"),
        (LOGITS[:, :1], 2, "binary_logit", "N1HW", "float32"),
        (LOGITS[:, :1].transpose(0, 2, 3, 1), 2, "binary_logit", "NHWK", "float32"),
        (IDS, 4, "class_map", "NHW", "int64"),
        (IDS[:, None].astype(np.float32), 4, "class_map", "N1HW", "float32"),
        (IDS[..., None].astype(np.uint8), 4, "class_map", "NHWK", "uint8"),
        (IDS > 1, 2, "class_map", "NHW", "bool"),
        (IDS > 1, 1, "class_map", "NHW", "bool"),
        (np.zeros_like(IDS), 4, "class_map", "NHW", "int64"),  # an integer is nothing but an id
    ],
)
def test_the_numbers_prove_what_the_output_is(raw, names, kind, layout, dtype):
    """Whatever operator wrote them, in any layout and type."""
    assert read(raw, names=names) == Output(kind=kind, layout=layout, dtype=dtype)


@pytest.mark.parametrize(
    ("raw", "names", "message"),
    [
        (SIGMOIDS, 4, "sigmoid per class, or logits"),
        ((LOGITS * 10).astype(np.int32), 4, "--output-kind probabilities or --output-kind logits"),
        (PROBABILITIES * 100, 4, "sum to 100 everywhere: probabilities times 100"),
        (OVERSHOT * 255, 4, "probabilities times 255"),
        (np.where(SIGMOIDS > 0.9, 1.1, SIGMOIDS).astype(np.float32), 4, "sigmoid per class, or logits"),
        (np.where(SIGMOIDS > 0.9, 1.1, SIGMOIDS)[:, :1], 2, "probabilities behind a cubic resize, or logits"),
        (SIGMOIDS[:, :1] * 255, 2, "a probability with a factor, or a logit by which every pixel is foreground"),
        (np.full((1, 1, 6, 8), 0.0, np.float32), 2, "0 everywhere on the drawn images"),
        (IDS, 3, "3 classes are named; pass --classes with one name for each id"),
        ((IDS > 1).astype(np.uint8) * 255, 2, "from 0 to 255, but 2 classes are named"),
        (SIGMOIDS[:, :1], 4, "scores of one foreground class, but 4 classes"),
        (LOGITS, 1, "4 classes as [N, K, H, W], or 8 as [N, H, W, K], but 1 is named"),
        (LOGITS, 5, "4 classes as [N, K, H, W], or 8 as [N, H, W, K], but 5 are named"),
        (RNG.normal(size=(1, 4, 6, 4)), 4, "--output-layout NKHW or NHWK"),
        (np.full((1, 4, 6, 8), np.nan, np.float32), 4, "NaN or infinity"),
        (LOGITS[0, 0], 4, "expected numbers on a grid"),
        (LOGITS[None], 4, "expected numbers on a grid"),
        (np.repeat(LOGITS, 2, 0), 4, "expected numbers on a grid"),
    ],
)
def test_what_the_numbers_leave_open_is_asked_for_or_refused(raw, names, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(raw, names=names)


@pytest.mark.parametrize(
    ("raw", "kind", "names"),
    [
        (SIGMOIDS, "probabilities", 4),
        (SIGMOIDS, "logits", 4),
        (LOGITS[:, :1], "binary_logit", 2),
        (SIGMOIDS[:, :1], "binary_logit", 1),
        (np.zeros((1, 1, 6, 8), np.float32), "class_map", 2),
        ((LOGITS * 10).astype(np.int32), "logits", 4),
    ],
)
def test_what_is_given_is_taken_where_the_numbers_do_not_contradict_it(raw, kind, names):
    assert read(raw, Given(input={}, kind=kind), names=names).kind == kind


@pytest.mark.parametrize(
    ("raw", "kind", "names", "message"),
    [
        (PROBABILITIES, "logits", 4, "softmax would be applied again"),
        (LOGITS, "probabilities", 4, "probabilities are from 0 to 1"),
        (LOGITS[:, :1], "binary_probability", 2, "probabilities are from 0 to 1"),
        (LOGITS, "binary_logit", 4, "it has 4 channels, and a binary output has one"),
        (LOGITS[:, :1], "binary_logit", 3, "3 classes are named, and a binary output has two"),
        (LOGITS[:, :1], "logits", 2, "it has 1 channels, and 2 classes are named"),
        (LOGITS[:, :1], "class_map", 4, "not whole"),
        (IDS - 1, "class_map", 4, "holds ids from 0 on"),
        (IDS, "class_map", 3, "3 classes are named"),
        (LOGITS, "class_map", 4, "it has 4 channels, and a class map has one"),
    ],
)
def test_numbers_that_contradict_what_is_given_are_refused_with_that_reason(raw, kind, names, message):
    with pytest.raises(ConfigError, match=f"is given as {kind}, but .*{message}"):
        read(raw, Given(input={}, kind=kind), names=names)


def test_a_layout_that_is_given_settles_what_the_shape_leaves_open():
    square = RNG.normal(size=(1, 4, 6, 4)).astype(np.float32)

    assert read(square, Given(input={}, layout="NHWK")).layout == "NHWK"
    with pytest.raises(ConfigError, match=r"given as N1HW, but the output is \[1, 4, 6, 4\]"):
        read(square, Given(input={}, layout="N1HW"))


def test_one_name_is_that_of_the_foreground():
    binary = Output(kind="binary_probability", layout="N1HW")

    assert with_background(("rot",), binary) == ("background", "rot")
    assert with_background(("a", "b"), binary) == ("a", "b")
    with pytest.raises(ConfigError, match="expected the name of the foreground"):
        with_background(("background",), binary)


@pytest.mark.parametrize(
    ("raw", "names", "treatment"),
    [
        (LOGITS, 4, {"resized": "logits", "grid": "input", "corners": "aligned"}),
        (LOGITS[:, :1], 2, {"resized": "logits", "threshold": 0.3}),
        (SIGMOIDS[:, :1], 2, {"threshold": 0.7, "corners": "aligned"}),
        (PROBABILITIES, 4, {"grid": "input"}),
        (IDS, 4, {"grid": "input"}),
    ],
)
def test_what_is_given_of_the_way_to_a_class_map_is_taken(raw, names, treatment):
    found = read(raw, Given(input={}, **treatment), names=names)

    assert {name: getattr(found, name) for name in treatment} == treatment


def test_what_is_given_as_it_is_by_default_is_not_given():
    """Else the same request in other terms would be another bundle."""
    given = Given(input={}, resized="probabilities", grid="own", corners="half-pixel", threshold=0.5)

    assert (given.treatment, given.says_output) == ({}, False)
    assert Given(input={}, resized="logits").says_output


@pytest.mark.parametrize(
    ("raw", "names", "treatment", "message"),
    [
        (
            PROBABILITIES,
            4,
            {"resized": "logits"},
            "probabilities holds no logits that could be resized; leave out --res",
        ),
        (SIGMOIDS[:, :1], 2, {"resized": "logits"}, "binary_probability holds no logits"),
        (IDS, 4, {"resized": "logits"}, "class_map holds no logits"),
        (IDS, 4, {"corners": "aligned"}, "not interpolated, so that no corners can be aligned; leave out --corners"),
        (
            LOGITS,
            4,
            {"corners": "asymmetric"},
            "interpolated, and asymmetric corners are those of a class map; leave out",
        ),
        (LOGITS, 4, {"threshold": 0.3}, "kind logits has no threshold, which is one of binary kinds; leave out --thr"),
    ],
)
def test_a_way_that_outputs_of_this_kind_do_not_take_is_refused(raw, names, treatment, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(raw, Given(input={}, **treatment), names=names)


@pytest.mark.parametrize("factor", [1, 100])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_scaled_and_overshot_probabilities_are_taken_as_what_is_given(kind, factor):
    if (kind, factor) in {("logits", 1), ("probabilities", 100)}:  # softmax again; no probability is 100
        with pytest.raises(ConfigError, match=f"is given as {kind}, but"):
            read(OVERSHOT * factor, Given(input={}, kind=kind))
    else:
        assert read(OVERSHOT * factor, Given(input={}, kind=kind)).kind == kind


@pytest.mark.parametrize(
    ("shape", "names", "message"),
    [
        ((1, 192, 2), 2, "cells seem to be in one row"),
        ((1, 2, 192), 2, "cells seem to be in one row"),
        ((1, 1, 192, 2), 2, "cells seem to be in one row"),
        ((1, 4, 192, 1), 4, "cells seem to be in one row"),
        ((1, 1, 192), 4, "cells seem to be in one row"),
        ((1, 4, 16, 12), 4, "rows and columns seem to be transposed"),
        ((1, 8, 6), 2, "rows and columns seem to be transposed"),
    ],
)
def test_axes_that_are_no_rows_and_columns_of_the_input_are_refused(shape, names, message):
    """A flattened grid of two classes looked like one channel of 192 rows and 2 columns."""
    raw = RNG.random(shape).astype(np.float32)

    with pytest.raises(ConfigError, match=f"for an input of 12x16: .*{message}"):
        read(raw, names=names)


@pytest.mark.parametrize("cells", [(3, 5), (12, 16), (24, 32), (13, 5), (1, 2)])
def test_a_grid_may_be_coarser_along_one_side(cells):
    assert read(np.resize(LOGITS, (1, 4, *cells))).layout == "NKHW"
