"""The explorer's page: its modules join, it holds all that it needs, and no name in it becomes markup."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import npconv
from npconv import nn
from npconv.explorer import Explorer, bundle, hosts, page, timing
from npconv.explorer.problem import problem
from npconv.explorer.walk import Step, Walk
from npconv.explorer.walk_layers import walk_layers
from npconv.explorer.wire import ProblemError, problem_json, read_problem

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")

RNG = np.random.default_rng(7)


def node(code: str) -> str:
    done = subprocess.run([NODE, "--input-type=module", "-"], input=code, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# --------------------------------------------------------------------------- joining
A = 'import { b } from "./b.js";\n/** Doc. */\nexport function a() {\n  return b + 1;\n}\nexport default { a };\n'
B = "const inner = 1;\nexport const b = inner;\n"


def test_modules_join_in_the_order_of_their_imports():
    joined = bundle.join({"a.js": A, "b.js": B, "unused.js": "const inner = 2;\n"}, ("a.js",))
    assert "import" not in joined
    assert "unused" not in joined
    assert joined.index("const b = inner") < joined.index("function a")
    assert joined.endswith("export default { a };\n")
    assert joined.count("export") == 1


def test_lines_keep_their_numbers():
    joined = bundle.join({"a.js": A, "b.js": B}, ("a.js",)).splitlines()
    start = joined.index("// a.js") + 1
    assert [i - start for i, line in enumerate(joined) if line.startswith("function a")] == [2]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.js": A, "b.js": "const c = 1;\n"}, "a.js:1: b.js does not export b"),
        ({"a.js": A, "b.js": "const b = 1;\n"}, "a.js:1: b.js does not export b"),
        ({"a.js": A}, "a.js:1: there is no b.js"),
        ({"a.js": A + "const inner = 3;\n", "b.js": B}, "a.js:7: inner is declared in b.js:1 too"),
        ({"a.js": A + "let a = 3;\n", "b.js": B}, "a.js:7: a is declared twice"),
        ({"a.js": A, "b.js": 'import { a } from "./a.js";\n' + B}, "b.js:1: a circle of imports, a.js -> b.js -> a.js"),
        ({"a.js": 'import b from "./b.js";\n', "b.js": B}, 'a.js:1: expected import { a, b } from "./file.js";'),
        ({"a.js": 'import { b as c } from "./b.js";\n', "b.js": B}, "a.js:1: an import keeps its name"),
        ({"a.js": 'import * as c from "./b.js";\n', "b.js": B}, 'a.js:1: expected import { a, b } from "./file.js";'),
        (
            {"a.js": 'import { x } from "https://x.example/x.js";\n'},
            'a.js:1: expected import { a, b } from "./file.js";',
        ),
        ({"a.js": '\nconst c = await import("./b.js");\n'}, 'a.js:2: expected import { a, b } from "./file.js";'),
        ({"a.js": "export { b };\n"}, "a.js:1: expected export or a declaration of one name"),
        ({"a.js": "const { b, c } = 1;\n"}, "a.js:1: expected export or a declaration of one name"),
        ({"a.js": 'const c = "</script>";\n'}, "a.js:1: this would end an inline script"),
        ({"a.js": "const c = 1; // <!-- x\n"}, "a.js:1: this would end an inline script"),
        ({"a.js": "export default { a };\nexport default { a };\n"}, "a.js:2: a second default export"),
        ({"a.js": "const c = 1;\n"}, "a.js: 0 default exports, expected one"),
    ],
)
def test_what_does_not_join(files, message):
    with pytest.raises(bundle.BundleError) as caught:
        bundle.join(files, ("a.js",))
    assert str(caught.value) == message


def test_imports_over_several_lines():
    wide = A.replace("import { b }", "import {\n  b,\n}")
    assert "import" not in bundle.join({"a.js": wide, "b.js": B}, ("a.js",))


def test_all_modules_that_there_are_join():
    bundle.check()


@needs_node
def test_the_module_has_one_default_export():
    data = base64.b64encode(bundle.module().encode()).decode()
    code = f'const m = await import("data:text/javascript;base64,{data}"); '
    code += "console.log(Object.keys(m).join(), typeof m.default.render)"
    assert node(code) == "default function\n"


@needs_node
def test_the_script_of_the_page_parses(tmp_path):
    path = tmp_path / "page.mjs"
    path.write_text(bundle.script())
    subprocess.run([NODE, "--check", str(path)], check=True, timeout=60)


FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setAttribute\(\s*.style|javascript:"
    r"|https?://(?!www\.w3\.org/2000/svg\")|\bimportScripts\b|createContextualFragment|DOMParser|srcdoc",
)


@pytest.mark.parametrize("name", bundle.sources())
def test_no_source_turns_text_into_markup_or_code(name):
    """The name of the SVG language is an address that nobody visits."""
    assert [match[0] for match in FORBIDDEN.finditer(bundle.sources()[name])] == []


@pytest.mark.parametrize(
    "line", ['el.innerHTML = "x"', "eval('1')", 'x = "https://cdn.example/x.js"', 'a.setAttribute("style", "")']
)
def test_the_search_finds(line):
    assert FORBIDDEN.search(line)


def test_the_style_asks_for_nothing():
    assert re.findall(r"url\(|@import|expression\(|https?:|</style", bundle.style(), re.IGNORECASE) == []


# --------------------------------------------------------------------------- the page
class Elements(HTMLParser):
    """Every element with its attributes, and the text inside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.open = False

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open = tag in ("script", "style")
        if self.open:
            self.inside.append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.inside[-1] += data


