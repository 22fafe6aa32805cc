"""From what the SDK raises to what the daemon does about it.

The SDK's exceptions differ by transport and don't survive pickling, so none leaves the worker: each becomes one of
ours, with a stable code. The rule: what the request itself caused fails at once, a quota makes everyone wait, all else
is tried again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gemflowd.handlers.errors import HandlerError, Permanent, RateLimited, Transient

#: Status codes after which trying again is useless.
_PERMANENT: Final = {
    400: "bad_request",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    413: "request_too_large",
}
#: Status codes after which trying again may help, although some begin with a 4.
_TRANSIENT: Final = {
    408: "timeout",
    409: "conflict",
    499: "cancelled_by_server",
    500: "server_error",
    502: "server_error",
    503: "overloaded",
    504: "timeout",
}
_MAX_MESSAGE: Final = 2_000
_DURATION: Final = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_RETRY_IN: Final = re.compile(r"retry in ((?:\d+(?:\.\d+)?(?:ms|[hms]))+)", re.IGNORECASE)
_UNITS: Final = (3600.0, 60.0, 1.0, 0.001)


def explain(error: Exception, timeout: float) -> HandlerError:
    """The handler's error for one of the SDK's. Its message is not scrubbed yet.

    Args:
        error: what the call raised.
        timeout: seconds that the call was given, for the message.
    """
    import aiohttp
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.genai import errors
    from pydantic import ValidationError

    if isinstance(error, HandlerError):
        return error
    if isinstance(error, errors.APIError):
        return _by_status(error)
    if isinstance(error, TimeoutError):
        return Transient(f"Gemini did not answer within {timeout:g} s", code="timeout")
    if isinstance(
        error,
        errors.UnknownApiResponseError
        | json.JSONDecodeError
        | ValidationError
        | UnicodeDecodeError
        | aiohttp.ContentTypeError,
    ):
        # These quote the answer, which may be megabytes: the type has to do.
        return Transient(f"Gemini's answer can't be read ({type(error).__name__})", code="bad_response")
    if isinstance(error, aiohttp.InvalidURL):
        return Permanent(f"the endpoint of Gemini is not a URL: {error}", code="bad_endpoint")
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionResetError):
        return Transient(f"Gemini closed the connection before its answer was complete: {error}", code="disconnected")
    if isinstance(error, aiohttp.ClientConnectorError):  # its own words quote the repr of an SSL context
        reason = error.os_error.strerror or error.os_error
        return Transient(f"Gemini can't be reached at {error.host}:{error.port}: {reason}", code="connection_failed")
    if isinstance(error, aiohttp.ClientOSError):  # reset while it was asked or answered: it may have to be paid for
        return Transient(f"Gemini broke off the connection: {_short(str(error))}", code="disconnected")
    if isinstance(error, aiohttp.ClientError | TransportError | OSError):
        return Transient(
            f"Gemini can't be reached: {_short(str(error)) or type(error).__name__}", code="connection_failed"
        )
    if isinstance(error, GoogleAuthError):
        return Permanent(f"Google's credentials can't be used: {error}", code="unauthenticated")
    if isinstance(error, ValueError):  # the SDK's own checks of arguments
        return Permanent(f"the SDK refuses the request: {_short(str(error))}", code="bad_request")
    return Transient(f"{type(error).__name__}: {_short(str(error))}", code="unexpected_error")


def _by_status(error: Any) -> HandlerError:
    status: int = error.code
    details = list(_details(error.details))
    message = _short(
        f"Gemini answered {status} {error.status or ''}".rstrip() + f": {error.message or 'no reason given'}"
    )
    if status == 429:
        return _quota(message, details, error)
    if status in (400, 401) and _reason(details) in ("API_KEY_INVALID", "API_KEY_EXPIRED"):
        return Permanent(message, code="bad_api_key")
    if status in _PERMANENT:
        return Permanent(message, code=_PERMANENT[status])
    if status in _TRANSIENT:
        return Transient(message, code=_TRANSIENT[status])
    if 400 <= status < 500:
        return Permanent(message, code="client_error")
    return Transient(message, code="server_error")


def _quota(message: str, details: list[Mapping[str, Any]], error: Any) -> RateLimited:
    violations = [violation for violation in _violations(details) if violation.get("quotaId")]
    quotas = [str(violation["quotaId"]) for violation in violations]
    if quotas:
        message = f"{message} [{', '.join(quotas)}]"
    named = [{"id": str(one["quotaId"]), "value": str(one.get("quotaValue", ""))} for one in violations]
    code = "daily_quota" if any("PerDay" in quota for quota in quotas) else "rate_limited"
    return RateLimited(
        message, retry_after=retry_after(details, str(error.message or ""), _headers(error)), code=code, quota=named
    )


def retry_after(details: list[Mapping[str, Any]], message: str, headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, as the server said: in RetryInfo, else in its message, else in the header; else None."""
    for detail in details:
        if str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            delay = seconds(str(detail.get("retryDelay", "")))
            if delay is not None:
                return delay
    if found := _RETRY_IN.search(message):
        return seconds(found[1])
    header = headers.get("retry-after", "").strip()
    return float(header) if header.isdigit() else None


def seconds(duration: str) -> float | None:
    """`36s`, `36.4s`, `836.1ms` or `1h2m3.5s` in seconds; None for anything else."""
    found = _DURATION.fullmatch(duration.strip())
    if found is None or not any(found.groups()):
        return None
    return sum(float(number) * unit for number, unit in zip(found.groups(), _UNITS, strict=True) if number)


def _details(body: Any) -> Iterator[Mapping[str, Any]]:
    """The typed details of a Google error, wherever the transport left them."""
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if isinstance(body, dict) and isinstance(body.get("details"), list):
        yield from (detail for detail in body["details"] if isinstance(detail, dict))


def _violations(details: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for detail in details:
        if str(detail.get("@type", "")).endswith("google.rpc.QuotaFailure"):
            yield from (item for item in detail.get("violations") or [] if isinstance(item, dict))


def _reason(details: list[Mapping[str, Any]]) -> str | None:
    for detail in details:
        if str(detail.get("@type", "")).endswith("google.rpc.ErrorInfo"):
            return str(detail.get("reason"))
    return None


def _headers(error: Any) -> Mapping[str, str]:
    headers = getattr(error.response, "headers", None) or {}
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _short(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + " …"
