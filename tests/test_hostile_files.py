"""Files of weights that are broken or made to harm: each is refused quickly, by name, and nothing in it runs.

All are read in one fresh process, which an audit hook watches.
"""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from npconv import nn

Files = Iterator[tuple[str, bytes]]
SRC = Path(__file__).parents[1] / "src"
HUGE = 1 << 40


# --- safetensors ------------------------------------------------------------------------------------------------------
def st(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: object = (2,), begin: object = 0, end: object = 8, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_files() -> Files:
    data, good = bytes(8), entry()
    yield "empty", b""
    yield "only_a_length", struct.pack("<Q", 2)
    yield "length_beyond_file", st({"a": good}, data, length=1 << 20)
    yield "length_huge", st({"a": good}, data, length=(1 << 64) - 1)
    yield "header_too_long", st({"__metadata__": {"x": "y" * (2 << 20)}, "a": good}, data)
    yield "header_all_lists", st(b"[" * 500_000)
    yield "header_many_tables", st(b'{"a":[' + b"{}," * 300_000 + b"{}]}")
    yield "header_not_json", st(b"{'a': 1}", data)
    yield "header_a_list", st(b"[1, 2]", data)
    yield "header_a_number", st(b"12345678", data)
    yield "header_bad_utf8", st(b'{"\xff\xfe": 1}', data)
    yield "name_twice", st(b'{"a":' + json.dumps(good).encode() + b',"a":' + json.dumps(good).encode() + b"}", data)
    yield "name_empty", st({"": good}, data)
    yield "name_long", st({"n" * 5000: good}, data)
    yield "name_escapes", st({"\x1b[31mred": good}, data)
    yield "name_climbs", st({"../../etc/passwd": good}, data)
    yield "name_absolute", st({"/etc/passwd": good}, data)
    yield "name_surrogate", st(b'{"\\ud800":' + json.dumps(good).encode() + b"}", data)
    yield "truncated", st({"a": good}, data[:5])
    yield "trailing", st({"a": good}, data + b"more")
    yield "hole", st({"a": good, "b": entry((1,), 12, 16)}, bytes(16))
    yield "overlap", st({"a": good, "b": entry((2,), 4, 12)}, bytes(12))
    yield "same_bytes_twice", st({"a": good, "b": good}, data)
    yield "shape_huge", st({"a": entry((HUGE, HUGE))}, data)
    yield "shape_and_offsets_huge", st({"a": entry((HUGE,), 0, 4 * HUGE)}, data)
    yield "shape_wraps", st({"a": entry((1 << 33, 1 << 31, 2), 0, 0)})
    yield "shape_negative", st({"a": entry((-2,))}, data)
    yield "shape_fraction", st({"a": entry((2.0,))}, data)
    yield "shape_bool", st({"a": entry((True, 2))}, data)
    yield "shape_text", st({"a": entry("2")}, data)
    yield "shape_of_a_million_axes", st({"a": entry([1] * 200_000, 0, 4)}, data)
    yield "offsets_negative", st({"a": entry((2,), -8, 0)}, data)
    yield "offsets_backwards", st({"a": entry((2,), 8, 0)}, data)
    yield "offsets_three", st({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, data)
    yield "dtype_unknown", st({"a": entry(dtype="O")}, data)
    yield "dtype_a_list", st({"a": entry(dtype=["F32"])}, data)
    yield "entry_a_number", st({"a": 3}, data)
    yield "entry_with_code", st({"a": {**good, "eval": "__import__('os')"}}, data)


# --- zip and npz ------------------------------------------------------------------------------------------------------
def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def npy(descr: object = "<f4", shape: object = (2,), data: bytes = bytes(8), order: object = False) -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


class Code(str):
    """Stands in a header without quotes."""

    __repr__ = str.__str__


def twice_named(name: str, *contents: bytes) -> bytes:
    return zipped(*((f"{i}{name[1:]}", c) for i, c in enumerate(contents))).replace(
        b"1" + name[1:].encode(), b"0" + name[1:].encode()
    )


def central(archive: bytes, at: int, fmt: str, value: int) -> bytes:
    """The archive with a field of its first central entry changed."""
    start = archive.index(b"PK\x01\x02") + at
    return archive[:start] + struct.pack(fmt, value) + archive[start + struct.calcsize(fmt) :]


def overlapping() -> bytes:
    """The second entry's place is the first's."""
    archive = bytearray(zipped(("a.npy", npy()), ("b.npy", npy())))
    first = archive.index(b"PK\x01\x02")
    second = archive.index(b"PK\x01\x02", first + 4)
    archive[second + 42 : second + 46] = archive[first + 42 : first + 46]
    return bytes(archive)


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo hacked > hacked",)


def npz_files() -> Files:
    pickled = pickle.dumps(Runs())
    good = zipped(("a.npy", npy()))
    yield "empty", b""
    yield "not_a_zip", b"PK\x03\x04 and no more"
    yield "truncated", good[: len(good) // 2]
    yield "truncated_end", good[:-4]
    yield "zeros", bytes(1000)
    yield "pickled_objects", zipped(("a.npy", npy("|O", (1,), pickled)))
    yield "pickled_entry", zipped(("a.pkl", pickled))
    yield "bare_pickle_as_array", zipped(("a.npy", pickled))
    yield "structured", zipped(("a.npy", npy([("x", "<f4"), ("y", "|O")], (1,))))
    yield "dates", zipped(("a.npy", npy("<M8[s]", (1,))))
    yield "void", zipped(("a.npy", npy("|V8", (1,))))
    yield "text", zipped(("a.npy", npy("<U2", (1,))))
    yield "shape_huge", zipped(("a.npy", npy(shape=(HUGE, HUGE))))
    yield "shape_32_gib", zipped(("a.npy", npy(shape=(1 << 33,))))
    yield "shape_negative", zipped(("a.npy", npy(shape=(-2,))))
    yield "shape_wraps", zipped(("a.npy", npy(shape=(1 << 33, 1 << 31), data=b"")))
    yield "shape_fraction", zipped(("a.npy", npy(shape=(2.0,))))
    yield "shape_code", zipped(("a.npy", npy(shape=Code("f()"))))
    yield "shape_many_axes", zipped(("a.npy", npy(shape=(1,) * 1000, data=bytes(4))))
    yield "shape_power", zipped(("a.npy", npy(shape=Code("(9**9**9,)"))))
    yield "data_short", zipped(("a.npy", npy(data=bytes(7))))
    yield "data_long", zipped(("a.npy", npy(data=bytes(9))))
    yield "header_length_4_gib", zipped(("a.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFFF) + bytes(99)))
    yield "header_nested", zipped(("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000))
    yield "header_version_9", zipped(("a.npy", b"\x93NUMPY\x09\x00" + npy()[8:]))
    yield "bomb", zipped(("a.npy", npy(shape=(1 << 25,), data=bytes(1 << 27))), method=zipfile.ZIP_DEFLATED)
    yield (
        "bomb_of_many",
        zipped(*((f"{i}.npy", npy(shape=(1 << 21,), data=bytes(1 << 23))) for i in range(9)), method=8),
    )
    yield "bomb_bzip2", zipped(("a.npy", npy(shape=(1 << 20,), data=bytes(1 << 22))), method=zipfile.ZIP_BZIP2)
    yield "size_4_gib", central(good, 24, "<I", 0xFFFFFFF0)
    yield "sizes_4_gib", central(central(good, 24, "<I", 0xFFFFFFF0), 20, "<I", 0xFFFFFFF0)
    yield "offset_beyond", central(good, 42, "<I", 0x7FFFFFFF)
    yield "encrypted", central(good, 8, "<H", 1)
    yield "method_unknown", central(good, 10, "<H", 77)
    yield "checksum_wrong", good.replace(bytes(8), b"\x01" + bytes(7), 1)
    yield "overlapping_entries", overlapping()
    yield "name_twice", twice_named("0.npy", npy(), npy())
    yield "name_climbs", zipped(("../../a.npy", npy()))
    yield "name_absolute", zipped(("/tmp/a.npy", npy()))
    yield "name_backslash", zipped(("..\\a.npy", npy()))
    yield "name_escapes", zipped(("\x1b[2Ja.npy", npy()))
    yield "many_entries", zipped(*((f"{i}.npy", b"") for i in range(20_001)))
    yield "directory_of_30_mb", zipped(*((f"{i:0999}", b"") for i in range(9_000)))


# --- torch ------------------------------------------------------------------------------------------------------------
def op_text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def op_global(name: str) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def op_ints(*numbers: int) -> bytes:
    return b"(" + b"".join(b"\x8a\x0a" + n.to_bytes(10, "little", signed=True) for n in numbers) + b"t"


def tensor(shape: bytes = op_ints(2), strides: bytes = op_ints(1), offset: int = 0, count: int = 2,
           kind: str = "torch FloatStorage", key: str = "0", call: str = "torch._utils _rebuild_tensor_v2") -> bytes:  # fmt: skip
    storage = b"(" + op_text("storage") + op_global(kind) + op_text(key) + op_text("cpu") + op_ints(count)[1:-1] + b"tQ"
    empty = op_global("collections OrderedDict") + b")R"
    return op_global(call) + b"(" + storage + op_ints(offset)[1:-1] + shape + strides + b"\x89" + empty + b"tR"


def pt(program: bytes, *more: tuple[str, bytes], data: bytes = bytes(8), method: int = zipfile.ZIP_STORED) -> bytes:
    return zipped(("m/data.pkl", program), ("m/data/0", data), *more, method=method)


def table(value: bytes, name: str = "w") -> bytes:
    return b"\x80\x02}" + op_text(name) + value + b"s."


def torch_files() -> Files:
    good = table(tensor())
    yield "empty", b""
    yield "bare_pickle", pickle.dumps(Runs())
    yield "pickle_in_zip", pt(pickle.dumps(Runs()))
    yield "pickle_in_a_table", pt(pickle.dumps({"w": Runs()}))
    for protocol in range(6):
        yield f"pickle_{protocol}", pt(pickle.dumps([Runs()], protocol))
    for name in ("os system", "posix system", "builtins eval", "builtins getattr", "torch.hub load", "subprocess Popen",
                 "torch._utils _rebuild_tensor_v2.__globals__", "torch.serialization load"):  # fmt: skip
        yield "calls_" + name.replace(" ", "_"), pt(b"\x80\x02" + op_global(name) + b"(" + op_text("echo") + b"tR.")
    stacked = b"\x80\x04" + op_text("os") + op_text("system") + b"\x93" + op_text("echo") + b"\x85R."
    yield "calls_by_stack", pt(stacked)
    yield "instance_opcode", pt(b"(" + op_text("echo") + b"ios\nsystem\n.")
    yield "object_opcode", pt(b"\x80\x02(" + op_global("collections OrderedDict") + b"o.")
    yield "new_object", pt(b"\x80\x02" + op_global("collections OrderedDict") + b")\x81.")
    yield "extension", pt(b"\x80\x02\x82\x01.")
    yield "build_on_a_name", pt(b"\x80\x02" + op_global("collections OrderedDict") + b"}b.")
    yield "calls_a_tensor", pt(b"\x80\x02" + tensor() + b")R.")
    yield "calls_with_a_list", pt(b"\x80\x02" + op_global("collections OrderedDict") + b"]R.")
    yield "key_deep", pt(b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.")
    yield "key_a_list", pt(b"\x80\x02}]K\x01s.")
    yield "endless_tables", pt(b"\x80\x02" + b"}" * 3_000_000 + b".")
    yield "endless_memo", pt(b"\x80\x04]" + b"\x94" * 3_000_000 + b".")
    yield "program_long", pt(good + bytes(5 << 20))
    yield "no_stop", pt(good[:-1])
    yield "two_results", pt(b"\x80\x02]].")
    yield "empty_program", pt(b"")
    yield "pops_nothing", pt(b"\x80\x02t.")
    yield "text_beyond_program", pt(b"\x80\x02X\xff\xff\xff\x7fabc.")
    yield "number_of_2_gib", pt(b"\x80\x02\x8b\xff\xff\xff\x7f1.")
    yield "memo_missing", pt(b"\x80\x02h\x07.")
    yield "bad_utf8", pt(b"\x80\x02}X\x02\x00\x00\x00\xff\xfe" + tensor() + b"s.")
    yield "shape_huge", pt(table(tensor(op_ints(HUGE, HUGE), op_ints(HUGE, 1))))
    yield "shape_repeated", pt(table(tensor(op_ints(HUGE), op_ints(0))))
    yield "shape_negative", pt(table(tensor(op_ints(-2))))
    yield "stride_negative", pt(table(tensor(strides=op_ints(-1))))
    yield "stride_huge", pt(table(tensor(strides=op_ints(1 << 62))))
    yield "offset_negative", pt(table(tensor(offset=-1)))
    yield "offset_beyond", pt(table(tensor(offset=1)))
    yield "strides_too_few", pt(table(tensor(op_ints(1, 2))))
    yield "many_axes", pt(table(tensor(op_ints(*[1] * 60), op_ints(*[1] * 60))))
    yield "storage_huge", pt(table(tensor(op_ints(HUGE), count=HUGE)))
    yield "storage_negative", pt(table(tensor(count=-1)))
    yield "storage_short", pt(good, data=bytes(7))
    yield "storage_missing", pt(table(tensor(key="5")))
    yield "storage_climbs", pt(table(tensor(key="../../data.pkl")))
    yield "storage_unknown", pt(table(tensor(kind="torch QInt8Storage")))
    yield "name_climbs", pt(table(tensor(), "../w"))
    yield "name_escapes", pt(table(tensor(), "\x1b[31m"))
    yield "a_list_of_tensors", pt(b"\x80\x02](" + tensor() + b"e.")
    yield "a_number", pt(b"\x80\x02K\x01.")
    yield "not_a_tensor", pt(b"\x80\x02}" + op_text("w") + tensor() + b"s" + op_text("lr") + b"K\x01s.")
    yield "no_program", zipped(("m/data/0", bytes(8)))
    yield "two_programs", pt(good, ("n/data.pkl", good))
    yield (
        "name_twice",
        zipped(("m/data.pkl", good), ("m/data/0", bytes(8)), ("m/data/1", bytes(8))).replace(b"m/data/1", b"m/data/0"),
    )
    yield "compressed", pt(good, method=zipfile.ZIP_DEFLATED)
    yield "script", pt(good, ("m/constants.pkl", b"."), ("m/code/__torch__.py", b"import os"))
    yield "entry_climbs", pt(good, ("m/../../x", b""))
    yield "tar", bytes(257) + b"ustar" + bytes(1000)
    yield "truncated", pt(good)[:-30]
    yield "checksum_wrong", pt(good, data=b"abcdefgh").replace(b"abcdefgh", b"abcdefgx", 1)


# --- HDF5 and Keras ---------------------------------------------------------------------------------------------------
def h5(build) -> bytes:
    h5py = pytest.importorskip("h5py", reason="Keras' files are HDF5")
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        build(root, h5py)
    return file.getvalue()


def layer(root, h5py=None, path: str = "layers/conv2d/vars", shape=(3, 3, 1, 2)):
    group = root.create_group(path)
    group["0"] = np.ones(shape, np.float32)
    group["1"] = np.zeros(shape[-1], np.float32)
    return group


def h5_files() -> Files:
    good = h5(layer)
    yield "empty", b""
    yield "not_hdf5", b"\x89HDF is not enough"
    yield "truncated", good[: len(good) // 2]
    yield "truncated_end", good[:-64]
    yield "only_a_signature", good[:8] + bytes(4000)
    yield "no_layers", h5(lambda root, h5py: root.create_group("other"))
    yield "external_link", h5(lambda r, h: layer(r).__setitem__("2", h.ExternalLink("/etc/passwd", "/x")))
    yield "external_link_group", h5(lambda r, h: r.__setitem__("layers", h.ExternalLink("good.h5", "/layers")))
    yield "soft_link", h5(lambda r, h: layer(r).__setitem__("2", h.SoftLink("/layers/conv2d/vars/0")))
    yield "soft_link_to_nothing", h5(lambda r, h: layer(r).__setitem__("2", h.SoftLink("/nothing")))
    yield "hard_link_circle", h5(lambda r, h: layer(r).__setitem__("self", r))
    yield "hard_link_twice", h5(lambda r, h: layer(r).__setitem__("2", r["layers/conv2d/vars/0"]))

    def virtual(r, h):
        layout = h.VirtualLayout((3,), "f4")
        layout[:] = h.VirtualSource("/etc/passwd", "x", (3,))
        layer(r).create_virtual_dataset("2", layout)

    yield "virtual", h5(virtual)
    yield (
        "external_storage",
        h5(lambda r, h: layer(r).create_dataset("2", (9,), "u1", external=[("/etc/passwd", 0, 9)])),
    )
    for name in ("gzip", "lzf"):
        yield name, h5(lambda r, h, n=name: layer(r).create_dataset("2", data=np.zeros(99, "f4"), compression=n))
    yield (
        "bomb",
        h5(
            lambda r, h: layer(r).create_dataset(
                "2", data=np.zeros(1 << 24, "f4"), chunks=(1 << 24,), compression="gzip"
            )
        ),
    )
    yield "shuffled", h5(lambda r, h: layer(r).create_dataset("2", data=np.zeros(99, "f4"), shuffle=True))
    yield "in_chunks", h5(lambda r, h: layer(r).create_dataset("2", data=np.zeros(99, "f4"), chunks=(9,)))
    yield "huge_unwritten", h5(lambda r, h: layer(r).create_dataset("2", (HUGE,), "f4"))
    yield "huge_in_chunks", h5(lambda r, h: layer(r).create_dataset("2", (HUGE,), "f4", chunks=(1024,)))
    yield "null", h5(lambda r, h: layer(r).create_dataset("2", data=h.Empty("f4")))
    yield "texts", h5(lambda r, h: layer(r).create_dataset("2", data=["a", "b"]))
    yield "references", h5(lambda r, h: layer(r).create_dataset("2", data=np.array([r.ref], dtype=h.ref_dtype)))
    yield "structured", h5(lambda r, h: layer(r).create_dataset("2", data=np.zeros(2, "f4,i4")))
    yield "named_type", h5(lambda r, h: layer(r).__setitem__("2", np.dtype("f4")))
    yield "deep", h5(lambda r, h: r.create_group("/".join(["g"] * 200)))
    yield "many_groups", h5(lambda r, h: [r.create_group(f"g{i}") for i in range(10_002)])
    yield "bad_utf8", h5(lambda r, h: r.create_group(b"layers/\xff\xfe"))
    yield "name_escapes", h5(lambda r, h: layer(r, path="layers/\x1b[31m/vars"))
    yield "kernel_of_one_axis", h5(lambda r, h: layer(r, shape=(3,)))
    yield "third_array", h5(lambda r, h: layer(r).__setitem__("2", np.ones(2)))
    yield "name_an_essay", h5(lambda r, h: layer(r).attrs.__setitem__("name", "n" * 60_000))
    yield (
        "two_of_one_name",
        h5(lambda r, h: [layer(r, path=f"layers/conv2d{n}/vars").attrs.__setitem__("name", "a") for n in ("", "_1")]),
    )

    def listed(r, h):
        r.attrs["layer_names"] = ["a", "../b"]
        r.create_group("a").attrs["weight_names"] = ["a/kernel:0"]

    yield "listed_but_missing", h5(listed)


def config(*layers: object) -> bytes:
    return json.dumps({"class_name": "Sequential", "config": {"layers": layers}}).encode()


def keras_files() -> Files:
    weights = h5(layer)
    conv = {"class_name": "Conv2D", "config": {"name": "conv"}}
    good = config(conv)
    yield "empty", b""
    yield "no_weights", zipped(("config.json", good))
    yield "no_config", zipped(("model.weights.h5", weights))
    yield "weights_pickled", zipped(("config.json", good), ("model.weights.npz", zipped(("a.npy", npy("|O", (1,))))))
    yield "config_not_json", zipped(("config.json", b"{"), ("model.weights.h5", weights))
    yield "config_nested", zipped(("config.json", b"[" * 900_000), ("model.weights.h5", weights))
    yield "config_long", zipped(("config.json", b" " * (3 << 20)), ("model.weights.h5", weights))
    yield "config_bomb", zipped(("config.json", b" " * (90 << 20)), ("model.weights.h5", weights), method=8)
    yield "config_a_list", zipped(("config.json", b"[]"), ("model.weights.h5", weights))
    yield "config_no_layers", zipped(("config.json", config()), ("model.weights.h5", weights))
    yield "config_layer_a_number", zipped(("config.json", config(3)), ("model.weights.h5", weights))
    lambda_layer = {"class_name": "Lambda", "config": {"name": "evil", "function": "import os; os.system('echo')"}}
    yield "lambda", zipped(("config.json", config(lambda_layer)), ("model.weights.h5", weights))
    yield (
        "name_climbs",
        zipped(
            ("config.json", config({"class_name": "Conv2D", "config": {"name": "../../conv"}})),
            ("model.weights.h5", weights),
        ),
    )
    yield "weights_bomb", zipped(("config.json", good), ("model.weights.h5", weights + bytes(90 << 20)), method=8)
    yield "weights_broken", zipped(("config.json", good), ("model.weights.h5", weights[:700]))
    yield (
        "weights_linked",
        zipped(
            ("config.json", good),
            ("model.weights.h5", h5(lambda r, h: r.__setitem__("layers", h.ExternalLink("/etc/passwd", "/")))),
        ),
    )
    yield "entry_climbs", zipped(("config.json", good), ("model.weights.h5", weights), ("assets/../../x", b""))
    yield (
        "entry_twice",
        zipped(("config.json", good), ("model.weights.h5", weights), ("config.jsoN", good)).replace(
            b"config.jsoN", b"config.json"
        ),
    )
    wide = {"class_name": "BatchNormalization", "config": {"name": "conv"}}
    yield "class_wrong", zipped(("config.json", config(wide)), ("model.weights.h5", weights))


KINDS = {
    "safetensors": safetensors_files,
    "npz": npz_files,
    "pt": torch_files,
    "h5": h5_files,
    "keras": keras_files,
}


def good_files() -> dict[str, bytes]:
    conv = config({"class_name": "Conv2D", "config": {"name": "conv"}})
    return {
        "good.safetensors": st({"a": entry()}, bytes(8)),
        "good.npz": zipped(("a.npy", npy()), method=zipfile.ZIP_DEFLATED),
        "good.pt": pt(table(tensor())),
        "good.h5": h5(layer),
        "good.keras": zipped(("config.json", conv), ("model.weights.h5", h5(layer))),
    }


# What a fresh process does: reads each file, and prints what happened.
READER = """
import json, os, resource, sys, time
from npconv import nn
folder = sys.argv[1]
os.chdir(folder)
for name in sorted(os.listdir(folder)):
    if name.startswith("good."):
        nn.load_weights(name)  # so that what imports and first uses take is not counted
events, own = [], set()
def watch(event, args):
    if event.startswith(("pickle.", "subprocess.", "socket.", "os.system", "os.exec", "os.posix_spawn", "shutil.")):
        events.append(event)
    elif event == "open" and args[0] not in own:
        events.append(f"open {args[0]}")
sys.addaudithook(watch)
def peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass
def high():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
own |= {"/proc/self/clear_refs", "/proc/self/status"}
for name in sorted(os.listdir(folder)):
    own.add(name)
    peak()
    before, start, kind, text = high(), time.process_time(), "", ""
    try:
        nn.load_weights(name)
    except BaseException as error:
        kind, text = type(error).__name__, str(error)
    taken, grown = time.process_time() - start, high() - before
    print(json.dumps([name, kind, text, taken, grown, events[:]]), flush=True)
    events.clear()
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    folder = tmp_path_factory.mktemp("hostile")
    pytest.importorskip("safetensors", reason="its files are read by its library")
    for kind, files in KINDS.items():
        for name, data in files():
            (folder / f"{name}.{kind}").write_bytes(data)
    for name, data in good_files().items():
        (folder / name).write_bytes(data)
    command = [sys.executable, "-c", READER, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-500:]
    assert not (folder / "hacked").exists()
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


def test_there_are_many(verdicts):
    assert sum(not name.startswith("good.") for name in verdicts) >= 150
    assert {kind: verdicts[f"good.{kind}"][0] for kind in KINDS} == dict.fromkeys(KINDS, "")


@pytest.mark.parametrize("kind", KINDS)
def test_refused_by_name(verdicts, kind):
    """A WeightsError that names the file and says more than that."""
    hostile = {n: v for n, v in verdicts.items() if n.endswith("." + kind) and not n.startswith("good.")}
    assert {name: v[:2] for name, v in hostile.items() if v[0] != "WeightsError"} == {}
    assert [name for name, v in hostile.items() if not v[1].startswith(f"load_weights: {name}: ")] == []
    assert [name for name, v in hostile.items() if not 20 < len(v[1].partition(": ")[2]) < 600] == []
    assert [name for name, v in hostile.items() if not v[1].isprintable()] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("external_link_group.h5", "is a link to somewhere else"),
        ("virtual.h5", "in another file"),
        ("huge_unwritten.h5", "declares 4398046511104 bytes"),
        ("calls_os_system.pt", "wants 'os.system', which is not on the list"),
        ("shape_repeated.pt", "declares 1099511627776 numbers"),
        ("hole.safetensors", "a hole or an overlap"),
        ("overlap.safetensors", "a hole or an overlap"),
        ("overlapping_entries.npz", "overlaps the entry before it"),
        ("pickled_objects.npz", "only pickle can read"),
    ],
)
def test_refused_for_its_reason(verdicts, name, reason):
    """By our own check, and not by luck in a library behind it."""
    assert reason in verdicts[name][1]


def test_refused_quickly_and_in_little_memory(verdicts):
    assert {name: v[2] for name, v in verdicts.items() if v[2] >= 1} == {}
    assert {name: v[3] for name, v in verdicts.items() if v[3] >= 64 << 20} == {}


def test_nothing_runs_and_nothing_else_is_opened(verdicts):
    assert {name: v[4] for name, v in verdicts.items() if v[4]} == {}


def test_the_watch_sees(tmp_path):
    """The audit hook would report an unpickling."""
    code = READER.replace(
        "nn.load_weights(name)\n    except", "__import__('pickle').load(open(name, 'rb'))\n    except"
    )
    assert code != READER
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Runs()))
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SRC)}, timeout=60
    )
    assert {"pickle.find_class", "os.system"} <= set(json.loads(done.stdout)[-1])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_a_folder_and_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(nn.WeightsError, match="not a regular file"):
        nn.load_weights(tmp_path / "pipe.npz")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(IsADirectoryError):
        nn.load_weights(tmp_path / "folder.pt")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    with pytest.raises(nn.WeightsError, match="not a regular file"):
        nn.load_weights(tmp_path / "zero.safetensors")


@pytest.mark.parametrize("kind", ["npz", "pt", "safetensors"])
def test_bytes_changed_at_random(tmp_path, kind):
    """A file with a few wrong bytes is read or refused, and no other error comes out."""
    rng = np.random.default_rng(0)
    good = good_files()[f"good.{kind}"]
    path = tmp_path / f"x.{kind}"
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data[: rng.integers(1, len(data)) if rng.random() < 0.2 else None])
        try:
            nn.load_weights(path)
        except nn.WeightsError:
            refused += 1
    assert refused > 100
