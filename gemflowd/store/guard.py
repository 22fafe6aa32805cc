"""What SQLite says of the disk and the file, as our own errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import apsw

from gemflowd.model.errors import StoreError, StoreFull

P = ParamSpec("P")
R = TypeVar("R")


def guarded(method: Callable[P, R]) -> Callable[P, R]:
    """Turn what SQLite says of the disk and the file into our own errors. Other errors are defects and go through."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except apsw.FullError as error:
            raise StoreFull(f"the disk is full: {error}") from error
        except (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
            raise StoreError(f"the database can't be trusted or used any more: {error}") from error

    return call
