-- Version 2: the whole queue. Conditions, expiry, unique keys, growth, streaming, holds, named resources, queues that can be
-- paused and limited, schedules, the shared memory, deletion.

ALTER TABLE flow ADD COLUMN touched   REAL    NOT NULL DEFAULT 0;  -- when the last chunk came, or it ended; by the steady clock
ALTER TABLE flow ADD COLUMN streaming INTEGER NOT NULL DEFAULT 0 CHECK (streaming IN (0, 1));
ALTER TABLE flow ADD COLUMN on_hold   INTEGER NOT NULL DEFAULT 0 CHECK (on_hold IN (0, 1));
ALTER TABLE flow ADD COLUMN deleted   INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1));
UPDATE flow SET touched = coalesce(finished, created);
ALTER TABLE flow ADD COLUMN ordering  INTEGER NOT NULL DEFAULT 0 CHECK (ordering BETWEEN 0 AND 2);  -- by critical path
CREATE INDEX flow_open ON flow (touched, number) WHERE state = 1;
CREATE INDEX flow_ended ON flow (touched, number) WHERE state >= 3 AND deleted = 0;
CREATE INDEX flow_deleted ON flow (number) WHERE deleted = 1;
CREATE INDEX flow_ordering ON flow (number) WHERE ordering = 2;

ALTER TABLE task ADD COLUMN urgency   INTEGER NOT NULL DEFAULT 5;  -- priority, aged
ALTER TABLE task ADD COLUMN expires   REAL;
ALTER TABLE task ADD COLUMN hold      INTEGER NOT NULL DEFAULT 0 CHECK (hold BETWEEN 0 AND 4);
ALTER TABLE task ADD COLUMN flags     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN depth     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN size      INTEGER NOT NULL DEFAULT 0;  -- bytes of its body
ALTER TABLE task ADD COLUMN ooms      INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN rules     TEXT;                        -- retries by class of error, JSON
ALTER TABLE task ADD COLUMN memory_mb INTEGER;                     -- its own cap
ALTER TABLE task ADD COLUMN estimate  REAL;                        -- seconds that it is expected to run
UPDATE task SET urgency = priority WHERE priority <> 5;
UPDATE task SET size = coalesce((SELECT length(value) FROM body WHERE body.task = task.number), 0);
DROP INDEX task_ready;
DROP INDEX task_due;
CREATE INDEX task_ready ON task (lane, urgency DESC, tag, number) WHERE state = 3;
CREATE INDEX task_due ON task (flags & 1, due, number) WHERE state = 1;
CREATE INDEX task_expires ON task (flags & 2, expires, number) WHERE expires IS NOT NULL AND state < 5;
CREATE INDEX task_judging ON task (number) WHERE state IN (2, 4) AND flags & 128;
CREATE INDEX task_unhandled ON task (type, number) WHERE state = 4 AND hold = 2;

ALTER TABLE lane ADD COLUMN resources TEXT NOT NULL DEFAULT '';
ALTER TABLE lane ADD COLUMN shift     REAL NOT NULL DEFAULT 0;
ALTER TABLE lane ADD COLUMN others    TEXT NOT NULL DEFAULT '';

ALTER TABLE cursor ADD COLUMN value INTEGER;

