-- Queries under names; `gemflowd/store/sql.py` reads them. Lists of numbers come in as one JSON array: a statement with
-- many steps would hand the interpreter's lock over at each of them.

-- name: tasks
SELECT {task} FROM task WHERE number IN (SELECT value FROM json_each(?1));

-- name: tasks_by_id
SELECT {task} FROM task WHERE flow = ?1 AND id IN (SELECT value FROM json_each(?2));

-- name: running
SELECT {task} FROM task WHERE state = 5;

-- name: due
SELECT {task} FROM task WHERE state = 1 AND flags & 1 = ?1 AND due <= ?2 ORDER BY due, number LIMIT ?3;

-- name: next_due
SELECT due FROM task WHERE state = 1 AND flags & 1 = ?1 ORDER BY due LIMIT 1;

-- name: expired
SELECT {task} FROM task WHERE expires IS NOT NULL AND state < 5 AND flags & 2 = ?1 AND expires <= ?2 ORDER BY expires, number LIMIT ?3;

-- name: next_expiry
SELECT expires FROM task WHERE expires IS NOT NULL AND state < 5 AND flags & 2 = ?1 ORDER BY expires LIMIT 1;

-- name: unhandled
SELECT {task} FROM task WHERE state = 4 AND hold = 2 AND type IN (SELECT value FROM json_each(?1)) ORDER BY number LIMIT ?2;

-- name: judging
SELECT {task} FROM task WHERE state IN (2, 4) AND flags & 128 ORDER BY number LIMIT ?1;

-- name: placed
SELECT {task} FROM task WHERE number > ?1 AND number <= ?2 AND state < 6 AND tag <> 0 ORDER BY number;

-- name: open_flow
SELECT number, touched FROM flow WHERE state = 1 ORDER BY touched LIMIT 1;

-- name: flow_tasks
SELECT {task} FROM task WHERE flow = ?1 AND number > ?2 ORDER BY number LIMIT ?3;

-- name: ready
SELECT -urgency, tag, number FROM task WHERE state = 3 AND lane = ?1 ORDER BY urgency DESC, tag, number LIMIT ?2;

-- name: bodies
SELECT task, value FROM body WHERE task IN (SELECT value FROM json_each(?1));

-- name: inputs
SELECT d.child, d.parent, t.id, r.value
FROM json_each(?1) j CROSS JOIN dependency d ON d.child = j.value CROSS JOIN task t ON t.number = d.parent CROSS JOIN result r ON r.task = d.parent
ORDER BY d.child, d.parent;

-- name: inputs_page
SELECT d.parent, t.id, r.value
FROM dependency d CROSS JOIN task t ON t.number = d.parent LEFT JOIN result r ON r.task = d.parent
WHERE d.child = ?1 AND d.parent > ?2 ORDER BY d.parent LIMIT ?3;

-- name: input_sizes
SELECT d.child, sum(length(r.value))
FROM json_each(?1) j CROSS JOIN dependency d ON d.child = j.value CROSS JOIN result r ON r.task = d.parent
GROUP BY d.child;

-- name: flows
SELECT {flow} FROM flow WHERE number IN (SELECT value FROM json_each(?1));

-- name: flow_of
SELECT {flow} FROM flow WHERE submission = ?1;

-- name: chunk
SELECT flow, start, count, first, complete, digest FROM chunk WHERE flow = ?1 AND start = ?2 AND count = ?3 AND complete = ?4;

-- name: edges_of
SELECT d.parent, d.child, d."on" FROM json_each(?1) j CROSS JOIN dependency d ON d.parent = j.value WHERE d.settled = 0;

-- name: open_edges
SELECT parent, child, "on" FROM dependency WHERE parent = ?1 AND child > ?2 AND settled = 0 ORDER BY child LIMIT ?3;

-- name: parents
SELECT d.child, d.parent, t.flow, t.state, d."on"
FROM json_each(?1) j CROSS JOIN dependency d ON d.child = j.value CROSS JOIN task t ON t.number = d.parent;

-- name: parents_page
SELECT d.parent, d."on", d.settled, t.flow, t.state
FROM dependency d LEFT JOIN task t ON t.number = d.parent WHERE d.child = ?1 AND d.parent > ?2 ORDER BY d.parent LIMIT ?3;

-- name: children
SELECT DISTINCT d.child FROM json_each(?1) j CROSS JOIN dependency d ON d.parent = j.value;

-- name: settle_edges
UPDATE dependency SET settled = 1 WHERE parent = ?1 AND child > ?2 AND child <= ?3;

-- name: mark_edges
UPDATE dependency SET settled = ?2
WHERE (parent, child) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1));

-- name: begun
UPDATE task SET state = 5, token = token + 1, started = ?2, slot = ?3, reason = NULL
WHERE number IN (SELECT value FROM json_each(?1));

-- name: succeeded
UPDATE task SET state = 6, attempts = attempts + 1, finished = ?2, reason = NULL
WHERE number IN (SELECT value FROM json_each(?1));

-- name: count
INSERT INTO counter (queue, state, count) VALUES {values}
ON CONFLICT (queue, state) DO UPDATE SET count = count + excluded.count;

-- name: cursor_put
INSERT INTO cursor (kind, target, position, value) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (kind, target) DO UPDATE SET position = excluded.position, value = excluded.value;

-- name: cursor_done
DELETE FROM cursor WHERE kind = ?1 AND target = ?2;

-- name: bucket_put
INSERT INTO bucket (name, asleep_until) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET asleep_until = excluded.asleep_until;

-- name: setting_put
INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: meta_put
INSERT INTO meta (key, value) VALUES {values} ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: queue_put
INSERT INTO queue (name, paused, most) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, most = excluded.most;

