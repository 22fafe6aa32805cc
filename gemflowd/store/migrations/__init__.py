"""Brings a database to the schema of this version. A newer one is refused and not touched.

The version is SQLite's `user_version`. Version 1 is `schema.sql`; each later one is a file `NNNN.sql` here, applied in order,
one transaction each. Before the first of them a database with data is copied: `gemflow.db.schema-1-backup`.
"""

from __future__ import annotations

import logging
import os
from importlib.resources import files
from pathlib import Path
from typing import Final

import apsw

from gemflowd.model.errors import StoreError
from gemflowd.store.files import copy_database
from gemflowd.store.sql import schema

log = logging.getLogger("gemflow.store")

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


def keep_backup(db: apsw.Connection, path: Path) -> Path | None:
    """Copy a database that `migrate` would change, beside it. One that is there already is never overwritten.

    Raises:
        StoreError: it can't be made; nothing was changed.
    """
    version = check(db)
    if version in (0, SCHEMA_VERSION):
        return None
    name = f"{path.name}.schema-{version}-backup"
    target, number = path.with_name(name), 1
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{name}-{number}")
    try:
        copy_database(db, target)
    except (OSError, StoreError) as error:
        raise StoreError(
            f"the database {path} has schema version {version} and must be brought to {SCHEMA_VERSION}, but the backup {target}"
            f" that comes before can't be made: {error}; nothing was changed. Make room, and start again"
        ) from error
    log.warning("the database is brought to schema version %d; as it was it is kept as %s", SCHEMA_VERSION, target)
    return target


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
