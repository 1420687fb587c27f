-- name: prune_candidates
-- The oldest sessions that fit a rule, of pinned ones or of others. At most 20,000 are looked at, whether
-- they fit or not; each row says how many were, and where the last of them stands, also when none fits.
WITH looked_at AS MATERIALIZED (
    SELECT s.*
    FROM session AS s
    WHERE s.tenant = $1 AND s.pinned = $2
        AND (s.create_time, s.session_key) > ($3::timestamptz, $4::uuid)
        AND s.create_time <= $5::timestamptz
    ORDER BY s.create_time, s.session_key
    LIMIT 20000
),
fitting AS (
    SELECT
        s.bucket, s.session_key, s.session_id, s.incarnation, s.fact_changes, s.create_time, h.next_seq,
        h.next_change
    FROM looked_at AS s
    JOIN session_head AS h USING (bucket, session_key)
    WHERE ($6::timestamptz IS NULL OR h.activity_time <= $6)
        AND ($7::timestamptz IS NULL OR s.end_time <= $7)
        :fits
    ORDER BY s.create_time, s.session_key
    LIMIT $8
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

-- name: count_policies
-- So that there aren't too many.
SELECT count(*)
FROM retention_policy
WHERE bucket = $1 AND tenant = $2;

-- name: read_policy
-- A policy by its id.
SELECT *
FROM retention_policy
WHERE bucket = $1 AND tenant = $2 AND policy_id = $3;

-- name: lock_policy
-- Before it is replaced or deleted.
SELECT *
FROM retention_policy
WHERE bucket = $1 AND tenant = $2 AND policy_id = $3
FOR UPDATE;

-- name: set_policy
-- A new policy, or the next version of one.
INSERT INTO retention_policy (
    bucket, tenant, policy_id, version, rule, dry_run, create_time, update_time, last_run_time
)
VALUES ($1, $2, $3, $4, $5, $6, statement_timestamp(), statement_timestamp(), NULL)
ON CONFLICT (bucket, tenant, policy_id) DO UPDATE
SET version = excluded.version, rule = excluded.rule, dry_run = excluded.dry_run,
    update_time = excluded.update_time
RETURNING *;

-- name: delete_policy
-- Its reports stay.
DELETE FROM retention_policy
WHERE bucket = $1 AND tenant = $2 AND policy_id = $3;

-- name: list_policies
-- A page by id.
SELECT *
FROM retention_policy
WHERE bucket = $1 AND tenant = $2 AND policy_id > $3
ORDER BY policy_id
LIMIT $4;

-- name: all_policies
-- What the job goes through, those first that weren't for longest.
SELECT *
FROM retention_policy
ORDER BY last_run_time NULLS FIRST, bucket, tenant, policy_id;

-- name: hold_policy
-- A policy that is followed isn't changed until what it deletes is committed; nothing if it was changed.
SELECT policy_id
FROM retention_policy
WHERE bucket = $1 AND tenant = $2 AND policy_id = $3 AND version = $4
FOR SHARE;

-- name: policy_was_run
-- Only of the version that was.
UPDATE retention_policy
SET last_run_time = statement_timestamp()
WHERE bucket = $1 AND tenant = $2 AND policy_id = $3 AND version = $4;

-- name: report_session
-- One more session of a report, which is made with its first.
WITH report AS (
    INSERT INTO retention_report AS r (
        bucket, tenant, report_id, policy_id, rule, dry_run, start_time, end_time, session_count,
        message_count, kept_count
    )
    VALUES (
        $1, $2, $3, $4, $5, $6, statement_timestamp(), statement_timestamp(), $10, $11,
        CASE WHEN $10::bigint = 0 THEN 1 ELSE 0 END
    )
    ON CONFLICT (bucket, tenant, report_id) DO UPDATE
    SET end_time = excluded.end_time,
        session_count = r.session_count + excluded.session_count,
        message_count = r.message_count + excluded.message_count,
        kept_count = r.kept_count + excluded.kept_count
)
INSERT INTO retention_report_session (
    bucket, tenant, report_id, item_no, session_id, outcome, session_count, message_count,
    detached_count, state, source, create_time, activity_time, end_time
)
VALUES ($1, $2, $3, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- name: list_reports
-- A page, the newest first.
SELECT *
FROM retention_report
WHERE bucket = $1 AND tenant = $2 AND ($3::text IS NULL OR policy_id = $3) AND report_id < $4
ORDER BY report_id DESC
LIMIT $5;

-- name: report_sessions
-- The sessions of reports.
SELECT *
FROM retention_report_session
WHERE bucket = $1 AND tenant = $2 AND report_id = ANY($3::uuid[])
ORDER BY report_id DESC, item_no;

-- name: drop_reports
-- The reports of a policy but for the newest $4.
WITH dropped AS (
    DELETE FROM retention_report
    WHERE bucket = $1 AND tenant = $2 AND policy_id = $3
        AND report_id <= (
            SELECT report_id
            FROM retention_report
            WHERE bucket = $1 AND tenant = $2 AND policy_id = $3
            ORDER BY report_id DESC
            OFFSET $4
            LIMIT 1
        )
    RETURNING report_id
)
DELETE FROM retention_report_session AS s
USING dropped
WHERE s.bucket = $1 AND s.tenant = $2 AND s.report_id = dropped.report_id;
