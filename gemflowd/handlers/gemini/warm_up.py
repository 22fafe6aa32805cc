"""One call of the SDK that goes nowhere, made in the nursery before it forks.

The SDK imports and builds most of itself on first use: *measured*, the first call takes 0.55 s without this and 0.11 s
with it, and forked workers share the memory. The call goes through the SDK's synchronous client, so
that no event loop is needed, with a transport that answers by itself.
"""

from __future__ import annotations

from typing import Final

from gemflowd.handlers.gemini.failures import explain
from gemflowd.handlers.gemini.request import as_sent, build_request
from gemflowd.handlers.gemini.result import result_of, usage_of
from gemflowd.handlers.gemini.structured import value_of

_ANSWER: Final = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "{}"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
    "modelVersion": "warm-up",
}


def one_call() -> None:
    """Import everything that a call needs and build its models. No network, no thread, nothing left open."""
    import aiohttp  # noqa: F401 - workers send with it
    import httpx2
    from google.genai import Client, types

    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=_ANSWER))
    request = build_request({"model": "warm-up", "prompt": "?", "system": "?", "schema": {"type": "object"}})
    with httpx2.Client(transport=transport) as http:
        options = types.HttpOptions(httpx_client=http, retry_options=types.HttpRetryOptions(attempts=1))
        with Client(api_key="warm-up", vertexai=False, http_options=options) as client:
            response = client.models.generate_content(
                model=request.model, contents=as_sent(request.contents), config=request.config
            )
    result_of(response, request, usage_of(response))
    value_of("{}", request.schema)
    explain(ValueError("warm-up"), 0.0)
