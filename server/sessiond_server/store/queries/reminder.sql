-- name: insert_reminder
-- The session's own facts go with it, so that lists and claims need no other table.
INSERT INTO reminder (
    bucket, session_key, reminder_id, tenant, session_id, owner, type, state, held, first_time,
    interval_microseconds, occurrence, due_time, ready_time, claimed_occurrence, claim_token,
    claim_holder, claim_count, max_attempts, done_token, failed_token, last_error, fired_count, missed_count,
    skipped_count, last_fire_time, last_message_seq, request_hash, details, create_time, update_time
)
SELECT
    s.bucket, s.session_key, $3, s.tenant, s.session_id, s.owner, $4, 1, false, $5, $6, 0, $5, $5, 0, '',
    '', 0, $7, '', '', '', 0, 0, 0, NULL, 0, $8, $9, statement_timestamp(), statement_timestamp()
FROM session AS s
WHERE s.bucket = $1 AND s.session_key = $2
RETURNING *;

-- name: read_reminder
-- A look without a lock.
SELECT *, clock_timestamp() AS now
FROM reminder
WHERE bucket = $1 AND session_key = $2 AND reminder_id = $3;

-- name: lock_reminder
-- A claim may change it meanwhile, even under the head's lock.
SELECT *
FROM reminder
WHERE bucket = $1 AND session_key = $2 AND reminder_id = $3
FOR UPDATE;

-- name: lock_pending_reminders
-- What a new reminder replaces.
SELECT *
FROM reminder
WHERE bucket = $1 AND session_key = $2 AND state = 1
ORDER BY due_time, reminder_id
FOR UPDATE;

-- name: count_pending_reminders
-- How many a session has, for the limit.
SELECT count(*)
FROM reminder
WHERE bucket = $1 AND session_key = $2 AND state = 1;

-- name: update_reminder
-- All that can change but the claim's lease; whoever changes it ends the claim.
UPDATE reminder
SET state = $4, occurrence = $5, due_time = $6, ready_time = $7, claim_token = '', claim_holder = '',
    claim_count = $8, done_token = $9, failed_token = $10, last_error = $11, fired_count = $12,
    missed_count = $13, skipped_count = $14, last_fire_time = $15, last_message_seq = $16,
    update_time = statement_timestamp()
WHERE bucket = $1 AND session_key = $2 AND reminder_id = $3
RETURNING *;

-- name: due_reminders
-- What can be claimed now, the longest due first; what another claims at this moment is passed over, and what
-- was claimed as often as it may be.
SELECT r.*, statement_timestamp() AS now
FROM reminder AS r
WHERE r.tenant = $1 AND r.state = 1 AND NOT r.held AND r.ready_time <= statement_timestamp()
    AND (r.max_attempts = 0 OR r.claim_count < r.max_attempts) :fits_of_r
ORDER BY r.ready_time
LIMIT $2
FOR UPDATE OF r SKIP LOCKED;

-- name: due_reminders_of_types
-- Likewise of some types, each by its own part of the index: what nobody serves isn't looked through.
SELECT r.*, statement_timestamp() AS now
FROM unnest($3::text[]) AS k (type)
CROSS JOIN LATERAL (
    SELECT *
    FROM reminder AS r
    WHERE r.tenant = $1 AND r.type = k.type AND r.state = 1 AND NOT r.held
        AND r.ready_time <= statement_timestamp()
        AND (r.max_attempts = 0 OR r.claim_count < r.max_attempts) :fits_of_r
    ORDER BY r.ready_time
    LIMIT $2
    FOR UPDATE SKIP LOCKED
) AS r
ORDER BY r.ready_time
LIMIT $2;

-- name: due_reminders_of_owner
-- Likewise of an owner's sessions, of some types or (null) of any.
SELECT r.*, statement_timestamp() AS now
FROM reminder AS r
WHERE r.tenant = $1 AND r.owner = $3 AND r.state = 1 AND NOT r.held
    AND r.ready_time <= statement_timestamp() AND ($4::text[] IS NULL OR r.type = ANY($4))
    AND (r.max_attempts = 0 OR r.claim_count < r.max_attempts) :fits_of_r
ORDER BY r.ready_time
LIMIT $2
FOR UPDATE OF r SKIP LOCKED;

-- name: claim_reminders
-- Claims of reminders that are locked, all with one end. One that is claimed still has failed ($8).
UPDATE reminder AS r
SET ready_time = $6, claimed_occurrence = c.occurrence, claim_token = c.token, claim_holder = $7,
    claim_count = least(r.claim_count, 2147483646) + 1,
    last_error = CASE r.claim_token WHEN '' THEN r.last_error ELSE $8 END
FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::bigint[], $5::text[])
    AS c (bucket, session_key, reminder_id, occurrence, token)
WHERE r.bucket = c.bucket AND r.session_key = c.session_key AND r.reminder_id = c.reminder_id;

