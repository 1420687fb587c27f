-- name: read_cursor
-- A consumer's cursor in a session.
SELECT *, clock_timestamp() AS now
FROM consumer_cursor
WHERE bucket = $1 AND session_key = $2 AND consumer_id = $3;

-- name: list_cursors
-- A page of a session's cursors, behind a consumer.
SELECT *, clock_timestamp() AS now
FROM consumer_cursor
WHERE bucket = $1 AND session_key = $2 AND consumer_id > $3
ORDER BY consumer_id
LIMIT $4;

-- name: lock_cursor
-- A claim may change it meanwhile, even under the head's lock.
SELECT *, clock_timestamp() AS now
FROM consumer_cursor
WHERE bucket = $1 AND session_key = $2 AND consumer_id = $3
FOR UPDATE;

-- name: count_cursors
-- How many a session has, for the limit.
SELECT count(*)
FROM consumer_cursor
WHERE bucket = $1 AND session_key = $2;

-- name: insert_cursor
-- The first that is said of a consumer in a session.
INSERT INTO consumer_cursor (
    bucket, session_key, consumer_id, tenant, session_id, owner, child, seq, queued, ready_time, claim_token,
    claim_holder, claim_expire_time, claim_count, done_token, update_time
)
SELECT
    s.bucket, s.session_key, $3, s.tenant, s.session_id, s.owner, s.parent_kind = 1, $4, $5,
    clock_timestamp(), '', '', 'epoch', 0, '', clock_timestamp()
FROM session AS s
WHERE s.bucket = $1 AND s.session_key = $2
RETURNING *, clock_timestamp() AS now;

-- name: set_cursor
-- A cursor that is locked. Whoever's claim this ends ($6) is remembered, so that it can be said twice. A lease
-- that lasts goes on without it.
UPDATE consumer_cursor
SET seq = $4, queued = $5, update_time = clock_timestamp(),
    ready_time = CASE
        WHEN $6 <> '' THEN clock_timestamp() ELSE greatest(clock_timestamp(), claim_expire_time)
    END,
    claim_token = CASE WHEN $6 <> '' THEN '' ELSE claim_token END,
    claim_holder = CASE WHEN $6 <> '' THEN '' ELSE claim_holder END,
    claim_expire_time = CASE WHEN $6 <> '' THEN 'epoch' ELSE claim_expire_time END,
    claim_count = CASE WHEN $6 <> '' THEN 0 ELSE claim_count END,
    done_token = CASE WHEN $6 <> '' THEN $6 ELSE done_token END
WHERE bucket = $1 AND session_key = $2 AND consumer_id = $3
RETURNING *, clock_timestamp() AS now;

-- name: count_consumers
-- How many an owner has, or for all sessions there are, for the limit.
SELECT count(*)
FROM consumer
WHERE bucket = $1 AND tenant = $2 AND owner = $3;

-- name: consumer_exists
-- Whether a consumer has claimed before.
SELECT EXISTS (
    SELECT
    FROM consumer
    WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND consumer_id = $4
);

-- name: insert_consumer
-- A new one begins with the first session that there is.
INSERT INTO consumer (bucket, tenant, owner, consumer_id, scanned_position, scan_time)
VALUES ($1, $2, $3, $4, 0, statement_timestamp())
ON CONFLICT (bucket, tenant, owner, consumer_id) DO NOTHING;

-- name: list_consumers
-- A page of a tenant's, behind an owner and a consumer.
SELECT owner, consumer_id, scan_time
FROM consumer
WHERE tenant = $1 AND (owner, consumer_id) > ($2, $3)
ORDER BY owner, consumer_id
LIMIT $4;

-- name: list_consumers_of_owner
-- Likewise of an owner's.
SELECT owner, consumer_id, scan_time
FROM consumer
WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND consumer_id > $4
ORDER BY consumer_id
LIMIT $5;

-- name: delete_consumer
-- What it has set stays with the sessions.
DELETE FROM consumer
WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND consumer_id = $4
RETURNING consumer_id;