def elements(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    parser.close()
    return parser


def shape_of(parser: Elements) -> list[tuple[str, tuple[str, ...]]]:
    return [(tag, tuple(sorted(attributes))) for tag, attributes in parser.found]


def data_of(text: str) -> dict:
    parser = elements(text)
    kinds = [attributes.get("type") for tag, attributes in parser.found if tag in ("script", "style")]
    return json.loads(parser.inside[kinds.index("application/json")])


PLAIN = page.html()


def test_what_a_page_is_made_of():
    tags = [tag for tag, _ in elements(PLAIN).found]
    assert tags[:3] == ["html", "head", "meta"]
    assert tags.count("script") == 2
    assert tags.count("style") == 1
    assert elements(PLAIN).found[0][1] == {"lang": "en"}
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in PLAIN
    assert "<title>npconv explorer</title>" in PLAIN
    assert "<noscript><p>" in PLAIN


def test_a_page_names_no_address():
    addresses = [
        value
        for _, attributes in elements(PLAIN).found
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "srcset", "poster")
    ]
    assert addresses == ["data:,"]
    assert set(re.findall(r"https?://[^\s\"'`]*", PLAIN)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("host", ["file", "page"])
def test_the_policy_fits_the_page(host):
    """The hashes are of exactly what the page holds, and there is no other permission."""
    text = page.html(host=host)
    parser = elements(text)
    policy = next(a["content"] for tag, a in parser.found if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))

    def digest(inside: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"

    style, _, script = parser.inside
    assert rules == {
        "default-src": "'none'",
        "script-src": digest(script),
        "style-src": digest(style),
        "img-src": "data: blob:",
        "connect-src": "'none'" if host == "file" else "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
    }
    assert policy == page.policy(host)


def test_a_page_is_small_and_always_the_same():
    assert len(PLAIN.encode()) < 1_000_000
    given = problem(np.arange(36.0).reshape(6, 6), np.ones((3, 3)))
    times = {"gemm": 1e-5}
    assert page.html(given, times=times) == page.html(given, times=times)


def test_what_travels_in_a_page():
    given = problem(RNG.random((2, 6, 6)).astype(np.float32), RNG.random((3, 2, 2, 2)), [1, np.nan, -np.inf], stride=2)
    data = data_of(page.html(given, times={"fft": 0.5}, recorded={"machine": "m", "date": "d"}, shown={"step": 3}))
    assert data == {
        "problem": problem_json(given),
        "walk": None,
        "times": {"fft": 0.5},
        "recorded": {"machine": "m", "date": "d"},
        "host": "file",
        "shown": {"step": 3},
    }
    assert data["problem"]["bias"] == {"shape": [3], "data": [1, "nan", "-inf"]}


def test_times_are_recorded_with_machine_and_day():
    shown = npconv.explore(np.ones((1, 8, 8)), np.ones((1, 1, 3, 3)))
    data = data_of(shown.html())
    assert set(data["times"]) == {"loops", "direct", "gemm", "fft", "winograd"}
    assert all(seconds > 0 for seconds in data["times"].values())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", data["recorded"]["date"])
    assert data["recorded"]["machine"]
    assert shown.html() == shown.html()


def test_pools_have_nothing_to_time():
    assert timing.times(problem(np.ones((4, 4)), operator="max_pool", kernel=2)) == {}


def test_an_algorithm_that_cannot_run_is_not_timed():
    found = timing.times(problem(np.ones((9, 9)), np.ones((3, 3)), stride=2, dilation=2))
    assert "gemm" in found
    assert "winograd" not in found


@needs_node
def test_the_example_of_the_page_has_the_sizes_that_are_timed():
    data = base64.b64encode(bundle.join(bundle.sources(), ("arithmetic.js",), default=False).encode()).decode()
    joined = (
        base64.b64decode(data).decode() + "\nconsole.log(JSON.stringify([defaults().x.shape, defaults().w.shape]));"
    )
    example = hosts._example()
    assert json.loads(node(joined)) == [list(example.x.shape), list(example.w.shape)]


# --------------------------------------------------------------------------- hostile names
NAMES = {
    "a script": "<script>alert(1)</script>",
    "the end of the script": "</script><script>alert(1)</script>",
    "the same in capitals": "</SCRIPT ><img src=x onerror=alert(1)>",
    "the end of the title": "</title><img src=x onerror=alert(1)>",
    "the end of the style": "</style><script>alert(1)</script>",
    "an image": "<img src=x onerror=alert(1)>",
    "a picture": "<svg/onload=alert(1)>",
    "an attribute": '" onmouseover="alert(1)" x="',
    "the other quotes": "' onfocus='alert(1)' autofocus x='",
    "back quotes": "`-alert(1)-`${alert(1)}",
    "a comment": "<!-- <script>",
    "the end of a comment": "--> <b>",
    "a section": "]]><script>alert(1)</script>",
    "an entity": "&lt;script&gt;&#x3c;b&#x3e;&amp;",
    "an address": "javascript:alert(1)",
    "a template": "{{constructor.constructor('alert(1)')()}}",
    "a Python format": "{policy}{0}%s%(x)s",
    "the end of a JSON text": '","host":"page","x":"',
    "a backslash": "\\\\u003cscript\\",
    "line separators": "a\u2028alert(1)\u2029b",
    "control characters": "a\x00b\x01\x07\x08\x7f\x9bc",
    "new lines": "a\r\nSet-Cookie: x=1\n\n<b>",
    "a red terminal": "\x1b[31m\x1b]0;title\x07\x1b[2J",
    "the other way round": "\u202egnp.exe\u202d\u2066",
    "invisible letters": "a\u200b\u200c\ufeff\u00adb",
    "surrogates": "\udfff\ud800x\udc00",
    "very long": "<b>" * 100_000,
    "empty": "",
    "letters of the world": "слой 层 レイヤー طبقة 🧠",
    "a prototype": "__proto__",
}
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def test_there_are_thirty():
    assert len(NAMES) == 30


def named(name: str) -> Walk:
    """A walk in which everything that can have a name has this one."""
    y = np.arange(8.0).reshape(2, 2, 2)
    step = Step(name=name, kind=name, shape=(1, 2, 2, 2), y=y, dy=y)
    values = {"labels": None, "values": [1, 2], "chosen": [1], "value": 2, "shape": [2]}
    return Walk(name, [step], None, values)


SHAPE_OF_A_WALK = shape_of(elements(page.html(walk=named("plain").json())))


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_adds_no_element(kind):
    name = NAMES[kind]
    text = page.html(
        walk=named(name).json(),
        title=name,
        recorded={"machine": name, "date": name},
        times={name.encode("utf-8", "replace").decode(): 1.0},
    )
    parser = elements(text)
    assert shape_of(parser) == SHAPE_OF_A_WALK
    assert "alert" not in "".join(str(a) for _, a in parser.found)
    data = next(part for part in parser.inside if part.startswith("{"))
    assert not set(data) & set("<>&\u2028\u2029")
    assert data_of(text)["recorded"]["machine"] == name
    assert len(data_of(text)["walk"]["layers"][0]["name"]) <= 200
    assert not STEERING.search(data_of(text)["walk"]["layers"][0]["name"])
    text.encode()  # a surrogate alone has no bytes


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_steers_no_terminal(kind, capfd, monkeypatch):
    """What Python prints of a model: the repr, and the line of the local page."""
    shown = Explorer(walk=named(NAMES[kind]), title=NAMES[kind])
    assert not STEERING.search(repr(shown))
    assert len(repr(shown)) < 200
    monkeypatch.setattr("npconv.explorer.server.LocalServer.run", lambda self: self.server_close())
    shown.serve(open_browser=False)
    told = capfd.readouterr().err
    assert not STEERING.search(told)
    assert told.splitlines()[-1] == "Ctrl-C ends it."


def test_labels_are_cut_and_plain():
    model = nn.Sequential(nn.Conv(1, 2, 3, rng=0), nn.GlobalAvgPool())
    walk = walk_layers(model, np.ones((1, 1, 4, 4), np.float32), labels=[NAMES["a red terminal"], "x" * 1000])
    first, second = walk.json()["output"]["labels"]
    assert not STEERING.search(first)
    assert len(second) == 80


# --------------------------------------------------------------------------- problems, there and back
DRAWN = [
    ("conv", {"stride": 2, "padding": "same"}),
    ("conv", {"padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 2}),
    ("conv", {"padding": 2, "padding_mode": "constant", "padding_value": -np.inf, "flip": True}),
    ("conv", {"padding": "full", "padding_mode": "circular"}),
    ("conv_transpose", {"stride": (2, 3), "padding": 1, "output_padding": (1, 2), "groups": 2}),
    ("conv_transpose", {"padding": "same", "stride": 2, "dilation": 2}),
    ("max_pool", {"kernel": (2, 3), "stride": 1, "padding": 1, "ceil_mode": True}),
    ("avg_pool", {"kernel": (3, 3), "padding": "same_lower", "count_include_pad": False}),
]


@pytest.mark.parametrize(("operator", "options"), DRAWN)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_problem_comes_back_as_it_went(operator, options, dtype):
    x = RNG.standard_normal((4, 8, 9)).astype(dtype)
    w = {"conv": (4, 4, 3, 2), "conv_transpose": (4, 3, 3, 2)}.get(operator)
    if w is not None:
        groups = options.get("groups", 1)
        w = RNG.standard_normal((w[0], w[1] // groups if operator == "conv" else w[1], *w[2:])).astype(dtype)
    given = problem(x, w, operator=operator, **options)
    back = read_problem(json.loads(json.dumps(problem_json(given), allow_nan=False)))
    assert back.options == given.options
    np.testing.assert_array_equal(back.x.astype(dtype), given.x)
    direct = getattr(npconv, operator)(*((x,) if w is None else (x, w)), **options)
    np.testing.assert_array_equal(given(), direct)
    assert given.y_shape == direct.shape
    np.testing.assert_allclose(back.astype(dtype)(), direct)


def test_bare_planes_and_signals():
    assert problem(np.ones(5), np.ones(3)).x.shape == (1, 5)
    assert problem(np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3))).x.shape == (2, 5, 5)
    assert problem([1, 2, 3], operator="max_pool", kernel=2).y_shape == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (np.ones((1, 65, 8)), np.ones((3, 3))),
            {},
            r"the explorer draws at most 64 along an axis; use x\[:, :64, :64\]",
        ),
        ((np.ones((2, 1, 8, 8)), np.ones((3, 3))), {}, r"one image of the batch is x\[0\]"),
        ((np.ones((1, 4, 4, 4)), np.ones((1, 1, 2, 2, 2))), {}, "one or two spatial axes"),
        ((np.ones((65, 3, 3)), np.ones((1, 65, 3, 3))), {}, "more than 64 channels"),
        ((np.ones((4, 4)), np.ones((5, 5))), {}, "the kernel of w does not fit x"),
        ((np.ones((4, 4)), np.ones((2, 2))), {"padding": 65}, "a stride, dilation or padding is 65"),
        ((np.ones((4, 4)) * 1j, np.ones((2, 2))), {}, "complex"),
        ((np.ones((4, 4)), np.ones((2, 2))), {"strides": 2}, "conv has no keyword 'strides'"),
        ((np.ones((4, 4)),), {}, "conv takes x and weights w"),
        ((np.ones((4, 4)), np.ones((2, 2))), {"operator": "max_pool", "kernel": 2}, "max_pool takes x and kernel="),
        ((np.ones((4, 4)),), {"operator": "max_pool"}, "needs kernel="),
        ((np.ones((4, 4)), np.ones((2, 2))), {"operator": "correlate"}, "operator"),
    ],
)
def test_what_the_explorer_does_not_draw(arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        npconv.explore(*arguments, **options)


def test_json_that_is_no_problem_is_one_kind_of_error():
    with pytest.raises(ProblemError, match="expected an object"):
        read_problem([])
    given = problem_json(problem(np.ones((5, 5)), np.ones((3, 3))))
    given["x"]["data"].pop()
    with pytest.raises(ProblemError, match="x has 24 numbers, its shape 25"):
        read_problem(given)


# --------------------------------------------------------------------------- notebooks
def test_a_widget_is_the_page_in_a_notebook():
    pytest.importorskip("anywidget", reason="the widget needs the extra `widget`")
    shown = npconv.explore(np.arange(16.0).reshape(4, 4), np.ones((3, 3)))
    widget = shown.widget()
    assert (widget._esm, widget._css) == (bundle.module(), bundle.style())
    assert widget.host == "widget"
    assert widget.problem == problem_json(shown.problem)
    sent = []
    widget.send = lambda content, buffers=None: sent.append(content)
    for question in (
        {"type": "time", "id": 5, "problem": widget.problem},
        {"type": "time", "id": 6, "problem": None},
        {"type": "layer", "id": 7, "layer": 0},
        {"type": "html", "id": 8, "problem": widget.problem},
        "no question",
    ):
        widget._handle_custom_msg(question, [])
    assert [(each["type"], each["id"]) for each in sent] == [("times", 5), ("times", 6), ("layer", 7), ("html", 8)]
    assert set(sent[0]["times"]) == {"loops", "direct", "gemm", "fft", "winograd"}
    assert "expected an object" in sent[1]["error"]
    assert sent[2]["error"]
    assert data_of(sent[3]["html"])["problem"] == widget.problem
    assert "application/vnd.jupyter.widget-view+json" in shown._repr_mimebundle_()[0]


def test_without_anywidget_the_extra_is_named(monkeypatch):
    from npconv.explorer import widget

    widget._kind.cache_clear()
    monkeypatch.setitem(sys.modules, "anywidget", None)
    shown = npconv.explore()
    with pytest.raises(ImportError, match=r'pip install "npconv\[widget\]"'):
        shown.widget()
    assert 'npconv[widget]"' in shown._repr_mimebundle_()["text/plain"]
    widget._kind.cache_clear()


def test_explore_needs_numpy_alone():
    code = "import sys; import npconv; npconv.explore([[1.0] * 5] * 5, [[1.0] * 3] * 3).html(); "
    code += "print([n for n in ('anywidget', 'click', 'matplotlib', 'onnx', 'PIL', 'tqdm') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
