"""`count-words`: a sync handler, whose data is a dataclass."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.registry import task
from gemflowd.worker.context import Context


@dataclass
class Count:
    """What a task of this type is given."""

    paths: list[str]
    most: int = 10


@dataclass
class Counted:
    """What it returns."""

    words: int
    common: dict[str, int]


@task("count-words", retries=1, timeout=60)
def count_words(data: Count, context: Context) -> Counted:
    """The number of words in files, and the most common ones."""
    counter: Counter[str] = Counter()
    for done, path in enumerate(data.paths):
        context.progress(done, len(data.paths), path)
        try:
            text = Path(path).read_text()
        except FileNotFoundError as error:
            raise Permanent(str(error), code="no_such_file") from None
        counter.update(text.lower().split())
        print(f"{path} is read")  # in the task's log, as standard output
    return Counted(counter.total(), dict(counter.most_common(data.most)))
