-- name: give_positions
-- Gives sessions that changed, in the order of their keys behind ($1, $2), the next positions, and their places in
-- lists; then to those that were deleted. What a transaction holds that isn't committed is left for the next time, and
-- so is a session that was settled less than $3 microseconds ago. The counter's row is locked until the commit, so
-- positions are seen in their order, whoever gives them. All is one statement: a process that is stopped in the middle
-- of it holds no lock. Deleted sessions come first, since their ids may be in use again, and the others only when
-- there are no more of these. Limits are in the text: the planner would take a limit that it doesn't know for a
-- tenth of all.
--
-- A session keeps its mark when it is settled, with the version of its head, which is the transaction that wrote it.
-- When it has the same one at the next look it is `quiet`, and its mark can go: so that a session which is written to
-- all the time is marked once, and updates of its head stay in their page.
WITH stone AS MATERIALIZED (
    SELECT t.bucket, t.session_key, t.incarnation
    FROM session_tombstone AS t
    WHERE t.position = 0
    ORDER BY t.bucket, t.session_key, t.incarnation
    LIMIT 500
    FOR NO KEY UPDATE
),
unsettled AS MATERIALIZED (
    SELECT h.bucket, h.session_key, h.activity_time, h.xmin AS version
    FROM session_head AS h
    WHERE h.unsettled
        AND (h.bucket, h.session_key) > ($1::smallint, $2::uuid)
        AND (SELECT count(*) FROM stone) < 500
    ORDER BY h.bucket, h.session_key
    LIMIT 500
),
looked_at AS MATERIALIZED (
    SELECT u.*, s.position, s.settled_version = u.version AS quiet
    FROM unsettled AS u
    CROSS JOIN LATERAL (
        SELECT s.position, s.settled_version
        FROM session AS s
        WHERE s.bucket = u.bucket AND s.session_key = u.session_key
    ) AS s
),
due AS MATERIALIZED (
    SELECT u.bucket, u.session_key, u.activity_time, u.version
    FROM looked_at AS u
    CROSS JOIN LATERAL (
        SELECT
        FROM session AS s
        WHERE s.bucket = u.bucket AND s.session_key = u.session_key
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS s
    WHERE NOT u.quiet
        -- A position of a time to come was given before the clock was set back.
        AND u.position NOT BETWEEN
            (extract(epoch FROM statement_timestamp()) * 1000000)::bigint - $3::bigint
            AND (extract(epoch FROM statement_timestamp()) * 1000000)::bigint + 1000000
),
total AS MATERIALIZED (
    SELECT (SELECT count(*) FROM stone) AS stones, (SELECT count(*) FROM due) AS sessions
),
counter AS (
    UPDATE position_counter AS c
    SET position = greatest(c.position, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
        + t.stones + t.sessions
    FROM total AS t
    WHERE t.stones + t.sessions > 0
    RETURNING c.position - t.stones - t.sessions AS base, t.stones
),
stoned AS (
    UPDATE session_tombstone AS t
    SET position = c.base + s.place
    FROM (
        SELECT *, row_number() OVER (ORDER BY bucket, session_key, incarnation) AS place FROM stone
    ) AS s
    CROSS JOIN counter AS c
    WHERE t.bucket = s.bucket AND t.session_key = s.session_key AND t.incarnation = s.incarnation
),
settled AS (
    UPDATE session AS s
    SET position = c.base + c.stones + d.place, settled_version = d.version,
        listed_time = greatest(s.listed_time, least(d.activity_time, statement_timestamp()))
    FROM (
        SELECT *, row_number() OVER (ORDER BY activity_time, bucket, session_key) AS place FROM due
    ) AS d
    CROSS JOIN counter AS c
    WHERE s.bucket = d.bucket AND s.session_key = d.session_key
),
final AS (
    SELECT bucket, session_key
    FROM unsettled
    ORDER BY bucket DESC, session_key DESC
    LIMIT 1
),
quiet AS (
    SELECT
        array_agg(bucket) AS buckets, array_agg(session_key) AS session_keys, array_agg(version::text) AS versions
    FROM looked_at
    WHERE quiet
)
SELECT
    t.stones, t.sessions, (SELECT count(*) FROM unsettled) AS looked_at, f.bucket, f.session_key,
    q.buckets, q.session_keys, q.versions
FROM total AS t
CROSS JOIN quiet AS q
LEFT JOIN final AS f ON true;

-- name: clear_unsettled
-- Sessions that haven't changed since they were settled. One that a transaction holds may be about to change, and stays.
UPDATE session_head AS h
SET unsettled = false
FROM (
    SELECT h.bucket, h.session_key
    FROM (
        SELECT *
        FROM unnest($1::smallint[], $2::uuid[], $3::text[]) AS k (bucket, session_key, version)
        ORDER BY bucket, session_key
    ) AS k
    CROSS JOIN LATERAL (
        SELECT h.bucket, h.session_key
        FROM session_head AS h
        WHERE h.bucket = k.bucket AND h.session_key = k.session_key AND h.xmin = k.version::xid
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS h
) AS k
WHERE h.bucket = k.bucket AND h.session_key = k.session_key;

-- name: sweep_tombstones
-- Deletions that no token asks for any more: those older than $1 microseconds.
DELETE FROM session_tombstone AS t
USING (
    SELECT bucket, session_key, incarnation
    FROM session_tombstone
    WHERE position > 0
        AND position < (extract(epoch FROM statement_timestamp()) * 1000000)::bigint - $1::bigint
    ORDER BY position
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
) AS g
WHERE t.bucket = g.bucket AND t.session_key = g.session_key AND t.incarnation = g.incarnation
RETURNING true;

-- name: feed_state
-- Which history this is, the last position that was given, and the time in microseconds.
SELECT
    history, position, (extract(epoch FROM statement_timestamp()) * 1000000)::bigint AS time
FROM position_counter;

-- name: last_position
-- The last position of a tenant's sessions.
SELECT greatest(
    (SELECT max(s.position) FROM session AS s WHERE s.tenant = $1),
    (SELECT max(t.position) FROM session_tombstone AS t WHERE t.tenant = $1),
    0
);

-- name: last_position_of_owner
-- Likewise of an owner's.
SELECT greatest(
    (SELECT max(s.position) FROM session AS s WHERE s.tenant = $1 AND s.owner = $2),
    (SELECT max(t.position) FROM session_tombstone AS t WHERE t.tenant = $1 AND t.owner = $2),
    0
);

-- name: tenants_with_changes
-- Which of these tenants have sessions that changed behind a position of each.
SELECT k.tenant
FROM unnest($1::text[], $2::bigint[]) AS k (tenant, position)
WHERE EXISTS (
        SELECT FROM session AS s WHERE s.tenant = k.tenant AND s.position > k.position
    )
    OR EXISTS (
        SELECT FROM session_tombstone AS t WHERE t.tenant = k.tenant AND t.position > k.position
    );

-- name: changed_sessions
-- A tenant's sessions that changed behind a position, and those that were deleted, in the order of their positions.
SELECT *
FROM (
    (
        SELECT
            s.position, s.bucket, s.session_key, s.session_id, s.incarnation, s.owner, s.source, s.agent,
            s.parent_id, s.parent_kind, NULL::timestamptz AS delete_time
        FROM session AS s
        WHERE s.tenant = $1 AND s.position > $2
        ORDER BY s.position
        LIMIT 250
    )
    UNION ALL
    (
        SELECT
            t.position, t.bucket, t.session_key, t.session_id, t.incarnation, t.owner, t.source, t.agent,
            t.parent_id, t.parent_kind, t.delete_time
        FROM session_tombstone AS t
        WHERE t.tenant = $1 AND t.position > $2
        ORDER BY t.position
        LIMIT 250
    )
) AS c
ORDER BY position
LIMIT 250;

-- name: changed_sessions_of_owner
-- Likewise of an owner's, by indexes of their own.
SELECT *
FROM (
    (
        SELECT
            s.position, s.bucket, s.session_key, s.session_id, s.incarnation, s.owner, s.source, s.agent,
            s.parent_id, s.parent_kind, NULL::timestamptz AS delete_time
        FROM session AS s
        WHERE s.tenant = $1 AND s.owner = $3 AND s.position > $2
        ORDER BY s.position
        LIMIT 250
    )
    UNION ALL
    (
        SELECT
            t.position, t.bucket, t.session_key, t.session_id, t.incarnation, t.owner, t.source, t.agent,
            t.parent_id, t.parent_kind, t.delete_time
        FROM session_tombstone AS t
        WHERE t.tenant = $1 AND t.owner = $3 AND t.position > $2
        ORDER BY t.position
        LIMIT 250
    )
) AS c
ORDER BY position
LIMIT 250;

-- name: from_subtree
-- Which of these sessions come from the session $2, by their parents, and theirs, and so on, up to 1000 of them. Deleted
-- ones count as what they were.
SELECT k.place
FROM unnest($3::text[]) WITH ORDINALITY AS k (parent_id, place)
WHERE EXISTS (
    WITH RECURSIVE up AS (
        SELECT k.parent_id COLLATE "C" AS session_id, 1 AS depth
        UNION
        SELECT p.parent_id, u.depth + 1
        FROM up AS u
        CROSS JOIN LATERAL (
            SELECT s.parent_id
            FROM session AS s
            WHERE s.tenant = $1 AND s.session_id = u.session_id
            UNION
            SELECT t.parent_id
            FROM session_tombstone AS t
            WHERE t.tenant = $1 AND t.session_id = u.session_id
        ) AS p
        WHERE u.session_id <> $2 AND p.parent_id IS NOT NULL AND u.depth < 1000
    )
    SELECT
    FROM up
    WHERE session_id = $2
);
