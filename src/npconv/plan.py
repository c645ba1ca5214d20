"""A convolution made ready: weights prepared once, bias and activation in the same sweep, for inputs of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .activations import EXACT, SLOPE, TABLE, Activation
from .algorithms.base import input_grad_weights
from .arguments import Dtypes, choice, common_dtypes, dtype_of, operand, operation, shape_of, working
from .compiled import threads
from .compiled.calls import Bound, Placed, address, aligned
from .compiled.catalogue import KernelError
from .conv_arguments import ConvOptions, check_bias, read, with_defaults
from .epilogue import add as add_in_place
from .epilogue import finish, following
from .execution import Pass, Weights
from .geometry import Ints
from .layouts import NAMES, Layout, input_layout
from .memory import output
from .problem import ConvProblem
from .reading import shown
from .records import replace

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .explanation import Explanation
    from .transposed_problem import TransposeOptions

    Array = NDArray[Any]

#: What decides whether a launch fits a call: the strides of x and of the output, and the number of threads.
Key = tuple[Ints, Ints, int]
#: Memory layouts for which a plan keeps its launch.
MOST_BOUND = 16


#: The keywords of a plan that its call does not have.
FOLLOWING = ("activation", "slope", "dtype", "out_layout", "add")


@operation
def plan_conv(
    x_shape: tuple[int, ...],
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str | None = None,
    slope: float = SLOPE,
    dtype: Any = None,
    out_layout: str | None = None,
    add: bool = False,
    **options: Unpack[ConvOptions],
) -> ConvPlan:
    """Prepare the convolution of inputs of one shape with weights that stay: ``plan(x)`` then runs it.

        activation((N, C, *in) * (O, C/G, *k) + bias [+ out]) -> (N, O, *out)

    Parameters
    ----------
    x_shape : tuple of int
        Shape of the inputs.
    w, bias : array_like
        As in `npconv.conv`; copied, so later changes to them do not matter.
    activation : {"relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"}, optional
        What becomes of every output.
    slope : float
        Of leaky_relu, for negative outputs.
    dtype : dtype_like, optional
        Of the inputs; that of w unless given.
    out_layout : str, optional
        Layout of the output where it is not that of the input.
    add : bool
        Whether what `out` holds is added before the activation, as a residual connection does: ``plan(x, out)``.
    **options
        The keywords of `npconv.conv`.

    Returns
    -------
    ConvPlan
        Call it with x, and `out` if wanted. It may be shared by threads, and pickled.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`; also if the activation has no meaning for the dtype.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> plan = npconv.plan_conv((1, 1, 4), np.array([[[1.0, -1.0]]]), np.array([0.5]), activation="relu")
    >>> plan(np.array([[[1.0, 2.0, 4.0, 3.0]]]))
    array([[[0. , 0. , 1.5]]])
    """
    op = "plan_conv"
    full = with_defaults(op, options, FOLLOWING)
    own = operand(op, "w", w).copy()
    p = read(op, shape_of(op, "x_shape", x_shape), own.shape, full)
    return _made(p, False, own, bias, full, activation, slope, dtype, out_layout, add)


@operation
def plan_conv_transpose(
    x_shape: tuple[int, ...],
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str | None = None,
    slope: float = SLOPE,
    dtype: Any = None,
    out_layout: str | None = None,
    add: bool = False,
    **options: Unpack[TransposeOptions],
) -> ConvPlan:
    """Prepare the transposed convolution of inputs of one shape with weights that stay: ``plan(x)`` then runs it.

        activation((N, C, *in) * (C, O/G, *k) + bias [+ out]) -> (N, O, *out)

    Parameters
    ----------
    x_shape : tuple of int
        Shape of the inputs.
    w, bias : array_like
        As in `npconv.conv_transpose`; copied, so later changes to them do not matter.
    activation, slope, dtype, out_layout, add
        As in `npconv.plan_conv`.
    **options
        The keywords of `npconv.conv_transpose`.

    Returns
    -------
    ConvPlan
        Call it with x, and `out` if wanted. It may be shared by threads, and pickled.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv_transpose`; also if the activation has no meaning for the dtype.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> plan = npconv.plan_conv_transpose((1, 1, 2), np.array([[[1.0, -2.0]]]), stride=2, activation="relu")
    >>> plan(np.array([[[3.0, -1.0]]]))
    array([[[3., 0., 0., 2.]]])
    """
    from .transposed_problem import read_transpose

    op = "plan_conv_transpose"
    own = operand(op, "w", w).copy()
    p = read_transpose(op, shape_of(op, "x_shape", x_shape), own.shape, options)
    return _made(p, True, own, bias, options, activation, slope, dtype, out_layout, add)


def _made(
    p: ConvProblem,
    transposed: bool,
    w: Array,
    bias: Any,
    options: Mapping[str, Any],
    activation: Any,
    slope: Any,
    dtype: Any,
    out_layout: Any,
    add: Any,
) -> ConvPlan:
    op = p.op
    operands = {"w": w}
    if bias is not None:
        operands["bias"] = operand(op, "bias", bias).copy()
        check_bias(op, operands["bias"], p.geometry.in_channels if transposed else p.geometry.out_channels)
    given = operands["w"].dtype if dtype is None else dtype_of(op, dtype)
    dtypes = common_dtypes(op, {"x": given, **{name: a.dtype for name, a in operands.items()}})
    layout = p.x_layout if out_layout is None else _output_layout(op, out_layout, p.x_layout)
    done = _activation(op, activation, slope, dtypes.result)
    if not isinstance(add, (bool, np.bool_)):
        raise TypeError(f"{op}: add must be True or False, got {shown(add)} of type {type(add).__name__}; use True")
    p = replace(p, prepared=True)
    plan = ConvPlan(p, w, operands.get("bias"), done, given, dtypes, layout, transposed, bool(add))
    following = {"activation": activation, "slope": slope, "dtype": given, "out_layout": out_layout, "add": bool(add)}
    plan._arguments = {**options, **following}
    return plan


class ConvPlan:
    """A prepared convolution, made by `plan_conv` or `plan_conv_transpose`; call it with x.

    Attributes
    ----------
    input_shape, output_shape : tuple of int
        Shapes of x and of the result.
    dtype : numpy.dtype
        Of the result.
    algorithm : str
        What runs; several names where strides make several parts.
    workspace : int
        Bytes that the algorithm holds and allocates beyond the output, by its own count.
    """

    _arguments: dict[str, Any]

    def __init__(
        self,
        problem: ConvProblem,
        w: Array,
        bias: Array | None,
        activation: Activation | None,
        dtype: np.dtype,
        dtypes: Dtypes,
        layout: Layout,
        transposed: bool = False,
        adds: bool = False,
    ) -> None:
        self._adds = adds
        self._problem, self._w, self._bias, self._activation = problem, w, bias, activation
        self._given, self._dtypes, self._layout = dtype, dtypes, layout
        self._transposed, self._direction = transposed, "input_grad" if transposed else "forward"
        self.input_shape, self.dtype = problem.y_shape if transposed else problem.x_shape, dtypes.result
        self.output_shape = _shape(problem, layout, transposed)
        self._prepared: dict[tuple[Pass, Activation | None], Weights] = {}
        self._bound: dict[Key, tuple[Bound, Activation | None]] = {}
        run = problem.make(self._direction, working(dtypes, problem.accuracy), dtype.itemsize)
        self._weights(run, None if adds else activation)
        self.algorithm = ", ".join(dict.fromkeys(step.algorithm.name for step in run.steps)) or "none"
        self.workspace = run.workspace

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        """The convolution of x, which has the shape and dtype planned for; `out` as in `npconv.conv`, or added to it."""
        workers = threads.begin()
        x = operand("plan", "x", x)
        if x.shape != self.input_shape:
            raise ValueError(
                f"plan: x.shape is {x.shape}, the plan is for {self.input_shape}; use "
                f"{self._problem.op}({x.shape}, ...) for a plan of that shape"
            )
        if x.dtype != self._given:
            raise TypeError(
                f"plan: x has dtype {x.dtype}, the plan is for {self._given}; use x.astype({self._given.name!r})"
            )
        if self._adds and out is None:
            raise ValueError("plan: it adds to out, which is missing; use plan(x, out), or a plan without add=True")
        y = output("plan", out, self.output_shape, self.dtype, {"x": x})
        key = x.strides, y.strides, workers
        bound = self._bound.get(key)
        if bound is not None:
            launch, activation = bound
            if launch.run(address(x), address(y)):
                if activation is not None:
                    finish(y, self._layout.order[self._layout.batch_axes], None, activation)
                return y
        write = self._add if self._adds else self._write
        try:
            write(x, y, key)
        except KernelError:  # machine code was chosen and could not be made: it will not be chosen again
            write(x, y, key)
        return y

    def launch(self, x: np.ndarray, y: np.ndarray) -> Placed | None:
        """What ``plan(x, y)`` did with these very arrays, to be done again without a question; None: it takes more."""
        found = self._bound.get((x.strides, y.strides, threads.current()))
        if found is None:
            return None
        bound, activation = found
        if activation is None:
            return Placed(bound, address(x), address(y))
        after = following(y, activation)
        return None if after is None else Placed(bound, address(x), address(y), after)

    def _add(self, x: np.ndarray, y: np.ndarray, key: Key) -> None:
        """The pass, added to `y`: by its only launch, which is kept, or on its own and by a sweep."""
        problem = self._problem
        dtypes = problem.computing(self._dtypes, x, self._w, self._bias, transposed=self._transposed)
        run, view, _ = problem.ready(self._direction, dtypes, x, self._w)
        short = problem.alone(run, self._direction, view, self._layout, y)
        if short is not None and short.exact:
            weights = self._weights(run, self._activation)
            part = short.step.with_sum(weights.parts[0]) if weights.bias is not None or self._bias is None else None
            bound = None if part is None else short.bind(part)
            if bound is not None:
                after = None if weights.activation else self._activation
                bound.run(address(view), address(y))
                finish(y, self._layout.order[self._layout.batch_axes], None, after)
                if len(self._bound) < MOST_BOUND:
                    self._bound[key] = bound, after
                return
        apart = aligned(y.shape, y.dtype)
        self._run(run, view, apart, None)
        add_in_place(y, apart, self._activation)

    def _run(self, run: Pass, x: np.ndarray, y: np.ndarray, activation: Activation | None) -> Weights:
        """The pass step by step; the weights it used."""
        problem = self._problem
        with np.errstate(all="ignore"):
            weights = self._weights(run, activation)
            inputs = problem.x_layout.canonical(x) if self._transposed else problem.inputs(x)
            problem.write(run, inputs, weights, self._bias, self._layout, y, activation)
        return weights

    def _write(self, x: np.ndarray, y: np.ndarray, key: Key) -> None:
        """The pass step by step; if it is one launch, that is kept for arrays of the same strides."""
        problem = self._problem
        dtypes = problem.computing(self._dtypes, x, self._w, self._bias, transposed=self._transposed)
        run, x, _ = problem.ready(self._direction, dtypes, x, self._w)
        weights = self._run(run, x, y, self._activation)
        if weights.bias is not None or self._bias is None:
            short = problem.alone(run, self._direction, x, self._layout, y)
            bound = None if short is None else short.bind(weights.parts[0])
            if bound is not None and len(self._bound) < MOST_BOUND:
                self._bound[key] = bound, None if weights.activation else self._activation

    def _weights(self, run: Pass, activation: Activation | None) -> Weights:
        """The weights as this pass wants them; passes differ for strided x, and for integers by their size."""
        found = self._prepared.get((run, activation))
        if found is None:
            bias = None if self._bias is None else self._bias.astype(run.dtype)
            w = self._problem.weights(self._w)
            w = input_grad_weights(w, self._problem.geometry.groups) if self._transposed else w
            found = self._prepared[run, activation] = run.prepare(w, bias, activation=activation)
        return found

    def explain(self) -> Explanation:
        """What runs and why, as `npconv.explain` prints it, and what follows it."""
        from .explanation import explanation

        problem = self._problem
        found = explanation(problem.op, problem.geometry, problem.request(self._dtypes, self._direction))
        fused = any(weights.bias is not None for weights in self._prepared.values())
        then = [] if self._bias is None else ["bias (by the algorithm itself)" if fused else "bias"]
        then += ["out"] if self._adds else []
        if self._activation is not None:
            kept = any(weights.activation for weights in self._prepared.values())
            then.append(f"{self._activation} (by the algorithm itself)" if kept else str(self._activation))
        layouts = f"plan: {problem.x_layout.name} {self.input_shape} -> {self._layout.name} {self.output_shape}"
        return replace(found, notes=(f"{layouts}; then {', '.join(then) or 'nothing'}",))

    def __repr__(self) -> str:
        then = "".join(
            f" + {what}" for what in ("bias" * (self._bias is not None), "out" * self._adds, self._activation) if what
        )
        return f"ConvPlan({self.input_shape} -> {self.output_shape}, {self.dtype}, {self.algorithm}{then})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._transposed, self.input_shape, self._w, self._bias, self._arguments)


def _again(transposed: bool, x_shape: Ints, w: Array, bias: Array | None, arguments: dict[str, Any]) -> ConvPlan:
    return (plan_conv_transpose if transposed else plan_conv)(x_shape, w, bias, **arguments)


def _shape(problem: ConvProblem, layout: Layout, transposed: bool) -> Ints:
    """The output's shape in `layout`."""
    inputs, geometry = problem.x_layout, problem.geometry
    batch = [problem.x_shape[axis] for axis in inputs.order[: inputs.batch_axes]]
    _, *rest = geometry.x_shape if transposed else geometry.y_shape
    sizes = dict(zip(layout.order, (*batch, *rest), strict=True))
    return tuple(sizes[axis] for axis in range(len(sizes)))


