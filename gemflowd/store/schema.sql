-- The schema, version 1. Change rule: a released schema is never edited; a change is a new file in migrations/ and a new
-- frozen database in tests/. Enumerations are those of gemflowd/model; the CHECKs refuse rows that no decision can make.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE flow (
    number      INTEGER PRIMARY KEY,
    submission  TEXT NOT NULL UNIQUE,
    name        TEXT,
    metadata    BLOB,
    state       INTEGER NOT NULL CHECK (state BETWEEN 1 AND 5),
    created     REAL NOT NULL,
    finished    REAL,
    first       INTEGER NOT NULL,
    received    INTEGER NOT NULL,
    last_tag    REAL NOT NULL,
    weight      REAL NOT NULL CHECK (weight > 0),
    cancelled   INTEGER NOT NULL CHECK (cancelled IN (0, 1)),
    scheduled   INTEGER NOT NULL CHECK (scheduled >= 0),
    blocked     INTEGER NOT NULL CHECK (blocked >= 0),
    ready       INTEGER NOT NULL CHECK (ready >= 0),
    held        INTEGER NOT NULL CHECK (held >= 0),
    running     INTEGER NOT NULL CHECK (running >= 0),
    succeeded   INTEGER NOT NULL CHECK (succeeded >= 0),
    failed      INTEGER NOT NULL CHECK (failed >= 0),
    cancelled_n INTEGER NOT NULL CHECK (cancelled_n >= 0),
    skipped     INTEGER NOT NULL CHECK (skipped >= 0),
    quarantined INTEGER NOT NULL CHECK (quarantined >= 0)
) STRICT;

-- One request of a submission: how a repeat is recognised.
CREATE TABLE chunk (
    flow     INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    count    INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    digest   BLOB NOT NULL,
    PRIMARY KEY (flow, start, count, complete)
) STRICT, WITHOUT ROWID;

CREATE TABLE lane (
    number INTEGER PRIMARY KEY,
    queue  TEXT NOT NULL,
    bucket TEXT,
    kind   INTEGER NOT NULL CHECK (kind IN (1, 2)),
    gate   INTEGER NOT NULL,
    open   INTEGER NOT NULL CHECK (open IN (0, 1))
) STRICT;

CREATE TABLE bucket (
    name         TEXT PRIMARY KEY,
    asleep_until REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The hot row. What a task carries (data, metadata) is in `body`, so that a change of state rewrites some 100 bytes.
CREATE TABLE task (
    number     INTEGER PRIMARY KEY,
    flow       INTEGER NOT NULL,
    id         TEXT,
    type       TEXT NOT NULL,
    state      INTEGER NOT NULL CHECK (state BETWEEN 1 AND 10),
    priority   INTEGER NOT NULL CHECK (priority BETWEEN -32768 AND 32767),
    lane       INTEGER NOT NULL,
    created    REAL NOT NULL,
    timeout    REAL,
    retries    INTEGER,
    backoff    REAL,
    tag        REAL NOT NULL,
    due        REAL,
    waiting    INTEGER NOT NULL CHECK (waiting >= 0),
    dependents INTEGER NOT NULL CHECK (dependents >= 0),
    inputs     INTEGER NOT NULL CHECK (inputs >= 0),
    token      INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    tries      INTEGER NOT NULL,
    losses     INTEGER NOT NULL,
    crashes    INTEGER NOT NULL,
    cancelled  INTEGER NOT NULL,
    started    REAL,
    finished   REAL,
    slot       TEXT,
    reason     TEXT,
    CHECK (state <> 1 OR due IS NOT NULL),
    CHECK (state NOT IN (3, 5) OR waiting = 0)
) STRICT;

-- The order of starting is this index and no other data structure.
CREATE INDEX task_ready ON task (lane, priority DESC, tag, number) WHERE state = 3;
CREATE INDEX task_due ON task (due, number) WHERE state = 1;
CREATE INDEX task_running ON task (number) WHERE state = 5;
CREATE INDEX task_flow ON task (flow, number);
CREATE UNIQUE INDEX task_id ON task (flow, id) WHERE id IS NOT NULL;

CREATE TABLE body (
    task  INTEGER PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE dependency (
    parent  INTEGER NOT NULL,
    child   INTEGER NOT NULL,
    "on"    INTEGER NOT NULL CHECK ("on" BETWEEN 1 AND 3),
    settled INTEGER NOT NULL CHECK (settled IN (0, 1)),
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependency_child ON dependency (child, parent);

CREATE TABLE attempt (
    task     INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    slot     TEXT NOT NULL,
    started  REAL NOT NULL,
    finished REAL NOT NULL,
    outcome  INTEGER NOT NULL CHECK (outcome BETWEEN 1 AND 10),
    seconds  REAL NOT NULL,
    error    BLOB,
    usage    BLOB,
    peak_kb  INTEGER,
    PRIMARY KEY (task, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE result (
    task  INTEGER PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE log (
    seq     INTEGER PRIMARY KEY,
    task    INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at      REAL NOT NULL,
    stream  TEXT NOT NULL,
    text    TEXT NOT NULL
) STRICT;
CREATE INDEX log_task ON log (task, seq);

-- The events of one turn as one blob: an event of its own row would double the writes of a task.
CREATE TABLE event (
    first    INTEGER PRIMARY KEY,
    last     INTEGER NOT NULL,
    at       REAL NOT NULL,
    events   BLOB NOT NULL,
    ordinals BLOB NOT NULL
) STRICT;

CREATE TABLE counter (
    queue TEXT NOT NULL,
    state INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

-- Work that may be larger than a turn, and how far it is.
CREATE TABLE cursor (
    kind     INTEGER NOT NULL,
    target   INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (kind, target)
) STRICT, WITHOUT ROWID;

-- Settings that were changed at run time, as MessagePack.
CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The handlers' catalogue as the nursery last sent it, as MessagePack.
CREATE TABLE catalogue (
    type  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
