"""What people and tasks read of the cache of model calls. Who writes it is `store.parts.cache`."""

from __future__ import annotations

from typing import Any, Final

import apsw

from gemflowd.model.prices import money_of

Body = dict[str, Any]
_TOKENS: Final = ("prompt_tokens", "cached_tokens", "output_tokens", "thought_tokens")
_SUMS: Final = ", ".join(f"coalesce(sum({name}), 0)" for name in ("hits", "misses", *_TOKENS, "cost_nano", "unpriced"))
_CLEARED: Final = "coalesce((SELECT value FROM meta WHERE key = 'cache_cleared'), 0)"


def value(db: apsw.Connection, number: int) -> bytes | None:
    """A stored answer, MessagePack; None where it is gone."""
    found: bytes | None = db.execute("SELECT value FROM cache WHERE number = ?", (number,)).get
    return found


def totals(db: apsw.Connection) -> Body:
    """What the cache was good for, all models together."""
    return _counts(*next(iter(db.execute(f"SELECT {_SUMS} FROM cache_count"))))


def stats(db: apsw.Connection) -> Body:
    """The body of `cache_stats`."""
    meta = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('cache_entries', 'cache_bytes')"))
    models = db.execute(f"SELECT model, {_SUMS} FROM cache_count GROUP BY model ORDER BY model")
    return {
        "entries": int(meta.get("cache_entries", 0)),
        "bytes": int(meta.get("cache_bytes", 0)),
        **totals(db),
        "models": [{"model": model, **_counts(*counts)} for model, *counts in models],
    }


def entries(db: apsw.Connection, limit: int) -> Body:
    """The body of `cache_list`: those that were used last come first."""
    sql = f"""SELECT hex(key), model, stored, hits, size FROM cache WHERE number > {_CLEARED}
        ORDER BY used DESC, number DESC LIMIT ?"""
    names = ("key", "model", "stored", "hits", "bytes")
    found = [dict(zip(names, row, strict=True)) for row in db.execute(sql, (limit,))]
    return {"items": [{**item, "key": item["key"].lower()} for item in found]}


def _counts(hits: int, misses: int, *saved: int) -> Body:
    *tokens, cost, unpriced = saved
    return {
        "hits": hits,
        "misses": misses,
        "hit_rate": hits / (hits + misses) if hits + misses else None,
        "saved": {**dict(zip(_TOKENS, tokens, strict=True)), "cost": money_of(cost), "unpriced": unpriced},
    }
