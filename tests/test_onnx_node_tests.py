"""ONNX's own node tests: all that the installed onnx generates for the operators npconv has, none skipped.

onnx makes each test, a model of one node with inputs and stored outputs, when its generator is asked;
`ADAPTORS` turns the node's attributes into npconv calls. The dtype must be the stored one; the values agree
to 160 u max S, S found by running the node on absolute values. The quantised operators (ConvInteger,
QLinearConv) are out of scope.
"""

import warnings
from collections import Counter

import numpy as np
import pytest

import npconv
from problems import disagreement

onnx = pytest.importorskip("onnx", reason="onnx is the peer of this file (the extra `test` installs it)")
from onnx.backend.test.case.node import collect_testcases  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.op_run import OpRun  # noqa: E402

U = 2.0**-24
AUTO_PAD = {"NOTSET": None, "VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}


def padding(attributes: dict, rank: int):
    """auto_pad or pads, which ONNX lists as all the low sides, then all the high ones."""
    name = AUTO_PAD[attributes.get("auto_pad", "NOTSET")]
    pads = attributes.get("pads", [0] * 2 * rank)
    return name or tuple(zip(pads[:rank], pads[rank:], strict=True))


def steps(attributes: dict, rank: int) -> dict:
    """strides and dilations, 1 where ONNX leaves them out (pooling included)."""
    return {
        "stride": tuple(attributes.get("strides", [1] * rank)),
        "dilation": tuple(attributes.get("dilations", [1] * rank)),
        "padding": padding(attributes, rank),
    }


def conv(attributes, x, w, bias=None):
    return (npconv.conv(x, w, bias, groups=attributes.get("group", 1), **steps(attributes, x.ndim - 2)),)


def conv_transpose(attributes, x, w, bias=None):
    rank = x.ndim - 2
    options = steps(attributes, rank) | {"groups": attributes.get("group", 1)}
    options["output_padding"] = tuple(attributes.get("output_padding", [0] * rank))
    wanted = attributes.get("output_shape")
    if wanted:  # the pads follow from it, and the attribute `pads` is ignored (rule R9)
        spans = [d * (k - 1) + 1 for d, k in zip(options["dilation"], w.shape[2:], strict=True)]
        parts = zip(options["stride"], x.shape[2:], options["output_padding"], spans, wanted, strict=True)
        totals = [s * (n - 1) + extra + e - size for s, n, extra, e, size in parts]
        upper = attributes.get("auto_pad") == "SAME_UPPER"
        halves = [(p // 2, p - p // 2) for p in totals]
        options["padding"] = tuple(half if upper else half[::-1] for half in halves)
    return (npconv.conv_transpose(x, w, bias, **options),)


def pool_options(attributes, rank):
    return {**steps(attributes, rank), "ceil_mode": bool(attributes.get("ceil_mode", 0))}


def max_pool(attributes, x):
    kernel = tuple(attributes["kernel_shape"])
    space = "onnx_column_major" if attributes.get("storage_order", 0) else "onnx"
    return npconv.max_pool(x, kernel, return_indices=True, indices=space, **pool_options(attributes, len(kernel)))


def average_pool(attributes, x):
    kernel, counted = tuple(attributes["kernel_shape"]), bool(attributes.get("count_include_pad", 0))
    return (npconv.avg_pool(x, kernel, count_include_pad=counted, **pool_options(attributes, len(kernel))),)


def lp_pool(attributes, x):
    kernel = tuple(attributes["kernel_shape"])
    return (npconv.lp_pool(x, kernel, p=float(attributes.get("p", 2)), **pool_options(attributes, len(kernel))),)


def max_unpool(attributes, x, indices, output_shape=None):
    kernel = tuple(attributes["kernel_shape"])
    options = steps(attributes, len(kernel))
    y = npconv.max_unpool(
        x, indices, kernel, stride=options["stride"], padding=options["padding"], indices_space="onnx"
    )
    if output_shape is None:
        return (y,)
    # ONNX's indices count in the default size; a larger output_shape then adds zeros at the high ends
    return (np.pad(y, [(0, int(size) - n) for size, n in zip(output_shape, y.shape, strict=True)]),)


def col2im(attributes, columns, image_shape, block_shape):
    sizes, kernel = tuple(map(int, image_shape)), tuple(map(int, block_shape))
    return (npconv.fold(columns, sizes, kernel, **steps(attributes, len(kernel))),)


ADAPTORS = {
    "AveragePool": average_pool,
    "Col2Im": col2im,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GlobalAveragePool": lambda attributes, x: (npconv.global_avg_pool(x),),
    "GlobalMaxPool": lambda attributes, x: (npconv.global_max_pool(x),),
    "LpPool": lp_pool,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
}
SELECTING = ("MaxPool", "GlobalMaxPool", "MaxUnpool")  # they copy numbers, and must do so to the last bit


# typed in with four decimals, the inputs (four of nine taps are real) and the outputs: half a unit of the
# last for each
TYPED_IN = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 0.5e-4 * (4 / 9 + 1)}


def generated() -> tuple[list, list]:
    """The tests that are one node of ours, and those of other operators whose expansion holds a Conv."""
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):  # generating runs onnx's code for all its operators
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    ours = [c for c in cases if any(node.op_type in ADAPTORS for node in c.model.graph.node)]
    alone, inside = [c for c in ours if one_node(c)], [c for c in ours if not one_node(c)]
    return sorted(alone, key=lambda c: c.name), sorted(inside, key=lambda c: c.name)


def one_node(case) -> bool:
    return len(case.model.graph.node) == 1


ALONE, INSIDE = generated()


def attributes_of(node) -> dict:
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}


