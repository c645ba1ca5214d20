"""The pickle inside a torch file, interpreted without pickle: a stack machine that can build tables and tensors.

Pickle is a program, and Python's unpickler runs it: one that names `os.system` calls it. Here a name is text. Those
of CALLS stand for functions of this file, and any other ends the reading. `pickletools` takes the program apart and
executes nothing.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any

from ..records import dataclass
from .refusals import WeightsError, checked_name, checked_shape, printable

#: NumPy's dtype by torch's name. There is none for bfloat16: its bits are read, and widened.
DTYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "bf16", "complex64": "c8", "complex128": "c16",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "?",
    "uint16": "u2", "uint32": "u4", "uint64": "u8",
}  # fmt: skip
STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8",
    "Byte": "uint8", "Bool": "bool",
}  # fmt: skip
UNTYPED = "torch.storage UntypedStorage"
_STORAGE_NAMES = {f"torch {name}Storage": DTYPES[dtype] for name, dtype in STORAGES.items()} | {UNTYPED: "u1"}
_DTYPE_NAMES = {f"torch {name}": dtype for name, dtype in DTYPES.items()}

#: Steps of a program. A tensor takes about 45.
MOST_STEPS = 300_000
ADVICE = "save only the weights, torch.save(model.state_dict(), path), or as .safetensors"


@dataclass(frozen=True)
class Name:
    """What the program names: text, never looked up."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A run of numbers in an entry of the archive: its name, dtype and count."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: all in elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2: what follows is whether it trains, and its hooks."""
    if not isinstance(storage, Storage):
        raise WeightsError(f"a tensor has no storage; {ADVICE}")
    sizes, steps = checked_shape(shape, "a tensor"), checked_shape(strides, "a tensor", "strides")
    if len(sizes) != len(steps) or type(offset) is not int or offset < 0:
        raise WeightsError("a tensor's shape, strides and offset do not fit together; save it again")
    return Tensor(storage, storage.dtype, offset, sizes, steps)


def _newer_tensor(storage: Any, offset: Any, shape: Any, strides: Any, trains: Any, hooks: Any, dtype: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v3: of dtypes that have no storage of their own."""
    found = _tensor(storage, offset, shape, strides)
    if not isinstance(dtype, Name) or dtype.text not in _DTYPE_NAMES or found.dtype != "u1":
        raise WeightsError(f"a tensor has a dtype that NumPy does not have; save it as float32: {_kind(dtype)}")
    return Tensor(found.storage, _DTYPE_NAMES[dtype.text], found.offset, found.shape, found.strides)


def _parameter(data: Any, trains: Any, hooks: Any) -> Any:
    return data


def _table(*args: Any) -> dict[Any, Any]:
    """collections.OrderedDict, called without arguments; the program fills it."""
    if args:
        raise WeightsError(f"a table is made in a way that torch does not use; {ADVICE}")
    return {}


def _size(*args: Any) -> tuple[Any, ...]:
    (sizes,) = args
    return tuple(sizes) if isinstance(sizes, list | tuple) else ()


