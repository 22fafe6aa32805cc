"""Brings a database to the schema of this version. A newer one is refused and not touched.

The version is SQLite's `user_version`. Version 1 is `schema.sql`; each later one is a file `NNNN.sql` here, applied in order,
one transaction each.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import apsw

from gemflowd.model.errors import StoreError
from gemflowd.store.sql import schema

SCHEMA_VERSION: Final = 2
#: SQLite's application_id of our databases: "gemf".
APPLICATION_ID: Final = 0x67656D66


def migrate(db: apsw.Connection) -> None:
    """Create or update the schema.

    Raises:
        StoreError: the database is another program's, or was written by a newer version.
    """
    version = check(db)
    for step in range(version + 1, SCHEMA_VERSION + 1):
        script = schema() if step == 1 else files(__package__).joinpath(f"{step:04}.sql").read_text("utf-8")
        with db:
            db.execute(script)
            db.execute(f"PRAGMA user_version = {step}")
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def check(db: apsw.Connection) -> int:
    """The schema version of a database that we may work on; 0 for an empty one. Changes nothing.

    Raises:
        StoreError: see `migrate`.
    """
    version: int = db.execute("PRAGMA user_version").get
    application: int = db.execute("PRAGMA application_id").get
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the database has schema version {version}, this gemflowd knows {SCHEMA_VERSION}:"
            " it was written by a newer version; install that one"
        )
    if application not in (0, APPLICATION_ID) or (version == 0 and _has_tables(db)):
        raise StoreError("the database belongs to another program; it is left untouched")
    return version


def _has_tables(db: apsw.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_schema").get)
