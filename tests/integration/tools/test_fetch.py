"""`fetch_url` against real servers on this machine, with a resolver of our own where names matter."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from gemflowd.handlers.errors import HandlerError, Permanent, Transient
from gemflowd.handlers.tool import fetch as fetching
from gemflowd.handlers.tool.addresses import refusal
from gemflowd.handlers.tool.fetch import fetch_url, resolve
from tests.helpers.contexts import make_context

ALLOWED = {"tool_allow_private_addresses": True, "tool_max_file_mb": 1}


class Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, dict[str, str], bytes]] = []  # noqa: RUF012 - of one server, cleared by the fixture

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path, dict(self.headers), body))
        path, _, query = self.path.partition("?")
        if path == "/redirect":
            self.answer(int(self.headers.get("X-Status", "302")), {"Location": unquote(query)})
        elif path == "/loop":
            self.answer(301, {"Location": "/loop"})
        elif path == "/status":
            self.answer(int(query))
        elif path == "/large":
            self.answer(200, {}, b"x" * (2 * 1024 * 1024))
        elif path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        elif path == "/to-the-end":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"until it is closed")
            self.close_connection = True
        elif path == "/latin":
            self.answer(200, {"Content-Type": "text/plain; charset=ISO-8859-1"}, b"\xfc")
        elif path == "/odd":
            self.answer(200, {"Content-Type": "text/plain; charset=punycode"}, b"a-" * 10)
        elif path == "/short":
            self.answer(200, {"Content-Length": "10"}, b"abc")
            self.close_connection = True
        else:
            self.answer(200, {"Content-Type": "text/plain", "Set-Cookie": "a=b"}, "grüße".encode())

    do_POST = do_HEAD = do_GET  # noqa: N815 - as the library calls them

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Pages.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def fetch(url: str, settings: dict[str, Any] | None = None, resolver: Any = resolve, **data: Any) -> dict[str, Any]:
    context, _ = make_context("tool", settings=ALLOWED if settings is None else settings)
    return fetch_url({"url": url, **data}, context, resolver)


def code_of(action: Callable[[], object], kind: type[HandlerError] = Permanent) -> str:
    with pytest.raises(kind) as caught:
        action()
    return caught.value.code


def test_a_page(server: str) -> None:
    assert fetch(f"{server}/page?q=ü#part") == {
        "status": 200,
        "url": f"{server}/page?q=ü#part",
        "headers": {"content-type": "text/plain", "content-length": "7"},
        "text": "grüße",
    }
    method, path, headers, _ = Pages.asked[0]
    assert (method, path, headers["Host"]) == ("GET", "/page?q=%C3%BC", server.removeprefix("http://"))


def test_bodies_and_texts(server: str) -> None:
    assert fetch(f"{server}/chunked")["text"] == "abcde"
    assert fetch(f"{server}/to-the-end")["text"] == "until it is closed"
    assert fetch(f"{server}/latin")["text"] == "ü"
    assert fetch(f"{server}/odd")["bytes"] == b"a-" * 10
    fetch(f"{server}/", body={"a": 1}, headers={"X-Mine": "1"})
    method, _, headers, body = Pages.asked[-1]
    assert (method, headers["Content-Type"], headers["X-Mine"], body) == ("POST", "application/json", "1", b'{"a": 1}')
    assert fetch(f"{server}/", method="HEAD")["text"] == ""


def test_limits(server: str) -> None:
    assert code_of(lambda: fetch(f"{server}/large")) == "too_large"
    cut = fetch(f"{server}/large", max_bytes=1000)
    assert (len(cut["text"]), cut["truncated"]) == (1000, True)
    assert fetch(f"{server}/", max_bytes=3)["text"] == "gr"  # the third byte is half a character
    assert code_of(lambda: fetch(f"{server}/short"), Transient) == "fetch_failed"


def test_statuses(server: str) -> None:
    assert code_of(lambda: fetch(f"{server}/status?404")) == "http_status"
    for status in ("408", "429", "500", "503"):
        assert code_of(partial(fetch, f"{server}/status?{status}"), Transient) == "http_status"
    assert fetch(f"{server}/status?404", any_status=True)["status"] == 404
    assert fetch(f"{server}/status?204")["text"] == ""


def test_redirects(server: str) -> None:
    assert fetch(f"{server}/redirect?/page")["url"] == f"{server}/page"
    assert code_of(lambda: fetch(f"{server}/loop")) == "too_many_redirects"
    assert len(Pages.asked) == 2 + 6
    fetch(f"{server}/redirect?/page", body="x", headers={"X-Status": "307"})
    assert (Pages.asked[-1][0], Pages.asked[-1][3]) == ("POST", b"x")
    fetch(f"{server}/redirect?/page", body="x", headers={"X-Status": "303"})
    assert (Pages.asked[-1][0], Pages.asked[-1][3]) == ("GET", b"")
    for place in ("ftp://x/", "file:///etc/passwd", "gopher://127.0.0.1/"):
        assert code_of(partial(fetch, f"{server}/redirect?{place}")) == "bad_url"
    assert code_of(lambda: fetch(f"{server}/redirect?http://[x/")) == "bad_url"


def test_another_server_gets_no_headers_that_were_for_the_first(server: str) -> None:
    other = server.replace("127.0.0.1", "localhost")
    fetch(f"{server}/redirect?/page", headers={"Authorization": "Bearer x"})
    assert Pages.asked[-1][2]["Authorization"] == "Bearer x"
    fetch(f"{server}/redirect?{other}/page", headers={"Authorization": "Bearer x"})
    assert Pages.asked[-1][1] == "/page"
    assert "Authorization" not in Pages.asked[-1][2]


def test_another_server_gets_no_body(server: str) -> None:
    other = server.replace("127.0.0.1", "localhost")
    posted = {"body": "for the first", "headers": {"X-Status": "307"}}
    assert code_of(lambda: fetch(f"{server}/redirect?{other}/page", **posted)) == "refused_redirect"
    assert [path.partition("?")[0] for _, path, _, _ in Pages.asked] == ["/redirect"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate with")
def test_tls_is_for_the_name_and_not_for_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=secure.test"]
    made += ["-addext", "subjectAltName=DNS:secure.test", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            here, port = answering("127.0.0.1"), found.server_port
            assert (
                code_of(lambda: fetch(f"https://secure.test:{port}/page", resolver=here), Transient) == "fetch_failed"
            )
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert fetch(f"https://secure.test:{port}/page", resolver=here)["text"] == "grüße"
            assert code_of(lambda: fetch(f"https://other.test:{port}/page", resolver=here), Transient) == "fetch_failed"
        finally:
            found.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "", "page", "//127.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http:///x", "http://a:b@127.0.0.1/",
        "http://127.0.0.1:0/", "http://127.0.0.1:99999/", "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y", "http://[::1/",
        f"http://{'ü' * 100}.test/", "http://127.0.0.1/\ud800",
    ],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    assert code_of(lambda: fetch(url)) == "bad_url"


def test_headers_that_can_not_be_set(server: str) -> None:
    for headers in (
        {"Host": "x"},
        {"content-length": "1"},
        {"Proxy-X": "1"},
        {"A": "b\r\nC: d"},
        {"A b": "c"},
        {"A": "ü€"},
    ):
        assert code_of(partial(fetch, server, headers=headers)) == "bad_arguments"
    assert code_of(lambda: fetch(server, method="GET", body="x")) == "bad_arguments"
    assert Pages.asked == []


# --- where nobody is to be asked ---


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "0.0.0.0", "0", "127.1", "2130706433", "0x7f000001", "017700000001", "[::ffff:127.0.0.1]",
        "169.254.169.254", "10.0.0.1", "[fe80::1]", "[64:ff9b::7f00:1]",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(server: str, host: str) -> None:
    port = server.rpartition(":")[2]
    assert code_of(lambda: fetch(f"http://{host}:{port}/", {})) == "refused_address"
    assert Pages.asked == []


def answering(*addresses: str) -> Any:
    """A resolver that knows one answer."""

    def resolver(host: str, port: int) -> list[tuple[Any, ...]]:
        return [found for address in addresses for found in resolve(address, port)]

    return resolver


def test_names_that_mean_this_machine_are_refused(server: str) -> None:
    port = server.rpartition(":")[2]
    for addresses in (["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]):
        assert code_of(partial(fetch, f"http://public.test:{port}/", {}, answering(*addresses))) == "refused_address"
    assert Pages.asked == []


@pytest.fixture
def only_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 stands for a server of the Internet; every other address is what it is."""
    monkeypatch.setattr(fetching, "refusal", lambda address: None if address == "127.0.0.1" else refusal(address))


