"""Batches of requests that are answered later, in the shape of Gemini's Batch API.

A batch runs for `batch_seconds`; then each of its requests has an answer or an error of its own. Requests come inline, or as lines of an
uploaded file, and so do the answers. What the requests' markers ask for happens to each by itself.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gemflowd.standin.uploads import Uploads

#: Answers one request of a batch: `{response}` or `{error}`; and says how the batch ends, where the request asks for that.
Answer = Callable[[str, Any], tuple[dict[str, Any], str | None]]
_ENDS: Final = {"batch_failed": "BATCH_STATE_FAILED", "batch_expired": "BATCH_STATE_EXPIRED"}
_TYPE: Final = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"


class BadBatch(Exception):
    """The body is no batch; the message says why."""


@dataclass(slots=True)
class Batch:
    name: str
    model: str
    display_name: str
    requests: list[dict[str, Any]]  # `{request, metadata?}`, or of a file `{request, key}`
    from_file: bool
    created: datetime
    state: str = "BATCH_STATE_RUNNING"
    ended: datetime | None = None
    output: dict[str, Any] | None = None
    failed: int = 0

    def described(self) -> dict[str, Any]:
        """As an operation."""
        done = self.ended is not None
        count = len(self.requests)
        answered = count - self.failed if self.state == "BATCH_STATE_SUCCEEDED" else 0
        metadata: dict[str, Any] = {
            "@type": _TYPE,
            "model": f"models/{self.model}",
            "displayName": self.display_name,
            "name": self.name,
            "state": self.state,
            "createTime": self.created.isoformat(),
            "updateTime": (self.ended or self.created).isoformat(),
            "batchStats": {
                "requestCount": str(count),
                "successfulRequestCount": str(answered),
                "failedRequestCount": str(self.failed),
                "pendingRequestCount": str(0 if done else count),
            },
        }
        operation: dict[str, Any] = {"name": self.name, "metadata": metadata}
        if self.ended is not None:
            metadata["endTime"] = self.ended.isoformat()
            operation["done"] = True
        if self.output is not None:
            metadata["output"] = self.output
            operation["response"] = self.output
        if self.state == "BATCH_STATE_FAILED":
            operation["error"] = {"code": 13, "message": "[stand-in] A fault was asked for: the batch failed."}
        return operation


class Batches:
    """
    Args:
        uploads: where files with requests are, and those with answers go.
        answer: answers one request.
    """

    def __init__(self, uploads: Uploads, answer: Answer) -> None:
        self._uploads = uploads
        self._answer = answer
        self._numbers = itertools.count(1)
        self._batches: dict[str, Batch] = {}

    def create(self, model: str, body: Any) -> Batch:
        """Take a body of batchGenerateContent. Call `finish` when its time is over.

        Raises:
            BadBatch: it is none.
        """
        batch = body.get("batch") if isinstance(body, Mapping) else None
        if not isinstance(batch, Mapping) or not isinstance(batch.get("inputConfig"), Mapping):
            raise BadBatch("batch.inputConfig is not specified")
        source = batch["inputConfig"]
        from_file = source.get("fileName")
        requests = self._lines(str(from_file)) if from_file else _inline(source)
        if not requests:
            raise BadBatch("a batch needs at least one request")
        made = Batch(
            f"batches/stand-in-{next(self._numbers)}",
            model,
            str(batch.get("displayName") or ""),
            requests,
            bool(from_file),
            datetime.now(UTC),
        )
        self._batches[made.name] = made
        return made

    def finish(self, batch: Batch) -> None:
        """Answer its requests, unless it was cancelled or deleted."""
        if batch.ended is not None or batch.name not in self._batches:
            return
        state = "BATCH_STATE_SUCCEEDED"
        answers = []
        for item in batch.requests:
            answer, end = self._answer(batch.model, item.get("request"))
            state = _ENDS.get(end or "", state)
            answers.append({name: item[name] for name in ("key", "metadata") if name in item} | answer)
        self._end(batch, state)
        if state != "BATCH_STATE_SUCCEEDED":
            return
        batch.failed = sum("error" in answer for answer in answers)
        if batch.from_file:
            lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
            stored = self._uploads.add(lines.encode("utf-8", "replace"), "application/jsonl")
            batch.output = {"responsesFile": stored["name"]}
        else:
            batch.output = {"inlinedResponses": {"inlinedResponses": answers}}

    def cancel(self, name: str) -> bool:
        batch = self._batches.get(name)
        if batch is not None and batch.ended is None:
            self._end(batch, "BATCH_STATE_CANCELLED")
        return batch is not None

    def get(self, name: str) -> Batch | None:
        return self._batches.get(name)

    def delete(self, name: str) -> bool:
        return self._batches.pop(name, None) is not None

    def __iter__(self) -> Iterator[Batch]:
        return iter(reversed(self._batches.values()))

    def _lines(self, name: str) -> list[dict[str, Any]]:
        content = self._uploads.content(name)
        if content is None:
            raise BadBatch(f"there is no file {name!r}")
        found = []
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except ValueError:
                raise BadBatch(f"line {number} of {name} is not JSON") from None
            if not isinstance(item, dict) or not isinstance(item.get("request"), dict):
                raise BadBatch(f"line {number} of {name} has no request")
            found.append(item)
        return found

    @staticmethod
    def _end(batch: Batch, state: str) -> None:
        batch.state = state
        batch.ended = datetime.now(UTC)


def _inline(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    requests = source.get("requests")
    items = requests.get("requests") if isinstance(requests, Mapping) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadBatch("batch.inputConfig has neither requests nor a fileName")
    return items