def sizes(array: np.ndarray) -> np.ndarray:
    return np.abs(array) if array.dtype.kind == "f" else array  # integers are indices and shapes


@pytest.mark.parametrize("case", ALONE, ids=lambda c: c.name)
def test_node(case):
    (node,) = case.model.graph.node
    adaptor, attributes = ADAPTORS[node.op_type], attributes_of(node)
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        found = adaptor(attributes, *inputs)
        scale = adaptor(attributes, *(sizes(a) for a in inputs))
        assert len(found) >= len(outputs) >= 1
        for ours, stored, s in zip(found, outputs, scale, strict=False):
            assert ours.dtype == stored.dtype
            exact = node.op_type in SELECTING or stored.dtype.kind in "iu"
            bound = 0.0 if exact else 160 * U * s.max(initial=0) + TYPED_IN.get(case.name, 0.0)
            wrong = disagreement(ours, stored, bound)
            assert wrong is None, f"{case.name} {attributes}: {wrong}"


def test_none_is_missing():
    """69 is what onnx 1.19 had; a newer onnx may only add to these."""
    counts = Counter(case.model.graph.node[0].op_type for case in ALONE)
    least = {"AveragePool": 20, "MaxPool": 19, "ConvTranspose": 11, "LpPool": 8, "Conv": 6, "Col2Im": 5}
    least |= {"GlobalAveragePool": 2, "GlobalMaxPool": 2, "MaxUnpool": 2}
    assert set(counts) == set(ADAPTORS)
    assert all(counts[name] >= least[name] for name in least), counts
    assert len({case.name for case in ALONE}) == len(ALONE) >= 69, "\n".join(case.name for case in ALONE)


class Conv(OpRun):
    """onnx's evaluator with its Conv replaced by ours."""

    op_domain = ""

    def _run(self, x, w, bias=None, **attributes):
        given = {name: value for name, value in attributes.items() if value is not None}
        return conv(given, x, w, bias)


@pytest.mark.parametrize("case", INSIDE, ids=lambda c: c.name)
def test_operators_that_expand_to_conv(case):
    """CausalConvWithState is a function of Conv and others, run here with our Conv, in float16 too."""
    session = ReferenceEvaluator(case.model, new_ops=[Conv])
    names = [i.name for i in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        found = session.run(None, dict(zip(names, inputs, strict=True)))
        for ours, stored in zip(found, outputs, strict=True):
            assert ours.dtype == stored.dtype
            # other operators round too (float16's sigmoid), so the bound is the test's own
            np.testing.assert_allclose(ours, stored, rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize("per_group", [1, 2])
def test_conv_transpose_of_groups_where_the_reference_evaluator_is_wrong(per_group):
    """onnx 1.23.2's evaluator adds channel 0's bias to every group, and stops with an error for O/G > 1.

    So the truth is the definition, written out: group i maps input channels [i C/G, (i+1) C/G) to outputs
    [i O/G, (i+1) O/G).  The stored outputs of the two node tests of groups have neither a bias nor O/G > 1.
    """
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 2, 5)), rng.standard_normal((2, per_group, 2))
    bias = np.arange(1.0, 1 + 2 * per_group)
    expected = np.zeros((2, 2 * per_group, 6)) + bias[:, None]
    for n, c, i, o, t in np.ndindex(2, 2, 5, per_group, 2):
        expected[n, c * per_group + o, i + t] += x[n, c, i] * w[c, o, t]
    (ours,) = conv_transpose({"group": 2}, x, w, bias)
    assert disagreement(ours, expected, 160 * 2.0**-53 * np.abs(expected).max()) is None
    if onnx.__version__ == "1.23.2":
        theirs = evaluator_output(x, w, bias)
        if per_group == 1:
            np.testing.assert_allclose(theirs, expected - (bias - bias[0])[:, None])
        else:
            assert theirs is None


def evaluator_output(x, w, bias) -> np.ndarray | None:
    """What onnx's evaluator gives for ConvTranspose with two groups, or None if it stops with an error."""
    kind = onnx.TensorProto.DOUBLE
    operands = {"x": x, "w": w, "bias": bias}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ConvTranspose", list(operands), ["y"], group=2)],
        "one",
        [onnx.helper.make_tensor_value_info(name, kind, a.shape) for name, a in operands.items()],
        [onnx.helper.make_tensor_value_info("y", kind, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)])
    try:
        return ReferenceEvaluator(model).run(None, operands)[0]
    except ValueError:
        return None