-- name: lapsed_reminders
-- Those of a tenant whose last claim's lease has ended.
SELECT bucket, session_key, reminder_id
FROM reminder
WHERE tenant = $1 AND state = 1 AND NOT held AND max_attempts > 0 AND claim_count >= max_attempts
    AND ready_time <= statement_timestamp()
ORDER BY ready_time
LIMIT $2;

-- name: lock_lapsed_reminder
-- One of these, unless it is claimed, completed or changed otherwise meanwhile.
SELECT *, statement_timestamp() AS now
FROM reminder
WHERE bucket = $1 AND session_key = $2 AND reminder_id = $3 AND state = 1 AND NOT held AND max_attempts > 0
    AND claim_count >= max_attempts AND ready_time <= statement_timestamp()
FOR UPDATE;

-- name: extend_reminder_claim
-- A longer lease; or, with an empty token, none, and a time from which it is due again. What was given up was
-- no failure.
UPDATE reminder
SET ready_time = clock_timestamp() + $4::interval, claim_token = $5,
    claim_holder = CASE $5 WHEN '' THEN '' ELSE claim_holder END,
    claim_count = CASE $5 WHEN '' THEN greatest(claim_count - 1, 0) ELSE claim_count END
WHERE bucket = $1 AND session_key = $2 AND reminder_id = $3
RETURNING ready_time;

-- name: next_due_reminder
-- Whether anything is due, and how long until something else is.
SELECT
    EXISTS (
        SELECT
        FROM reminder
        WHERE tenant = $1 AND state = 1 AND NOT held AND ready_time <= statement_timestamp()
    ) AS due,
    (
        SELECT extract(epoch FROM min(ready_time) - statement_timestamp())::double precision
        FROM reminder
        WHERE tenant = $1 AND state = 1 AND NOT held AND ready_time > statement_timestamp()
    ) AS seconds;

-- name: list_reminders_of_session
-- A page by keyset, of so many bytes: $3 … $4 the states, $5 … $7 the place before.
SELECT *, clock_timestamp() AS now
FROM (
    SELECT
        r.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(octet_length(details) + octet_length(last_error) + 1024) OVER page AS bytes
    FROM (
        SELECT r.*
        FROM reminder AS r
        WHERE r.bucket = $1 AND r.session_key = $2 AND r.state BETWEEN $3 AND $4
            AND (r.state, r.due_time, r.reminder_id) > ($5, $6, $7) :fits_of_r
        ORDER BY r.state, r.due_time, r.reminder_id
        LIMIT $8
    ) AS r
    WINDOW page AS (ORDER BY r.state, r.due_time, r.session_key, r.reminder_id ROWS UNBOUNDED PRECEDING)
) AS r
WHERE r.place = 1 OR r.bytes <= $9
ORDER BY r.place;

-- name: list_reminders_of_owner
-- Likewise of an owner ($2) of a tenant ($1).
SELECT *, clock_timestamp() AS now
FROM (
    SELECT
        r.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(octet_length(details) + octet_length(last_error) + 1024) OVER page AS bytes
    FROM (
        SELECT r.*
        FROM reminder AS r
        WHERE r.tenant = $1 AND r.owner = $2 AND r.state BETWEEN $3 AND $4
            AND (r.state, r.due_time, r.session_key, r.reminder_id) > ($5, $6, $7, $8) :fits_of_r
        ORDER BY r.state, r.due_time, r.session_key, r.reminder_id
        LIMIT $9
    ) AS r
    WINDOW page AS (ORDER BY r.state, r.due_time, r.session_key, r.reminder_id ROWS UNBOUNDED PRECEDING)
) AS r
WHERE r.place = 1 OR r.bytes <= $10
ORDER BY r.place;

-- name: list_reminders
-- Likewise of a whole tenant ($1).
SELECT *, clock_timestamp() AS now
FROM (
    SELECT
        r.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(octet_length(details) + octet_length(last_error) + 1024) OVER page AS bytes
    FROM (
        SELECT r.*
        FROM reminder AS r
        WHERE r.tenant = $1 AND r.state BETWEEN $2 AND $3
            AND (r.state, r.due_time, r.session_key, r.reminder_id) > ($4, $5, $6, $7) :fits_of_r
        ORDER BY r.state, r.due_time, r.session_key, r.reminder_id
        LIMIT $8
    ) AS r
    WINDOW page AS (ORDER BY r.state, r.due_time, r.session_key, r.reminder_id ROWS UNBOUNDED PRECEDING)
) AS r
WHERE r.place = 1 OR r.bytes <= $9
ORDER BY r.place;

-- name: pending_reminder_times
-- When the soonest pending reminder of each session is due.
SELECT k.place, r.due_time
FROM unnest($1::smallint[], $2::uuid[]) WITH ORDINALITY AS k (bucket, session_key, place)
CROSS JOIN LATERAL (
    SELECT due_time
    FROM reminder AS r
    WHERE r.bucket = k.bucket AND r.session_key = k.session_key AND r.state = 1
    ORDER BY r.due_time
    LIMIT 1
) AS r;