-- name: lock_consumer
-- One call at a time looks for what is new; the others don't wait for it.
SELECT scanned_position
FROM consumer
WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND consumer_id = $4
FOR UPDATE SKIP LOCKED;

-- name: read_consumer
-- Likewise for those who wait, who change nothing.
SELECT scanned_position, statement_timestamp() AS now
FROM consumer
WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND consumer_id = $4;

-- name: move_consumer
-- How far it has looked.
UPDATE consumer
SET scanned_position = $5, scan_time = statement_timestamp()
WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND consumer_id = $4;

-- name: written_sessions
-- Sessions that changed behind position $3, and whether they aren't queued for the consumer ($2) though they hold
-- messages past its cursor. Subqueries, since a join might be planned to read all heads.
SELECT
    s.bucket, s.session_key, s.position,
    (
        SELECT h.next_seq
        FROM session_head AS h
        WHERE h.bucket = s.bucket AND h.session_key = s.session_key
    ) - 1 > coalesce((
        SELECT CASE WHEN w.queued THEN 9223372036854775807 ELSE w.seq END
        FROM consumer_cursor AS w
        WHERE w.bucket = s.bucket AND w.session_key = s.session_key AND w.consumer_id = $2
    ), 0) AS wanted
FROM (
    SELECT s.bucket, s.session_key, s.position
    FROM session AS s
    WHERE s.tenant = $1 AND s.position > $3
    ORDER BY s.position
    LIMIT 1000
) AS s
ORDER BY s.position;

-- name: written_sessions_of_owner
-- Likewise of an owner ($4), by an index of its own.
SELECT
    s.bucket, s.session_key, s.position,
    (
        SELECT h.next_seq
        FROM session_head AS h
        WHERE h.bucket = s.bucket AND h.session_key = s.session_key
    ) - 1 > coalesce((
        SELECT CASE WHEN w.queued THEN 9223372036854775807 ELSE w.seq END
        FROM consumer_cursor AS w
        WHERE w.bucket = s.bucket AND w.session_key = s.session_key AND w.consumer_id = $2
    ), 0) AS wanted
FROM (
    SELECT s.bucket, s.session_key, s.position
    FROM session AS s
    WHERE s.tenant = $1 AND s.owner = $4 AND s.position > $3
    ORDER BY s.position
    LIMIT 1000
) AS s
ORDER BY s.position;

-- name: next_session
-- When the next session is due of those that wait.
SELECT min(w.ready_time)
FROM unnest($3::boolean[]) AS c (child)
CROSS JOIN LATERAL (
    SELECT w.ready_time
    FROM consumer_cursor AS w
    WHERE w.tenant = $1 AND w.consumer_id = $2 AND w.child = c.child AND w.queued
    ORDER BY w.ready_time
    LIMIT 1
) AS w;

-- name: next_session_of_owner
-- Likewise of an owner ($4).
SELECT w.ready_time
FROM consumer_cursor AS w
WHERE w.tenant = $1 AND w.consumer_id = $2 AND w.owner = $4 AND w.child = ANY($3::boolean[]) AND w.queued
ORDER BY w.ready_time
LIMIT 1;

-- name: queue_sessions
-- Sessions are kept from being deleted meanwhile, which no append notices: it locks no key. They are due when nobody
-- has written to them for $4.
INSERT INTO consumer_cursor AS w (
    bucket, session_key, consumer_id, tenant, session_id, owner, child, seq, queued, ready_time, claim_token,
    claim_holder, claim_expire_time, claim_count, done_token, update_time
)
SELECT
    s.bucket, s.session_key, $3, s.tenant, s.session_id, s.owner, s.parent_kind = 1, 0, true,
    greatest(statement_timestamp(), h.activity_time + $4::interval), '', '', 'epoch', 0, '', NULL
FROM (
    SELECT s.*
    FROM session AS s
    JOIN unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key) USING (bucket, session_key)
    ORDER BY s.bucket, s.session_key
    FOR KEY SHARE OF s
) AS s
CROSS JOIN LATERAL (
    SELECT h.activity_time
    FROM session_head AS h
    WHERE h.bucket = s.bucket AND h.session_key = s.session_key
    LIMIT 1
) AS h
ON CONFLICT (bucket, session_key, consumer_id) DO UPDATE
SET queued = true, ready_time = greatest(excluded.ready_time, w.claim_expire_time), child = excluded.child
WHERE NOT w.queued;