#: What may be called.
CALLS: Mapping[str, Callable[..., Any]] = {
    "collections OrderedDict": _table,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _newer_tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch Size": _size,
}
_KNOWN = {*CALLS, *_STORAGE_NAMES, *_DTYPE_NAMES}
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY: Mapping[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


def run(program: bytes) -> Any:
    """What the program leaves: dicts, lists, tuples, numbers and text, and tensors not yet read."""
    machine = _Machine()
    for steps, (code, arg, _) in enumerate(pickletools.genops(program)):
        if steps >= MOST_STEPS:
            raise WeightsError(f"the file lists more than {MOST_STEPS} steps; {ADVICE}")
        machine.step(code.name, arg)
    if len(machine.stack) != 1:
        raise WeightsError("the list of tensors is broken; save the file again")
    return machine.stack[0]


class _Machine:
    """The stack, the stacks set aside by marks, and what was remembered."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.aside: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, arg: Any) -> None:
        """One instruction."""
        stack = self.stack
        if name in _NUMBERS or name in _TEXTS:
            stack.append(arg)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[arg])
        elif name in _VALUES:
            stack.append(_VALUES[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(self.popped(_TUPLES[name]))]
        elif name == "MARK":
            self.aside.append(stack)
            self.stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            items = self.to_mark()
            if name == "TUPLE":
                self.stack.append(tuple(items))
            else:
                self.extend(items, name == "SETITEMS")
        elif name in ("APPEND", "SETITEM"):
            items = self.popped(1 + (name == "SETITEM"))
            del stack[-len(items) :]
            self.extend(items, name == "SETITEM")
        elif name == "GLOBAL":
            stack.append(_named(arg))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_named(" ".join(str(part) for part in self.popped(2)))]
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            function, args = self.popped(2)
            stack[-2:] = [_called(function, args)]
        elif name == "BUILD":  # attributes of a table, such as a state_dict's _metadata: nothing of ours
            if not isinstance(self.popped(2)[0], dict):
                raise WeightsError(f"the file holds an object with attributes; {ADVICE}")
            stack.pop()
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise WeightsError(f"the file does what a list of tensors never does ({name}); {ADVICE}")

    def popped(self, count: int) -> list[Any]:
        """The last of the stack, which stay on it."""
        if len(self.stack) < count:
            raise WeightsError("the list of tensors is broken; save the file again")
        return self.stack[-count:]

    def to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.aside.pop()
        return items

    def extend(self, items: list[Any], pairs: bool) -> None:
        """Put items into the list or table on the stack."""
        into = self.stack[-1]
        if pairs and isinstance(into, dict) and len(items) % 2 == 0:
            for key, value in zip(items[::2], items[1::2], strict=True):
                if type(key) not in (str, int):  # anything deep could be endless to compare
                    raise WeightsError(f"a table has a key of type {_kind(key)}; {ADVICE}")
                into[key] = value
        elif not pairs and isinstance(into, list):
            into.extend(items)
        else:
            raise WeightsError("the list of tensors is broken; save the file again")


def _named(text: str) -> Name:
    if text not in _KNOWN:
        raise WeightsError(f"the file wants {printable(text.replace(' ', '.'))!r}, which is not on the list; {ADVICE}")
    return Name(text)


def _called(function: Any, args: Any) -> Any:
    if not isinstance(function, Name) or function.text not in CALLS or not isinstance(args, tuple):
        raise WeightsError(f"the file calls {_kind(function)}; {ADVICE}")
    return CALLS[function.text](*args)


def _storage(reference: Any) -> Storage:
    """("storage", its class, its key, where it was, how many numbers)."""
    if not isinstance(reference, tuple) or len(reference) != 5 or reference[0] != "storage":
        raise WeightsError("a storage is not described as torch does it; save the file again")
    _, kind, key, _, count = reference
    if not isinstance(kind, Name) or kind.text not in _STORAGE_NAMES or type(count) is not int or count < 0:
        raise WeightsError(f"a storage is of a kind that is not read ({_kind(kind)}); save it as float32")
    return Storage(checked_name(key), _STORAGE_NAMES[kind.text], count)


def _kind(value: Any) -> str:
    return printable(value.text) if isinstance(value, Name) else type(value).__name__


def written(tensors: Mapping[str, Tensor]) -> bytes:
    """The program of a state_dict, in pickle's protocol 2, as torch writes it."""
    back = {DTYPES[dtype]: f"torch {name}Storage" for name, dtype in STORAGES.items()}
    empty = _global("collections OrderedDict") + b")R"
    out = [b"\x80\x02", empty, b"("]
    for name, tensor in tensors.items():
        store = tensor.storage
        out += [_text(name), _global("torch._utils _rebuild_tensor_v2"), b"(("]
        out += [_text("storage"), _global(back[store.dtype]), _text(store.key), _text("cpu"), _int(store.count), b"tQ"]
        out += [_int(tensor.offset), _tuple(tensor.shape), _tuple(tensor.strides), b"\x89", empty, b"tR"]
    return b"".join([*out, b"u."])


def _global(name: str) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(data)) + data


def _int(n: int) -> bytes:
    if n < 1 << 31:
        return b"J" + struct.pack("<i", n)
    data = n.to_bytes(9, "little")
    return b"\x8a" + bytes([len(data)]) + data


def _tuple(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_int(n) for n in numbers) + b"t"
