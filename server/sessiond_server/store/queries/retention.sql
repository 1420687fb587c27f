-- name: prune_candidates
-- The oldest sessions that fit a rule, of pinned ones or of others. At most $6 are looked at, whether they fit or
-- not; each row says how many were, and where the last of them stands, also when none fits.
WITH looked_at AS MATERIALIZED (
    SELECT s.*
    FROM session AS s
    WHERE s.tenant = $1 AND s.pinned = $2
        AND (s.create_time, s.session_key) > ($3::timestamptz, $4::uuid)
        AND s.create_time <= $5::timestamptz
    ORDER BY s.create_time, s.session_key
    LIMIT $6
),
fitting AS (
    SELECT
        s.bucket, s.session_key, s.session_id, s.incarnation, s.revision, s.create_time, h.next_seq,
        h.next_change
    FROM looked_at AS s
    JOIN session_head AS h USING (bucket, session_key)
    WHERE s.state = ANY($7::smallint[])
        AND ($8::text[] IS NULL OR s.source = ANY($8))
        AND ($9::text[] IS NULL OR s.source <> ALL($9))
        AND ($10::text IS NULL OR s.owner = $10)
        AND ($11::text IS NULL OR s.profile = $11)
        AND ($12::text IS NULL OR s.labels @> $12::jsonb)
        AND ($13::boolean OR s.parent_kind <> 1)
        AND ($14::timestamptz IS NULL OR h.activity_time <= $14)
        AND ($15::timestamptz IS NULL OR s.end_time <= $15)
    ORDER BY s.create_time, s.session_key
    LIMIT $16
),
looking AS (
    SELECT count(*) AS looked
    FROM looked_at
),
ending AS (
    SELECT create_time AS last_time, session_key AS last_key
    FROM looked_at
    ORDER BY create_time DESC, session_key DESC
    LIMIT 1
)
SELECT looking.looked, ending.last_time, ending.last_key, fitting.*
FROM looking
CROSS JOIN ending
LEFT JOIN fitting ON true
ORDER BY fitting.create_time, fitting.session_key;

-- name: in_use
-- What keeps sessions from going: pins, writers, and the last time that one was written to.
SELECT
    coalesce(bool_or(s.pinned), false) AS pinned,
    coalesce(bool_or(h.writer_expire_time > clock_timestamp()), false) AS written_to,
    max(h.activity_time) AS activity_time
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
JOIN session AS s USING (bucket, session_key)
JOIN session_head AS h USING (bucket, session_key);
