"""The explorer as a page of this machine: 127.0.0.1 only, behind an address that nobody can guess.

Every web page that the reader has open can make the browser send requests here. So a request counts only if it names
this host and port, has the token of this run and, unless it only reads, comes from this page; no file is ever named in
a request, and nothing that is sent can make the server work long.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Answer = Callable[[dict[str, Any]], dict[str, Any]]

#: What one request may send, and how long it may take to arrive, and to be done.
MOST_BYTES, BODY_SECONDS, SECONDS = 256 * 1024, 5.0, 15.0
#: Connections at once; beyond them the answer is 503.
MOST_CONNECTIONS = 16
#: What is read of a refused request, so that its sender gets to read the answer.
MOST_DRAINED, DRAIN_SECONDS = 1 << 22, 0.5

_REASONS = {
    400: "malformed request",
    403: "not from this page",
    404: "nothing here",
    405: "only GET and POST",
    408: "too slow",
    411: "Content-Length is missing",
    413: f"more than {MOST_BYTES} bytes",
    414: "the address is too long",
    415: "expected application/json",
    431: "too many or too long headers",
    500: "npconv failed",
    503: "busy",
    505: "expected HTTP/1.0 or 1.1",
}


class LocalServer(ThreadingHTTPServer):
    """Serves one page and answers its questions until it is closed.

    Parameters
    ----------
    page : str
        The HTML.
    policy : str
        Its Content-Security-Policy, sent as a header too.
    answer : function
        Called with a question of the page, a dict whose "type" is "time", "layer" or "html"; what it returns is sent as JSON,
        and a ValueError that it raises as an error message.
    port : int
        0 for a free one.

    Attributes
    ----------
    url : str
        The page's address, with the token.

    Raises
    ------
    OSError
        If the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere another program could listen on the same port
    request_queue_size = 2 * MOST_CONNECTIONS

    def __init__(self, page: str, policy: str, answer: Answer, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        port = self.server_address[1]
        self.page, self.policy, self.answer = page.encode(), f"{policy}; frame-ancestors 'none'", answer
        self.token = secrets.token_urlsafe(32)
        self.names = (f"127.0.0.1:{port}", f"localhost:{port}")
        self.origins = tuple(f"http://{name}" for name in self.names)
        self.url = f"{self.origins[0]}/{self.token}/"
        self.working = threading.Lock()
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        self._began: dict[socket.socket, float] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def server_bind(self) -> None:
        """As the base class, which also asks for this machine's name; that may take seconds and is of no use."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            request.settimeout(1)
            with suppress(OSError):
                request.sendall(b"HTTP/1.0 503 busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)
            return
        self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._began.pop(request, None)
            self._free.release()

    def service_actions(self) -> None:
        """Between requests: Ctrl-C, and the end of connections that take too long; a byte now and then keeps no place."""
        if self._stopped:
            raise KeyboardInterrupt
        late = time.monotonic() - SECONDS
        for request, began in list(self._began.items()):
            if began < late:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nobody's business."""

    def run(self) -> None:
        """Serve until Ctrl-C or `close`."""
        try:
            with self._remembered():
                self.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            self.server_close()

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        """Ctrl-C waits for the next turn: where Python cleans up after a request, the exception would be lost."""
        mine = threading.current_thread() is threading.main_thread()
        if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield  # it goes to another thread, or whoever called us has other plans for it
            return
        signal.signal(signal.SIGINT, self._stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _stop(self, number: int, frame: object) -> None:
        self._stopped = True

    def start(self) -> None:
        """Serve in a thread until `close`."""
        self._thread = threading.Thread(target=self.run, name="npconv explorer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the port back; ends what `start` began."""
        if self._thread is None:
            self.server_close()
            return
        self.shutdown()
        self._thread.join()

    def __exit__(self, *error: Any) -> None:
        self.close()


class _RefusedError(Exception):
    """A request that gets an error; the argument is its status."""


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer
    timeout = BODY_SECONDS
    default_request_version = "HTTP/1.0"  # so that even a line that is no request gets a status
    kinds: ClassVar = {"GET": ("",), "POST": ("time", "layer", "html")}
    refused = False
    kind = ""

    def version_string(self) -> str:
        return "npconv"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses have the token in them."""

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        try:
            self._check()
        except _RefusedError as error:
            self.send_error(error.args[0])
            return False
        return True

    def _check(self) -> None:
        """What every request must be, before anything of it is used."""
        parts = self.requestline.split()
        if len(parts) != 3 or self.request_version not in ("HTTP/1.0", "HTTP/1.1"):
            raise _RefusedError(505)
        if self.command not in ("GET", "POST"):
            raise _RefusedError(405)
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            raise _RefusedError(400)
        if hosts[0] not in self.server.names:  # another name that leads here is DNS rebinding
            raise _RefusedError(403)
        if self.command == "POST":
            self._check_origin()
        before, token, self.kind = parts[1].split("/") if parts[1].count("/") == 2 else ("?", "", "")
        right = secrets.compare_digest(token.encode("latin-1"), self.server.token.encode())
        if before or not right or self.kind not in self.kinds[self.command]:
            raise _RefusedError(404)

    def _check_origin(self) -> None:
        """Only this page may ask; the browser says where a question comes from."""
        if self.headers.get_all("Origin", []) not in [[origin] for origin in self.server.origins]:
            raise _RefusedError(403)
        if self.headers.get_all("Sec-Fetch-Site", ["same-origin"]) != ["same-origin"]:
            raise _RefusedError(403)
        if self.headers.get("Content-Type") != "application/json":  # others need no permission to cross origins
            raise _RefusedError(415)

    def do_GET(self) -> None:
        """The page."""
        self._send(200, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """An answer."""
        try:
            question = self._question()
            if not self.server.working.acquire(timeout=BODY_SECONDS):
                raise _RefusedError(503)
            try:
                answer = self.server.answer({**question, "type": self.kind})
            finally:
                self.server.working.release()
        except _RefusedError as error:
            self.send_error(error.args[0])
        except (ValueError, TypeError, MemoryError) as error:
            self._send_json(400, {"error": str(error)[:1000] or "too much memory"})
        except Exception:  # whatever it was, its words are for developers
            self.send_error(500)
        else:
            self._send_json(200, answer)

    def _question(self) -> dict[str, Any]:
        body = self._body()
        try:
            question = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise _RefusedError(400) from None
        if not isinstance(question, dict):
            raise _RefusedError(400)
        return question

    def _body(self) -> bytes:
        """The whole body, of the length that was announced."""
        lengths = self.headers.get_all("Content-Length", [])
        if not lengths:
            raise _RefusedError(411)
        if (
            len(lengths) > 1
            or "Transfer-Encoding" in self.headers
            or not (lengths[0].isascii() and lengths[0].isdigit())
        ):
            raise _RefusedError(400)
        if len(lengths[0]) > 9 or int(lengths[0]) > MOST_BYTES:
            raise _RefusedError(413)
        left, until, chunks = int(lengths[0]), time.monotonic() + BODY_SECONDS, []
        while left:
            self.connection.settimeout(max(0.01, until - time.monotonic()))
            try:
                chunk = self.rfile.read1(left)
            except TimeoutError:
                raise _RefusedError(408) from None
            if not chunk:
                raise _RefusedError(400)
            if time.monotonic() > until:
                raise _RefusedError(408)
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A status with a few fixed words; nothing of the request comes back."""
        self.refused = self.close_connection = True
        code = code if code in _REASONS else 400
        self._send_json(code, {"error": _REASONS[code]})

    def _send_json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value, allow_nan=False).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status, _REASONS.get(status))
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", self.server.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def finish(self) -> None:
        """Read on a little after a refusal: closing on unread bytes would reset the connection, answer and all."""
        super().finish()
        if not self.refused:
            return
        left, until = MOST_DRAINED, time.monotonic() + DRAIN_SECONDS
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (wait := until - time.monotonic()) > 0:
                self.connection.settimeout(wait)
                dropped = len(self.connection.recv(1 << 16))
                left -= dropped if dropped else left
        except OSError:
            pass


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