-- name: due_sessions
-- What waits and is due, with what decides whether it is handed out; $3 are the values of `child`.
SELECT
    w.*, statement_timestamp() AS now, h.next_seq, h.activity_time, s.source, s.agent, s.title
FROM unnest($3::boolean[]) AS c (child)
CROSS JOIN LATERAL (
    SELECT *
    FROM consumer_cursor AS w
    WHERE w.tenant = $1 AND w.consumer_id = $2 AND w.child = c.child AND w.queued
        AND w.ready_time <= statement_timestamp()
    ORDER BY w.ready_time
    LIMIT $4
    FOR UPDATE SKIP LOCKED
) AS w
CROSS JOIN LATERAL (
    SELECT h.next_seq, h.activity_time
    FROM session_head AS h
    WHERE h.bucket = w.bucket AND h.session_key = w.session_key
    LIMIT 1
) AS h
CROSS JOIN LATERAL (
    SELECT s.source, s.agent, s.title
    FROM session AS s
    WHERE s.bucket = w.bucket AND s.session_key = w.session_key
    LIMIT 1
) AS s
ORDER BY w.ready_time
LIMIT $4;

-- name: due_sessions_of_owner
-- Likewise of an owner ($5).
SELECT
    w.*, statement_timestamp() AS now, h.next_seq, h.activity_time, s.source, s.agent, s.title
FROM (
    SELECT *
    FROM consumer_cursor AS w
    WHERE w.tenant = $1 AND w.consumer_id = $2 AND w.owner = $5 AND w.child = ANY($3::boolean[]) AND w.queued
        AND w.ready_time <= statement_timestamp()
    ORDER BY w.ready_time
    LIMIT $4
    FOR UPDATE SKIP LOCKED
) AS w
CROSS JOIN LATERAL (
    SELECT h.next_seq, h.activity_time
    FROM session_head AS h
    WHERE h.bucket = w.bucket AND h.session_key = w.session_key
    LIMIT 1
) AS h
CROSS JOIN LATERAL (
    SELECT s.source, s.agent, s.title
    FROM session AS s
    WHERE s.bucket = w.bucket AND s.session_key = w.session_key
    LIMIT 1
) AS s
ORDER BY w.ready_time;

-- name: extend_session_claim
-- A longer lease; or, with an empty token, none, and a time from which it is due again. What was given up was
-- no failure.
UPDATE consumer_cursor
SET ready_time = statement_timestamp() + $4::interval,
    claim_expire_time = CASE $5 WHEN '' THEN 'epoch' ELSE statement_timestamp() + $4::interval END,
    claim_token = $5,
    claim_holder = CASE $5 WHEN '' THEN '' ELSE claim_holder END,
    claim_count = CASE $5 WHEN '' THEN greatest(claim_count - 1, 0) ELSE claim_count END
WHERE bucket = $1 AND session_key = $2 AND consumer_id = $3
RETURNING ready_time;

-- name: settle_sessions
-- What became of sessions that were due and are locked: claimed, with a token; due later; or done. A claim whose
-- lease has ended stays as it is until the session is claimed anew.
UPDATE consumer_cursor AS w
SET queued = c.queued, ready_time = c.ready_time,
    claim_token = CASE c.token WHEN '' THEN w.claim_token ELSE c.token END,
    claim_holder = CASE c.token WHEN '' THEN w.claim_holder ELSE $7 END,
    claim_expire_time = CASE c.token WHEN '' THEN w.claim_expire_time ELSE c.ready_time END,
    claim_count = CASE c.token WHEN '' THEN w.claim_count ELSE least(w.claim_count, 2147483646) + 1 END
FROM unnest($1::smallint[], $2::uuid[], $4::boolean[], $5::timestamptz[], $6::text[])
    AS c (bucket, session_key, queued, ready_time, token)
WHERE w.bucket = c.bucket AND w.session_key = c.session_key AND w.consumer_id = $3;
