"""Fetching a page, without being led to where a task has no business.

A name is resolved once, all its addresses are looked at, and the connection goes to one of those and to no other: a name that means
something else a moment later is of no use. Every redirect is looked at in the same way. Proxies of the environment are not asked,
because they would connect to what was not looked at. Covers HTTP/1.1 without cookies, caches and compression.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from gemflowd.handlers.contents import as_bytes, as_text_or_bytes
from gemflowd.handlers.errors import HandlerError, Permanent, Transient
from gemflowd.handlers.tool.addresses import refusal

if TYPE_CHECKING:
    from gemflowd.worker.context import Context

#: Name and port -> what getaddrinfo says.
Resolve = Callable[[str, int], list[tuple[Any, ...]]]

_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_DEFAULT_TIMEOUT: Final = 60.0
_DEFAULT_MAX_FILE_MB: Final = 16
_CHUNK: Final = 64 * 1024
_TOLD: Final = (
    "content-type",
    "content-length",
    "content-encoding",
    "etag",
    "last-modified",
    "location",
    "retry-after",
)
#: Of Python's codecs some are no charsets, and some take a time that grows with the square of the text.
_CHARSETS: Final = re.compile(
    r"us-ascii|iso-8859-\d{1,2}|latin-?1|(windows-|cp)125\d|utf-(16|32)(le|be)?|koi8-[ru]|big5|gb2312|gbk|gb18030|shift_jis|euc-(jp|kr)"
)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: What would say something else about the request than it is.
_OURS: Final = frozenset(
    {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
)


def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass(frozen=True, slots=True)
class _Request:
    url: str
    method: str
    headers: Mapping[str, str]
    body: bytes | None


def fetch_url(data: dict[str, Any], context: Context, resolve: Resolve = resolve) -> dict[str, Any]:
    """Fetch a URL: `{status, url, headers, text | bytes}`, with `truncated` if there was more than `max_bytes`.

    Args:
        data: `url`, `method`, `headers`, `body`, `max_bytes`, `timeout` in seconds, `any_status`.
        context: with the settings `tool_allow_private_addresses` and `tool_max_file_mb`.
        resolve: asks for the addresses of a name.

    Raises:
        Permanent: `bad_url`, `bad_arguments`, `refused_address`, `refused_redirect`, `too_many_redirects`, `too_large`, `http_status`
            (other than below).
        Transient: `unknown_host`, `fetch_failed`, `timed_out`, `http_status` for 408, 425, 429 and 5xx.
    """
    deadline = time.monotonic() + float(data.get("timeout", _DEFAULT_TIMEOUT))
    limit = int(float(context.settings.get("tool_max_file_mb") or _DEFAULT_MAX_FILE_MB) * 1024 * 1024)
    most = min(data["max_bytes"], limit) if "max_bytes" in data else None
    private = context.settings.get("tool_allow_private_addresses") is True
    request = _first(data)
    for _ in range(_MOST_REDIRECTS + 1):
        exchange = _Exchange(request, deadline, resolve, private=private)
        try:
            response = exchange.ask()
            place = response.headers.get("location")
            if response.status not in _REDIRECTS or not place:
                found = _answer(request, response, most, limit, deadline)
                return found if data.get("any_status") else _good(found, request)
            request = _redirected(request, response.status, place)
        finally:
            exchange.close()
    raise Permanent(f"more than {_MOST_REDIRECTS} redirects", code="too_many_redirects")


def _first(data: dict[str, Any]) -> _Request:
    headers = dict(data.get("headers", {}))
    for name in headers:
        if _NAME.fullmatch(name) is None or name.lower() in _OURS or name.lower().startswith("proxy-"):
            raise Permanent(f"the header {name!r} can't be set", code="bad_arguments")
    body = None
    if data.get("body") is not None:
        body = as_bytes(data["body"])
        if not any(name.lower() == "content-type" for name in headers):
            plain = isinstance(data["body"], str | bytes)
            headers["Content-Type"] = "application/octet-stream" if plain else "application/json"
    method = data.get("method", "GET" if body is None else "POST")
    if body is not None and method != "POST":
        raise Permanent(f"a {method} has no body", code="bad_arguments")
    return _Request(data["url"], method, headers, body)


def _redirected(request: _Request, status: int, place: str) -> _Request:
    """What to ask next. Another server learns nothing that was meant for the first."""
    try:
        url = urljoin(request.url, place)
    except ValueError:
        raise Permanent("the server redirects to what is no URL", code="bad_url") from None
    elsewhere = _origin(_split(url)) != _origin(_split(request.url))
    if elsewhere:
        request = replace(request, headers={})
    if status == 303 or (status in (301, 302) and request.method == "POST"):
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-type"}
        method = "HEAD" if request.method == "HEAD" else "GET"
        request = replace(request, method=method, body=None, headers=headers)
    if elsewhere and request.body is not None:
        raise Permanent("the server wants the body to be sent to another one", code="refused_redirect")
    return replace(request, url=url)


def _split(url: str) -> SplitResult:
    try:
        url.encode()  # half a surrogate pair is nothing that could be asked for
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Permanent("the URL can't be read", code="bad_url") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Permanent("a URL is http://… or https://…, with a host", code="bad_url")
    if parts.username is not None or parts.password is not None:
        raise Permanent("a URL with a user's name in it is not taken; use `headers`", code="bad_url")
    if port == 0 or any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise Permanent("the URL has something in it that none may have", code="bad_url")
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


class _Exchange:
    """One request and its response, over a connection of its own."""

    def __init__(self, request: _Request, deadline: float, resolve: Resolve, *, private: bool) -> None:
        self._request = request
        self._deadline = deadline
        self._resolve = resolve
        self._private = private
        self._connection: _Connection | None = None
        self._response: http.client.HTTPResponse | None = None

    def ask(self) -> http.client.HTTPResponse:
        parts = _split(self._request.url)
        host, port = _ascii(parts.hostname or ""), parts.port or _PORTS[parts.scheme]
        addresses = self._addresses(host, port)
        self._connection = _Connection(host, port, addresses, self._deadline, secure=parts.scheme == "https")
        path = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*-._")
        if parts.query:
            path += "?" + quote(parts.query, safe="/%:=&?~+!$,;'@()*-._")
        headers = {
            "User-Agent": "gemflow",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **self._request.headers,
        }
        try:
            self._connection.request(self._request.method, path, self._request.body, headers)
            self._response = self._connection.getresponse()
            return self._response
        except (OSError, http.client.HTTPException) as error:  # before the next: a certificate's error is both
            raise _failed(host, error) from error
        except ValueError as error:  # a header that is none
            raise Permanent(str(error), code="bad_arguments") from None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._connection is not None:
            self._connection.close()

    def _addresses(self, host: str, port: int) -> list[tuple[Any, ...]]:
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Transient(f"{host} has no address: {error}", code="unknown_host") from None
        if not self._private:
            for *_, address in found:
                if (why := refusal(address[0])) is not None:
                    message = (
                        f"{host} is not asked: its address {address[0]} {why} (setting tool_allow_private_addresses)"
                    )
                    raise Permanent(message, code="refused_address")
        return found


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise Permanent("the URL's host is no name", code="bad_url") from None


class _Connection(http.client.HTTPConnection):
    """Goes to one of the addresses given, whatever the name means by now."""

    def __init__(
        self, host: str, port: int, addresses: list[tuple[Any, ...]], deadline: float, *, secure: bool
    ) -> None:
        super().__init__(host, port)
        self.default_port = _PORTS["https" if secure else "http"]  # decides whether the port is in the Host header
        self._addresses = addresses
        self._deadline = deadline
        self._secure = secure

    def connect(self) -> None:
        plain = self._connected()
        try:
            if self._secure:
                plain = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        self.sock = _Timed(plain, self._deadline)

    def _connected(self) -> socket.socket:
        problem: OSError = OSError("it has no address")
        for family, kind, protocol, _, address in self._addresses:
            trying = socket.socket(family, kind, protocol)
            try:
                trying.settimeout(_left(self._deadline))
                trying.connect(address)
                trying.settimeout(_left(self._deadline))  # for the handshake
            except OSError as error:
                trying.close()
                problem = error
            except BaseException:
                trying.close()
                raise
            else:
                return trying
        raise problem


class _Timed:
    """A socket as http.client uses one, on which the whole exchange has one deadline: dribbling does not prolong it."""

    def __init__(self, inner: socket.socket, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline
        self._read = False

    def sendall(self, data: bytes) -> None:
        self._inner.settimeout(_left(self._deadline))
        self._inner.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        self._read = True
        return io.BufferedReader(_Reader(self._inner, self._deadline))

    def close(self) -> None:
        if not self._read:  # http.client closes the socket when it has the response, which goes on reading
            self._inner.close()


class _Reader(io.RawIOBase):
    def __init__(self, inner: socket.socket, deadline: float) -> None:
        super().__init__()
        self._inner = inner
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._inner.close()

    def readinto(self, buffer: Any) -> int:
        self._inner.settimeout(_left(self._deadline))
        return self._inner.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _failed(host: str, error: Exception) -> HandlerError:
    if isinstance(error, TimeoutError):
        return Transient(f"{host} did not answer in time", code="timed_out")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Transient(f"{host}: its certificate is not trusted: {error.verify_message}", code="fetch_failed")
    return Transient(f"{host} could not be asked: {str(error) or type(error).__name__}", code="fetch_failed")


def _answer(
    request: _Request, response: http.client.HTTPResponse, most: int | None, limit: int, deadline: float
) -> dict[str, Any]:
    wanted = limit if most is None else most
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= wanted and (piece := response.read(min(_CHUNK, wanted + 1 - size))):
            pieces.append(piece)
            size += len(piece)
        if size <= wanted and response.length:
            raise http.client.IncompleteRead(b"", response.length)
    except (OSError, http.client.HTTPException) as error:
        raise _failed(urlsplit(request.url).hostname or "", error) from error
    if size > limit:
        message = f"the page has more than {limit} bytes (setting tool_max_file_mb); `max_bytes` fetches its beginning"
        raise Permanent(message, code="too_large")
    found = {
        "status": response.status,
        "url": request.url,
        "headers": {name: response.headers[name] for name in _TOLD if name in response.headers},
        **_content(b"".join(pieces)[:wanted], response, cut=size > wanted),
    }
    if size > wanted:
        found["truncated"] = True
    return found


def _content(data: bytes, response: http.client.HTTPResponse, *, cut: bool) -> dict[str, Any]:
    """As text where it is text."""
    charset = response.headers.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8"):
        try:
            return {"text": data.decode(charset)} if _CHARSETS.fullmatch(charset) else {"bytes": data}
        except (LookupError, ValueError):
            return {"bytes": data}
    if cut:  # perhaps in the middle of a character
        for less in range(1, 4):
            try:
                return {"text": data[: len(data) - less + 1].decode("utf-8")}
            except UnicodeDecodeError:
                continue
    return as_text_or_bytes(data)


def _good(found: dict[str, Any], request: _Request) -> dict[str, Any]:
    status = found["status"]
    if status < 400:
        return found
    kind = Transient if status >= 500 or status in _TRY_AGAIN else Permanent
    raise kind(f"{urlsplit(request.url).hostname} answered with the status {status}", code="http_status")
