"""The explorer's local page: what other pages, other machines and broken programs may try, by raw sockets."""

import json
import signal
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
import pytest

from npconv.explorer import Explorer, server, timing
from npconv.explorer.problem import problem
from npconv.explorer.server import MOST_BYTES, MOST_CONNECTIONS, LocalServer
from npconv.explorer.wire import problem_json

PAGE = "<!doctype html><title>a page</title>"
SMALL = problem_json(problem(np.arange(25.0).reshape(5, 5), np.ones((3, 3))))


@pytest.fixture(scope="module")
def local() -> Iterator[LocalServer]:
    made = LocalServer(PAGE, "default-src 'none'", Explorer().answer)
    made.start()
    yield made
    made.close()


def sent(local: LocalServer, data: bytes, wait: float = 10.0) -> bytes:
    """What comes back for these bytes, all of it."""
    with socket.create_connection(local.server_address, timeout=wait) as connection:
        connection.sendall(data)
        found = b""
        while chunk := connection.recv(1 << 16):
            found += chunk
        return found


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.0 "), answer[:80]
    return int(answer.split()[1])


def request(
    local: LocalServer,
    method: str = "POST",
    path: str | None = None,
    body: bytes = b"",
    version: str = "HTTP/1.1",
    **changed: str | list[str] | None,
) -> bytes:
    """A request as the page sends it, with some headers changed; None leaves one out, a list repeats it."""
    headers: dict[str, str | list[str] | None] = {"Host": local.names[0]}
    if method != "GET":
        headers |= {
            "Origin": local.origins[0],
            "Sec-Fetch-Site": "same-origin",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{method} {f'/{local.token}/time' if path is None else path} {version}"]
    for name, value in headers.items():
        if value is not None:
            lines += [f"{name}: {one}" for one in (value if isinstance(value, list) else [value])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def asked(question: object) -> bytes:
    return json.dumps(question).encode()


def alive(local: LocalServer) -> bool:
    return status(sent(local, request(local, "GET", f"/{local.token}/"))) == 200


# --------------------------------------------------------------------------- what works
def test_the_page(local):
    answer = sent(local, request(local, "GET", f"/{local.token}/"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status(answer) == 200
    assert body.decode() == PAGE
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    expected = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
        "Content-Type": "text/html; charset=utf-8",
        "Server": "npconv",
    }
    assert {name: headers.get(name) for name in expected} == expected
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_by_the_name_localhost(local):
    host = f"localhost:{local.server_port}"
    assert status(sent(local, request(local, "GET", f"/{local.token}/", Host=host))) == 200
    body = asked({"problem": SMALL})
    assert status(sent(local, request(local, body=body, Host=host, Origin=f"http://{host}"))) == 200


def test_times(local):
    answer = sent(local, request(local, body=asked({"problem": SMALL, "id": 1})))
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert status(answer) == 200
    assert set(found["times"]) == {"loops", "direct", "gemm", "fft", "winograd"}
    assert all(0 < seconds < 1 for seconds in found["times"].values())


def test_the_page_as_a_file(local):
    body = asked({"problem": SMALL, "shown": {"view": "</script>"}})
    answer = sent(local, request(local, path=f"/{local.token}/html", body=body))
    found = json.loads(answer.partition(b"\r\n\r\n")[2])["html"]
    assert status(answer) == 200
    assert "connect-src 'none'" in found or "connect-src &#x27;none&#x27;" in found
    assert local.token not in found
    assert found.lower().count("</script") == 2


def test_the_token_is_new_and_long():
    tokens = set()
    for _ in range(3):
        made = LocalServer(PAGE, "", Explorer().answer)
        tokens.add(made.token)
        made.close()
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 43


# --------------------------------------------------------------------------- attacks that are refused before they are read
HEADERS = {
    "host missing": (400, {"Host": None}),
    "host empty": (403, {"Host": ""}),
    "host twice": (400, {"Host": ["{host}", "{host}"]}),
    "host twice, one foreign": (400, {"Host": ["{host}", "evil.example"]}),
    "host foreign": (403, {"Host": "evil.example"}),
    "host rebound": (403, {"Host": "evil.example:{port}"}),
    "host that begins right": (403, {"Host": "127.0.0.1.evil.example:{port}"}),
    "host without port": (403, {"Host": "127.0.0.1"}),
    "host with another port": (403, {"Host": "127.0.0.1:80"}),
    "host with a user": (403, {"Host": "evil.example@127.0.0.1:{port}"}),
    "host with a port after a port": (403, {"Host": "127.0.0.1:{port}:80"}),
    "host in other figures": (403, {"Host": "0x7f.1:{port}"}),
    "host of IPv6": (403, {"Host": "[::1]:{port}"}),
    "host that means any": (403, {"Host": "0.0.0.0:{port}"}),
    "origin foreign": (403, {"Origin": "http://evil.example"}),
    "origin null": (403, {"Origin": "null"}),
    "origin missing": (403, {"Origin": None}),
    "origin twice": (403, {"Origin": ["{origin}", "{origin}"]}),
    "origin of another port": (403, {"Origin": "http://127.0.0.1:1"}),
    "origin of another scheme": (403, {"Origin": "https://127.0.0.1:{port}"}),
    "origin with a path": (403, {"Origin": "{origin}/"}),
    "from another site": (403, {"Sec_Fetch_Site": "cross-site"}),
    "from the same site": (403, {"Sec_Fetch_Site": "same-site"}),
    "typed by hand": (403, {"Sec_Fetch_Site": "none"}),
    "a form": (415, {"Content_Type": "application/x-www-form-urlencoded"}),
    "plain text": (415, {"Content_Type": "text/plain"}),
    "no type": (415, {"Content_Type": None}),
    "no length": (411, {"Content_Length": None}),
    "length twice": (400, {"Content_Length": ["{length}", "{length}"]}),
    "length negative": (400, {"Content_Length": "-1"}),
    "length with a sign": (400, {"Content_Length": "+{length}"}),
    "length no number": (400, {"Content_Length": "two"}),
    "length as a float": (400, {"Content_Length": "{length}.0"}),
    "length over the limit": (413, {"Content_Length": str(MOST_BYTES + 1)}),
    "length of 40 figures": (413, {"Content_Length": "9" * 40}),
    "in chunks": (411, {"Content_Length": None, "Transfer_Encoding": "chunked"}),
    "in chunks, with a length": (400, {"Transfer_Encoding": "chunked"}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers(local, name):
    code, changed = HEADERS[name]
    known = {"host": local.names[0], "port": local.server_port, "origin": local.origins[0]}

    def filled(value):
        if isinstance(value, list):
            return [one.format(**known) for one in value]
        return value if value is None else value.format(**known)

    body = asked({"problem": SMALL})  # which would be answered
    known["length"] = len(body)
    data = request(local, body=body, **{key: filled(value) for key, value in changed.items()})
    assert status(sent(local, data)) == code
    assert alive(local)


PATHS = {
    "no token": "/",
    "no token, a name": "/time",
    "empty token": "//time",
    "wrong token": "/" + "A" * 43 + "/time",
    "first half of the token": "/{half}/time",
    "token and more": "/{token}x/time",
    "long token": "/" + "A" * 20_000 + "/time",
    "token in capitals": "/{upper}/time",
    "token with a zero": "/{token}%00/time",
    "another name": "/{token}/other",
    "a query": "/{token}/time?x=1",
    "a parameter": "/{token}/time;x",
    "up": "/{token}/../etc/passwd",
    "up, encoded": "/{token}/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "up, encoded twice": "/{token}/%252e%252e%252fetc%252fpasswd",
    "up, the other way": "/{token}/..\\..\\windows\\win.ini",
    "up, overlong UTF-8": "/{token}/%c0%ae%c0%ae/etc/passwd",
    "up before the token": "/x/../{token}/time",
    "a drive": "/{token}/C:/windows/win.ini",
    "a file URL": "file:///etc/passwd",
    "absolute": "http://{host}/{token}/time",
    "absolute, elsewhere": "http://evil.example/",
    "an authority": "evil.example:443",
    "a star": "*",
    "two slashes": "//{token}/time",
    "something before the token": "x/{token}/time",
    "letters beyond ASCII": "/\xe9\xff/time",
    "a page asked by POST": "/{token}/",
}


@pytest.mark.parametrize("name", PATHS)
def test_paths(local, name):
    token = local.token
    path = PATHS[name].format(token=token, half=token[:20], upper=token.upper(), host=local.names[0])
    answer = sent(local, request(local, path=path, body=asked({"problem": SMALL})))
    assert status(answer) == 404
    assert b"root:" not in answer
    assert token.encode() not in answer
    assert alive(local)


@pytest.mark.parametrize("path", ["/{token}/time", "/{token}", "/{token}/x", "/favicon.ico", "/{token}//"])
def test_paths_of_get(local, path):
    assert status(sent(local, request(local, "GET", path.format(token=local.token)))) == 404


@pytest.mark.parametrize(
    "method", ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "PROPFIND", "get", "X"]
)
def test_methods(local, method):
    assert status(sent(local, request(local, method, f"/{local.token}/"))) == 405
    assert alive(local)


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "a number": b"1e999",
    "NaN": b'{"problem": NaN}',
    "Infinity": b'{"problem": -Infinity}',
    "no UTF-8": b'{"problem": "\xff"}',
    "UTF-16": '{"problem": 1}'.encode("utf-16"),
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "a number of 10000 figures": b'{"problem": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_question(local, name):
    answer = sent(local, request(local, body=BODIES[name]))
    assert status(answer) == 400
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "malformed request"}
    assert alive(local)


def changed(**values):
    return {**SMALL, **values}


PROBLEMS = {
    "none": None,
    "a list": [],
    "no operator": changed(operator=None),
    "an operator of Python": changed(operator="__class__"),
    "a file": changed(operator="/etc/passwd"),
    "no input": changed(x=None),
    "a vast shape": changed(x={"shape": [1, 2**40, 2**40], "data": [1]}),
    "a shape beyond 64 bits": changed(x={"shape": [1, 10**30, 1], "data": [1]}),
    "a shape that wraps": changed(x={"shape": [2**32, 2**32, 0], "data": []}),
    "a negative shape": changed(x={"shape": [1, -5, -5], "data": [1] * 25}),
    "a shape of floats": changed(x={"shape": [1, 5.0, 5.0], "data": [1] * 25}),
    "a shape of booleans": changed(x={"shape": [True, 5, 5], "data": [1] * 25}),
    "too few numbers": changed(x={"shape": [1, 5, 5], "data": [1] * 24}),
    "a text as a number": changed(x={"shape": [1, 5, 5], "data": ["1"] * 25}),
    "a list as a number": changed(x={"shape": [1, 5, 5], "data": [[]] * 25}),
    "a number beyond floats": changed(x={"shape": [1, 5, 5], "data": [10**400] * 25}),
    "five axes": changed(x={"shape": [1, 1, 1, 5, 5], "data": [1] * 25}),
    "a vast stride": changed(stride=[10**9, 1]),
    "no stride": changed(stride=[0, 1]),
    "a vast padding": changed(padding=[[10**9, 0], [0, 0]]),
    "a padding of another name": changed(padding="../../etc"),
    "a vast dilation": changed(dilation=[64, 65]),
    "groups of zero": changed(groups=0),
    "a mode that is a list": changed(paddingMode=[]),
    "another mode": changed(paddingMode="x" * 5000),
    "a kernel larger than the input": changed(w={"shape": [1, 1, 9, 9], "data": [1] * 81}),
    "weights of other channels": changed(w={"shape": [1, 3, 1, 1], "data": [1] * 3}),
    "a bias of another size": changed(bias={"shape": [7], "data": [1] * 7}),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_that_are_none(local, name):
    started = time.perf_counter()
    answer = sent(local, request(local, body=asked({"problem": PROBLEMS[name]})))
    assert status(answer) == 400
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert "Traceback" not in error
    assert "/src/" not in error
    assert len(error) <= 1000
    assert time.perf_counter() - started < 5
    assert alive(local)


def test_work_is_bounded():
    """The largest problem that is let through."""
    x = np.ones((4, 64, 64))
    with pytest.raises(ValueError, match="multiplications"):
        problem(x, np.ones((16, 4, 7, 7)), padding=32)
    largest = problem(x, np.ones((4, 4, 8, 8)), padding="same")
    timing.times(problem(np.ones((5, 5)), np.ones((3, 3))))  # what is loaded once
    started = time.perf_counter()
    assert set(timing.times(largest)) >= {"direct", "gemm"}
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize("layer", [0, -1, 10**9, "0", None, [0], "../../etc/passwd"])
def test_layers_that_are_none(local, layer):
    body = asked({"layer": layer})
    assert status(sent(local, request(local, path=f"/{local.token}/layer", body=body))) == 400


def test_an_error_inside_tells_nothing():
    def broken(question):
        raise RuntimeError("a secret path")

    made = LocalServer(PAGE, "", broken)
    made.start()
    answer = sent(made, request(made, body=b"{}"))
    assert status(answer) == 500
    assert b"secret" not in answer
    made.close()


# --------------------------------------------------------------------------- broken and slow programs
RAW = {
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/0.9, a token": (b"GET /{token}/\r\n\r\n", 505),
    "HTTP/2": (b"GET /{token}/ HTTP/2.0\r\nHost: {host}\r\n\r\n", 505),
    "no version": (b"GET /{token}/ HTTP/\r\nHost: {host}\r\n\r\n", 400),
    "one word": (b"GET\r\n\r\n", 400),
    "four words": (b"GET / x HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "bytes": (bytes(range(128, 256)) + b"\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "a long address": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    "200 headers": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
    "a long header": (b"GET / HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
    "a folded host": (b"GET /{token}/ HTTP/1.1\r\nHost: {host}\r\n evil.example\r\n\r\n", 403),
    "a host with a space": (b"GET /{token}/ HTTP/1.1\r\nHost : {host}\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", RAW)
def test_raw(local, name):
    data, code = RAW[name]
    data = data.replace(b"{token}", local.token.encode()).replace(b"{host}", local.names[0].encode())
    assert status(sent(local, data)) == code
    assert alive(local)


def test_a_body_over_the_limit_is_not_read(local):
    body = b"x" * (14 * MOST_BYTES)
    assert status(sent(local, request(local, body=body))) == 413
    assert alive(local)


def test_a_slow_body(local, monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS", 0.5)
    started = time.perf_counter()
    assert status(sent(local, request(local, body=b"{", Content_Length="2"))) == 408
    assert time.perf_counter() - started < 8
    assert alive(local)


def test_a_body_that_ends_early(local):
    with socket.create_connection(local.server_address, timeout=10) as connection:
        connection.sendall(request(local, body=b"{", Content_Length="2"))
        connection.shutdown(socket.SHUT_WR)
        assert status(connection.recv(1 << 16)) == 400
    assert alive(local)


def test_a_header_now_and_then(local, monkeypatch):
    """A byte before every timeout keeps no connection beyond the limit for all of it."""
    monkeypatch.setattr(server, "SECONDS", 1.0)
    started = time.perf_counter()
    with socket.create_connection(local.server_address, timeout=10) as connection:
        try:
            for letter in b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20:
                connection.sendall(bytes([letter]))
                time.sleep(0.1)
            ended = False
        except OSError:
            ended = True
    assert ended
    assert time.perf_counter() - started < 10
    assert alive(local)


def test_many_connections(local):
    """Beyond the limit the answer is 503, and when they are gone all is as before."""
    held = [socket.create_connection(local.server_address, timeout=10) for _ in range(MOST_CONNECTIONS)]
    try:
        time.sleep(0.3)
        answers = [sent(local, request(local, "GET", f"/{local.token}/")) for _ in range(3)]
        assert [status(answer) for answer in answers] == [503] * 3
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + 5
    while status(sent(local, request(local, "GET", f"/{local.token}/"))) == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_questions_wait_for_each_other(local):
    """Ten at once: none is lost, and the machine works at one of them at a time."""
    body, found = asked({"problem": SMALL}), []
    threads = [
        threading.Thread(target=lambda: found.append(status(sent(local, request(local, body=body))))) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 10
    assert set(found) <= {200, 503}
    assert 200 in found
    assert alive(local)


def test_bound_to_this_machine_alone(local):
    """Other addresses of this machine, where it has any, are refused by the system."""
    assert local.socket.getsockname()[0] == "127.0.0.1"
    assert local.socket.family == socket.AF_INET
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: asks which address of ours leads there
            others.add(probe.getsockname()[0])
        except OSError:
            pass
    for address in (*others, "127.0.0.2"):
        with pytest.raises(OSError):
            socket.create_connection((address, local.server_port), timeout=2).close()


def test_a_taken_port_is_an_error(local):
    with pytest.raises(OSError):
        LocalServer(PAGE, "", Explorer().answer, local.server_port)


def test_nothing_is_written(local, capfd):
    sent(local, request(local, "GET", f"/{local.token}/"))
    sent(local, request(local, "GET", "/" + quote("x\x1b[31m")))
    sent(local, b"\x1b[31m\r\n\r\n")
    assert capfd.readouterr() == ("", "")


# --------------------------------------------------------------------------- Ctrl-C
class CleanedUp(LocalServer):
    """Ctrl-C comes where an exception is lost: while Python forgets an object, as after every request."""

    left = 10

    def service_actions(self) -> None:
        assert self.left, "Ctrl-C was lost"
        self.left -= 1
        forgotten = threading.Lock()
        watched = weakref.ref(forgotten, lambda _: signal.raise_signal(signal.SIGINT))
        del forgotten
        assert watched() is None
        super().service_actions()


def test_ctrl_c_is_not_lost():
    before = signal.getsignal(signal.SIGINT)
    with CleanedUp(PAGE, "", Explorer().answer) as local:
        local.run()
    assert local.left == 9
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_is_left_to_who_wants_it():
    """A program that has its own handler keeps it."""
    calls: list[int] = []

    def own(number: int, frame: object) -> None:
        calls.append(number)
        raise KeyboardInterrupt

    class Interrupted(LocalServer):
        def service_actions(self) -> None:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("nobody was asked")

    before = signal.signal(signal.SIGINT, own)
    try:
        with Interrupted(PAGE, "", Explorer().answer) as local:
            local.run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [signal.SIGINT]