def _output_layout(op: str, name: str, inputs: Layout) -> Layout:
    """Read `out_layout`; in letters the spatial axes are the input's by name, or by the order D, H, W."""
    try:
        found = input_layout(op, name, len(inputs.order), inputs.rank)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("layout", "out_layout", 1)) from None
    if name in NAMES:
        return found
    wanted = [c for c in ("DHW" if inputs.name in NAMES else inputs.name) if c in name and c not in "NC"]
    if len(wanted) < inputs.rank and inputs.name in NAMES:
        return found
    if len(wanted) < inputs.rank:
        raise ValueError(f"{op}: out_layout={name!r} and layout={inputs.name!r} must name the same spatial axes")
    return replace(found, order=(*found.order[: -inputs.rank or None], *(name.index(c) for c in wanted)))


def _activation(op: str, name: object, slope: object, result: np.dtype) -> Activation | None:
    """The activation that a caller names, for outputs of dtype `result`."""
    if isinstance(slope, bool) or not isinstance(slope, (int, float, np.floating, np.integer)):
        raise TypeError(f"{op}: slope must be a number, got {shown(slope)} of type {type(slope).__name__}; use 0.01")
    if name != "leaky_relu" and slope != SLOPE:
        raise ValueError(f"{op}: slope={slope} needs activation='leaky_relu', got {shown(name)}; use both or neither")
    if name is None:
        return None
    name = choice(op, "activation", name, list(TABLE))
    if result.kind == "c":
        raise TypeError(
            f"{op}: activation={name!r} needs real outputs, these are {result}: complex has no order; use None"
        )
    if result.kind in "iu" and name not in EXACT:
        raise TypeError(
            f"{op}: activation={name!r} has no integer result, and integers stay exact; use w.astype(np.float64)"
        )
    return Activation(name, float(slope) if name == "leaky_relu" else 0.0)