@pytest.mark.usefixtures("only_this_one")
def test_redirects_to_what_is_refused(server: str) -> None:
    port = server.rpartition(":")[2]
    assert fetch(f"{server}/redirect?/page", {})["status"] == 200
    for host in ("127.0.0.2", "[::1]", "2130706434", "169.254.169.254"):
        assert code_of(partial(fetch, f"{server}/redirect?http://{host}:{port}/page", {})) == "refused_address"
    assert [path for _, path, _, _ in Pages.asked].count("/page") == 1


@pytest.mark.usefixtures("only_this_one")
def test_a_name_is_resolved_once(server: str) -> None:
    """Who would be asked a second time could say something else: the connection goes to what was looked at."""
    port = server.rpartition(":")[2]
    said = ["127.0.0.1", "127.0.0.2"]
    answers = iter(said)
    found = fetch(f"http://rebinding.test:{port}/page", {}, lambda host, port: resolve(next(answers), port))
    assert found["text"] == "grüße"
    assert Pages.asked[-1][2]["Host"] == f"rebinding.test:{port}"
    assert list(answers) == said[1:]


def test_proxies_are_not_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(f"{server}/page")["status"] == 200


# --- servers that misbehave ---


def unknown(host: str, port: int) -> list[tuple[Any, ...]]:
    raise socket.gaierror(-2, "Name or service not known")


def test_who_does_not_answer() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        assert code_of(lambda: fetch(url), Transient) == "fetch_failed"
        nobody.listen()
        assert code_of(lambda: fetch(url, timeout=0.2), Transient) == "timed_out"
        assert code_of(lambda: fetch(url.replace("http", "https"), timeout=0.2), Transient) == "timed_out"
    assert code_of(lambda: fetch("http://nowhere.test/", resolver=unknown), Transient) == "unknown_host"


@pytest.mark.parametrize("front", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_dribbling_does_not_prolong_it(front: bytes) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        done = threading.Event()

        def dribble() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.sendall(front)
                while not done.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            assert code_of(lambda: fetch(url, timeout=0.4), Transient) == "timed_out"
        finally:
            done.set()
            thread.join()


def test_what_is_no_http() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-nothing\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert code_of(lambda: fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/"), Transient) == "fetch_failed"
        thread.join()