-- An attempt may end as `again`, 11, and as `parked`, 12. What may stand in a column can't be changed, so the table is copied.
CREATE TABLE attempt_2 (
    task     INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    slot     TEXT NOT NULL,
    started  REAL NOT NULL,
    finished REAL NOT NULL,
    outcome  INTEGER NOT NULL CHECK (outcome BETWEEN 1 AND 12),
    seconds  REAL NOT NULL,
    error    BLOB,
    usage    BLOB,
    peak_kb  INTEGER,
    PRIMARY KEY (task, number)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt_2 SELECT * FROM attempt;
DROP TABLE attempt;
ALTER TABLE attempt_2 RENAME TO attempt;

CREATE TABLE queue (
    name   TEXT PRIMARY KEY,
    paused INTEGER NOT NULL CHECK (paused IN (0, 1)),
    most   INTEGER CHECK (most >= 0)
) STRICT, WITHOUT ROWID;

-- `when` of a task, in CEL.
CREATE TABLE condition (
    task       INTEGER PRIMARY KEY,
    expression TEXT NOT NULL
) STRICT;

CREATE TABLE unique_key (
    key   TEXT PRIMARY KEY,
    task  INTEGER NOT NULL,
    until REAL  -- by the steady clock; null: until the task has ended
) STRICT, WITHOUT ROWID;
CREATE INDEX unique_key_task ON unique_key (task);
CREATE INDEX unique_key_until ON unique_key (until) WHERE until IS NOT NULL;

-- Dependencies that are stored and not taken apart yet: a task may have 100,000.
CREATE TABLE pending_edge (
    seq   INTEGER PRIMARY KEY,
    flow  INTEGER NOT NULL,
    task  INTEGER NOT NULL,
    last  INTEGER NOT NULL CHECK (last IN (0, 1)),  -- of its task
    edges BLOB NOT NULL                             -- MessagePack: [[parent, on], ...]
) STRICT;
CREATE INDEX pending_edge_flow ON pending_edge (flow, seq);
CREATE INDEX pending_edge_task ON pending_edge (task);

-- Tasks of other flows that wait for something in this one: it can't be deleted before they have ended.
CREATE TABLE claim (
    flow  INTEGER NOT NULL,
    child INTEGER NOT NULL,
    PRIMARY KEY (flow, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_child ON claim (child);

-- What a running task added to its own flow, and submissions that were answered with another one's task (`key`).
CREATE TABLE addition (
    submission TEXT PRIMARY KEY,
    flow       INTEGER NOT NULL,
    first      INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    digest     BLOB,                                -- null: whatever is sent (a step of a task)
    grown      INTEGER NOT NULL CHECK (grown IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX addition_flow ON addition (flow);

-- The shared memory.
CREATE TABLE value (
    namespace TEXT NOT NULL,
    key       TEXT NOT NULL,
    value     BLOB NOT NULL,
    version   INTEGER NOT NULL CHECK (version > 0),
    updated   REAL NOT NULL,
    until     REAL,                                 -- by the steady clock
    task      INTEGER,
    attempt   INTEGER,
    client    TEXT,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX value_until ON value (until) WHERE until IS NOT NULL;

-- Answers of model calls.
CREATE TABLE cache (
    number  INTEGER PRIMARY KEY,                    -- in the order in which they were stored; never given twice
    key     BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
    model   TEXT NOT NULL,
    stored  REAL NOT NULL,
    used    REAL NOT NULL,                          -- the last time, by the steady clock
    hits    INTEGER NOT NULL,
    size    INTEGER NOT NULL,                       -- bytes that it counts with
    usage   BLOB,                                   -- what the call cost, MessagePack
    value   BLOB NOT NULL                           -- the result of the task that made the call, MessagePack
) STRICT;
CREATE INDEX cache_used ON cache (used, number);

-- Batches of model calls; the number is that of the task that carries it.
CREATE TABLE batch (
    number INTEGER PRIMARY KEY,
    uuid   TEXT NOT NULL UNIQUE,                    -- by which it is found at Google when its name was not stored
    model  TEXT NOT NULL,
    until  INTEGER NOT NULL,                        -- by the wall clock; 0: never
    state  INTEGER NOT NULL CHECK (state BETWEEN 1 AND 5),
    name   TEXT,                                    -- Google's
    items  INTEGER NOT NULL,
    bytes  INTEGER NOT NULL,
    reason TEXT
) STRICT;
CREATE INDEX batch_open ON batch (model, until) WHERE state = 1;
CREATE INDEX batch_carried ON batch (number) WHERE state < 5;

-- Their questions, JSON, and the answers that have come and were not taken yet.
CREATE TABLE batch_item (
    task    INTEGER PRIMARY KEY,
    batch   INTEGER NOT NULL,
    request BLOB NOT NULL,
    answer  BLOB,
    assumed TEXT                                    -- JSON: money, tokens, budgets: counts as used, the task was given up
) STRICT;
CREATE INDEX batch_item_batch ON batch_item (batch, task);

-- What the cache was good for. The tokens are those that it saved.
CREATE TABLE cache_count (
    model          TEXT PRIMARY KEY,
    hits           INTEGER NOT NULL,
    misses         INTEGER NOT NULL,
    prompt_tokens  INTEGER NOT NULL,
    cached_tokens  INTEGER NOT NULL,                -- some of those of the prompts
    output_tokens  INTEGER NOT NULL,
    thought_tokens INTEGER NOT NULL,
    cost_nano      INTEGER NOT NULL,                -- that they would have cost, by the prices of then
    unpriced       INTEGER NOT NULL                 -- uses of which nobody knows
) STRICT, WITHOUT ROWID;

-- Limits: what was sent and what was learned (store/parts/limits.py), and the figures that were set at run time, as MessagePack.
CREATE TABLE quota (
    bucket TEXT PRIMARY KEY,
    ledger BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE quota_figure (
    bucket  TEXT PRIMARY KEY,
    figures BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Flows that are held when so many of their tasks have failed; a person's release moves that on.
CREATE TABLE max_errors (
    flow    INTEGER PRIMARY KEY,
    most    INTEGER NOT NULL CHECK (most > 0),
    stop_at INTEGER NOT NULL,
    stopped INTEGER NOT NULL CHECK (stopped IN (0, 1))
) STRICT;

CREATE TABLE schedule (
    name          TEXT PRIMARY KEY,
    cron          TEXT NOT NULL,
    zone          TEXT NOT NULL,
    misfire       TEXT NOT NULL CHECK (misfire IN ('skip', 'once', 'all')),
    misfire_limit INTEGER NOT NULL CHECK (misfire_limit > 0),
    overlap       TEXT NOT NULL CHECK (overlap IN ('skip', 'allow', 'queue', 'cancel')),
    paused        INTEGER NOT NULL CHECK (paused IN (0, 1)),
    next_run      REAL,                             -- null: paused, or none any more
    last_run      REAL,
    last_flow     INTEGER,
    waiting       REAL,                             -- the run that waits for the end of the last one
    fired         INTEGER NOT NULL,
    skipped       INTEGER NOT NULL,
    created       REAL NOT NULL,
    shown         BLOB NOT NULL,                    -- the task as it was given, MessagePack
    task          BLOB NOT NULL                     -- the same, validated, as the engine takes it (engine/schedules.py)
) STRICT;
CREATE INDEX schedule_due ON schedule (next_run) WHERE next_run IS NOT NULL;
CREATE INDEX schedule_waiting ON schedule (last_flow) WHERE waiting IS NOT NULL;

-- Budgets and what they are used for. Money in billionths of the currency's unit.
CREATE TABLE budget (
    number         INTEGER PRIMARY KEY,
    scope          INTEGER NOT NULL CHECK (scope BETWEEN 1 AND 5),  -- task, flow, queue, day, total
    target         ANY NOT NULL,                    -- a task's or flow's number, a queue's name; 0 where there is one alone
    money          INTEGER CHECK (money >= 0),
    tokens         INTEGER CHECK (tokens >= 0),
    action         INTEGER NOT NULL CHECK (action BETWEEN 1 AND 3),
    state          INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    reason         TEXT,
    spent          INTEGER NOT NULL,                -- money; the others are tokens
    spent_tokens   INTEGER NOT NULL,
    assumed        INTEGER NOT NULL,
    assumed_tokens INTEGER NOT NULL,
    reserved       INTEGER NOT NULL CHECK (reserved >= 0),
    reserved_tokens INTEGER NOT NULL CHECK (reserved_tokens >= 0),
    unpriced       INTEGER NOT NULL,
    warned         INTEGER NOT NULL CHECK (warned IN (0, 1)),
    day            INTEGER NOT NULL,
    by_setting     INTEGER NOT NULL CHECK (by_setting IN (0, 1)),
    UNIQUE (scope, target),
    CHECK (money IS NOT NULL OR tokens IS NOT NULL)
) STRICT;
CREATE INDEX budget_held ON budget (number) WHERE state = 2;

-- What is set aside for attempts in flight.
CREATE TABLE reservation (
    task    INTEGER PRIMARY KEY,
    money   INTEGER NOT NULL,
    tokens  INTEGER NOT NULL,
    budgets TEXT NOT NULL,                          -- their numbers, JSON
    allows  INTEGER NOT NULL                        -- as in model_use
) STRICT;

-- What attempts have used, added up: it outlives flows, and is read at once. Days since the epoch, UTC; model '' is none.
CREATE TABLE usage (
    day      INTEGER NOT NULL,
    model    TEXT NOT NULL,
    flow     INTEGER NOT NULL,
    tier     TEXT NOT NULL,                         -- that has served them
    attempts INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,                      -- those among them whose cost is not known
    prompt   INTEGER NOT NULL,
    cached   INTEGER NOT NULL,
    output   INTEGER NOT NULL,
    thoughts INTEGER NOT NULL,
    total    INTEGER NOT NULL,
    cost     INTEGER NOT NULL,
    standard INTEGER NOT NULL,                      -- what those whose cost is known would have cost at the standard tier
    PRIMARY KEY (day, model, flow, tier)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_flow ON usage (flow);

-- Where estimates come from: bytes of tasks, and the tokens that their calls have used.
CREATE TABLE model_use (
    model    TEXT NOT NULL,
    allows   INTEGER NOT NULL,                      -- bits of the most tokens that their tasks allow as answer; 0: all calls
    calls    INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    prompt   INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    PRIMARY KEY (model, allows)
) STRICT, WITHOUT ROWID;

INSERT INTO meta (key, value) SELECT 'queued_bytes', coalesce(sum(size), 0) FROM task WHERE state < 6;