-- name: event_put
INSERT INTO event (first, last, at, events, ordinals) VALUES (?1, ?2, ?3, ?4, ?5);

-- name: last_event
SELECT last, ordinals FROM event ORDER BY first DESC LIMIT 1;

-- name: delete_edges
DELETE FROM dependency WHERE (parent, child) IN
    (SELECT d.parent, d.child FROM json_each(?1) j CROSS JOIN dependency d ON d.child = j.value LIMIT ?2);

-- name: delete_logs
DELETE FROM log WHERE seq IN (SELECT l.seq FROM json_each(?1) j CROSS JOIN log l ON l.task = j.value LIMIT ?2);

-- The questions of people, asked on a connection of their own (store/reader.py).

-- name: counters
SELECT state, sum(count) FROM counter GROUP BY state;

-- name: flow_counters
SELECT state, count(*) FROM flow WHERE deleted = 0 GROUP BY state;

-- name: hidden_flows
SELECT {flow} FROM flow WHERE deleted = 1;

-- name: hidden_tasks
SELECT l.queue, t.state, count(*)
FROM flow f CROSS JOIN task t ON t.flow = f.number JOIN lane l ON l.number = t.lane WHERE f.deleted = 1 GROUP BY 1, 2;

-- name: list
SELECT {task}, (SELECT queue FROM lane WHERE lane.number = task.lane) FROM task
WHERE number > ?1 {where} AND flow NOT IN (SELECT number FROM flow WHERE deleted = 1) ORDER BY number LIMIT ?2;

-- name: list_with_bodies
SELECT {task}, (SELECT queue FROM lane WHERE lane.number = task.lane), body.value FROM task CROSS JOIN body ON body.task = task.number
WHERE number > ?1 {where} AND flow NOT IN (SELECT number FROM flow WHERE deleted = 1) ORDER BY number LIMIT ?2;

-- name: stored_digest
SELECT digest FROM chunk WHERE flow = (SELECT number FROM flow WHERE submission = ?1 AND deleted = 0) AND start = ?2 AND count = ?3 AND complete = ?4
UNION ALL SELECT digest FROM addition WHERE submission = ?1 AND count = ?3;

-- name: attempts
SELECT number, slot, started, finished, outcome, seconds, error, usage, peak_kb FROM attempt WHERE task = ?1 ORDER BY number;

-- name: results
SELECT t.number, t.flow, t.id, t.flags, t.type, t.state, t.attempts, t.reason, r.value, a.error, a.seconds, a.usage IS NOT NULL OR t.attempts > 1
FROM json_each(?1) j CROSS JOIN task t ON t.number = j.value
LEFT JOIN result r ON r.task = t.number LEFT JOIN attempt a ON a.task = t.number AND a.number = t.attempts ORDER BY t.number;

-- name: result_sizes
SELECT task, length(value) FROM result WHERE task IN (SELECT value FROM json_each(?1));

-- name: ended_in_range
SELECT number FROM task WHERE number > ?1 AND number <= ?2 AND state >= 6
    AND flow NOT IN (SELECT number FROM flow WHERE deleted = 1) ORDER BY number LIMIT ?3;

-- name: ended_in_flow
SELECT number FROM task WHERE flow = ?1 AND number > ?2 AND number <= ?3 AND state >= 6 ORDER BY number LIMIT ?4;

-- name: unended_in_flow
SELECT number FROM (SELECT number, state FROM task WHERE flow = ?1 AND number > ?2 ORDER BY number LIMIT ?3) WHERE state < 6 LIMIT 1;

-- name: unended_in_range
SELECT number FROM (SELECT number, state FROM task WHERE number > ?1 AND number <= ?2
    AND flow NOT IN (SELECT number FROM flow WHERE deleted = 1) ORDER BY number LIMIT ?3) WHERE state < 6 LIMIT 1;

-- name: numbers_in_range
SELECT count(*) FROM task WHERE number BETWEEN ?1 AND ?2;

-- name: states_in_range
SELECT state, count(*) FROM task
WHERE number BETWEEN ?1 AND ?2 AND flow NOT IN (SELECT value FROM json_each(?3) UNION ALL SELECT number FROM flow WHERE deleted = 1)
GROUP BY state;

-- name: deps_of
SELECT t.number, t.flow, t.id, t.flags, d."on", t.state FROM dependency d JOIN task t ON t.number = d.parent
WHERE d.child = ?1 AND t.flow NOT IN (SELECT number FROM flow WHERE deleted = 1) ORDER BY t.number;

-- name: dependents_of
SELECT d.child FROM dependency d JOIN task t ON t.number = d.child
WHERE d.parent = ?1 AND t.flow NOT IN (SELECT number FROM flow WHERE deleted = 1) ORDER BY d.child LIMIT 1000;

-- name: flow_row
SELECT {flow}, metadata FROM flow WHERE number = ?1 AND deleted = 0;

-- name: logs
SELECT seq, at, attempt, stream, text FROM log WHERE task = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3;

-- name: logs_from
SELECT l.seq, l.at, l.attempt, l.stream, l.text, t.number, t.flow, t.id, t.flags FROM log l CROSS JOIN task t ON t.number = l.task
WHERE l.seq > ?1 ORDER BY l.seq LIMIT ?2;

-- name: events_from
SELECT first, last, at, events FROM event WHERE first >= (SELECT max(first) FROM event WHERE first <= ?1) ORDER BY first;

-- name: kept_events
SELECT coalesce((SELECT min(first) FROM event), 1), coalesce((SELECT last FROM event ORDER BY first DESC LIMIT 1), 0);
