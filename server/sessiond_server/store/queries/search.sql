-- name: lock_search_progress
-- Whoever writes or deletes entries of a session begins here, so that they do it one after the other. The
-- row is made if there is none, since what isn't there can't be locked. The head isn't locked: appends go on.
INSERT INTO search_progress AS p (bucket, session_key, indexed_seq, entry_version, change_no, title)
SELECT bucket, session_key, 0, $3, 0, NULL
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
ORDER BY bucket, session_key
ON CONFLICT (bucket, session_key) DO UPDATE
SET change_no = p.change_no + $4::integer
RETURNING bucket, session_key, indexed_seq, entry_version, change_no;

-- name: sessions_to_index
-- How sessions stand, for those who make their entries.
SELECT
    s.bucket, s.session_key, s.incarnation, s.tenant, s.owner, s.source, s.title, s.create_time,
    h.first_seq, h.next_seq, coalesce(p.indexed_seq, 0) AS indexed_seq,
    coalesce(p.entry_version, 0) AS entry_version, coalesce(p.change_no, 0) AS change_no,
    p.title AS indexed_title
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
JOIN session AS s USING (bucket, session_key)
JOIN session_head AS h USING (bucket, session_key)
LEFT JOIN search_progress AS p USING (bucket, session_key);

-- name: sweep_for_search
-- The next heads in key order, and which of the sessions aren't indexed to their end: what no hint told of
-- is found so.
WITH page AS MATERIALIZED (
    SELECT bucket, session_key, first_seq, next_seq
    FROM session_head
    WHERE (bucket, session_key) > ($1, $2)
    ORDER BY bucket, session_key
    LIMIT $3
),
last_one AS (
    SELECT bucket, session_key
    FROM page
    ORDER BY bucket DESC, session_key DESC
    LIMIT 1
)
SELECT
    h.bucket, h.session_key,
    p.entry_version IS DISTINCT FROM $4
        OR greatest(p.indexed_seq, h.first_seq - 1) < h.next_seq - 1
        OR p.title IS DISTINCT FROM s.title AS lagging
FROM page AS h
JOIN session AS s USING (bucket, session_key)
LEFT JOIN search_progress AS p USING (bucket, session_key)
WHERE p.entry_version IS DISTINCT FROM $4
    OR greatest(p.indexed_seq, h.first_seq - 1) < h.next_seq - 1
    OR p.title IS DISTINCT FROM s.title
    OR (h.bucket, h.session_key) = (SELECT bucket, session_key FROM last_one)
ORDER BY h.bucket, h.session_key;

-- name: oldest_transaction
-- Since when all that was begun is committed.
SELECT coalesce(min(xact_start), clock_timestamp())
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND backend_type = 'client backend';

-- name: forget_entries
-- Of ranges of seqs, before they are made anew.
DELETE FROM search_entry AS e
USING unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::bigint[]) AS k (bucket, session_key, low, high)
WHERE e.bucket = k.bucket AND e.session_key = k.session_key AND e.seq BETWEEN k.low AND k.high;

-- name: write_entries
-- The entries of messages, with the scope of each as words of its own.
INSERT INTO search_entry (
    bucket, session_key, seq, piece, tenant, owner, source, role, create_time, document
)
SELECT
    bucket, session_key, seq, piece, tenant, owner, source, role, create_time, document::tsvector
FROM unnest(
    $1::smallint[], $2::uuid[], $3::bigint[], $4::smallint[], $5::text[], $6::text[], $7::text[],
    $8::smallint[], $9::timestamptz[], $10::text[]
) AS e (bucket, session_key, seq, piece, tenant, owner, source, role, create_time, document);

-- name: advance_progress
-- How far sessions are indexed now.
UPDATE search_progress AS p
SET indexed_seq = k.indexed_seq, entry_version = $5, title = k.title
FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::text[]) AS k (bucket, session_key, indexed_seq, title)
WHERE p.bucket = k.bucket AND p.session_key = k.session_key;

-- name: read_progress
-- How far a session is indexed.
SELECT greatest(h.first_seq - 1, CASE WHEN p.entry_version = $3 THEN p.indexed_seq END, 0)
FROM session_head AS h
LEFT JOIN search_progress AS p USING (bucket, session_key)
WHERE h.bucket = $1 AND h.session_key = $2;

-- name: forget_progress
-- So that these sessions are indexed anew; their entries serve until then.
UPDATE search_progress AS p
SET entry_version = 0, change_no = p.change_no + 1
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
WHERE p.bucket = k.bucket AND p.session_key = k.session_key;

-- name: sessions_of_tenant
-- A page of all sessions of a tenant by id.
SELECT bucket, session_key, session_id
FROM session
WHERE tenant = $1 AND session_id > $2
ORDER BY session_id
LIMIT $3;

-- name: read_complete_time
-- Everything that was appended before it is indexed.
SELECT complete_time
FROM search_state
WHERE bucket = 0 AND entry_version = $1;

-- name: write_complete_time
-- After all sessions were looked at.
INSERT INTO search_state AS s (bucket, entry_version, complete_time)
VALUES (0, $1, $2)
ON CONFLICT (bucket, entry_version) DO UPDATE
SET complete_time = greatest(s.complete_time, excluded.complete_time);

-- name: search_lag
-- Sessions that fit and aren't indexed to their end, and how many messages aren't, among $2 sessions.
SELECT count(*) AS sessions, coalesce(sum(l.messages), 0)::bigint AS messages
FROM (
    SELECT s.bucket, s.session_key
    FROM session AS s
    WHERE s.tenant = $1 :fits
    LIMIT $2
) AS s
JOIN session_head AS h USING (bucket, session_key)
LEFT JOIN search_progress AS p USING (bucket, session_key)
CROSS JOIN LATERAL (
    SELECT h.next_seq - 1 - greatest(
        CASE WHEN p.entry_version = $3 THEN p.indexed_seq END, h.first_seq - 1
    ) AS messages
) AS l
WHERE l.messages > 0;

-- name: search_settings
-- For the search at hand alone: plans are made for its words, from the index of words, and it ends in time.
SELECT
    set_config('statement_timeout', $1, true),
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('enable_seqscan', 'off', true),
    set_config('enable_indexscan', $2, true),
    set_config('enable_bitmapscan', $3, true);

-- name: search_entries
-- A page of what is found among entries, of which so many at most are looked at as candidates. $1 the words
-- with their scope, $2 those that count for the rank, $3 … $10 conditions (null is any), $11 whether rewound
-- messages count, $12 … $14 what candidates are older than, $15 how many candidates, $16 whether the newest
-- come first, $17 … $20 the last one of the page before, $21 the size. If there are as many candidates as
-- may be, only their number is told.
WITH candidate AS MATERIALIZED (
    SELECT e.bucket, e.session_key, e.seq, e.create_time, e.document
    FROM :entries AS e
    WHERE e.document @@ $1::text::tsquery
        AND e.seq > 0
        AND e.tenant = $3
        AND ($4::text IS NULL OR e.owner = $4)
        AND ($5::text[] IS NULL OR e.source = ANY($5))
        AND ($6::text[] IS NULL OR e.source <> ALL($6))
        AND ($7::smallint[] IS NULL OR e.role = ANY($7))
        AND ($8::timestamptz IS NULL OR e.create_time >= $8)
        AND ($9::timestamptz IS NULL OR e.create_time < $9)
        AND ($10::uuid[] IS NULL OR e.session_key = ANY($10))
        AND (
            $11::boolean
            OR NOT EXISTS (
                SELECT
                FROM hidden_span AS s
                WHERE s.bucket = e.bucket AND s.session_key = e.session_key AND s.kind = 2
                    AND e.seq BETWEEN s.from_seq AND s.to_seq
            )
        )
        AND (e.create_time, e.session_key, e.seq) < ($12::timestamptz, $13::uuid, $14::bigint)
        :fits_of_e
    :order
    LIMIT $15
),
total AS MATERIALIZED (
    SELECT count(*) AS candidates
    FROM candidate
),
hit AS (
    SELECT DISTINCT ON (c.bucket, c.session_key, c.seq)
        c.bucket, c.session_key, c.seq, c.create_time, r.rank,
        CASE WHEN $16::boolean THEN 0 ELSE r.rank END AS sort_rank
    FROM total AS t
    JOIN candidate AS c ON t.candidates < $15 OR :ordered
    CROSS JOIN LATERAL ts_rank('{0.1, 0.2, 0.4, 1.0}', c.document, $2::text::tsquery, 1) AS r (rank)
    ORDER BY c.bucket, c.session_key, c.seq, r.rank DESC
),
page AS (
    SELECT *
    FROM hit
    WHERE (sort_rank, create_time, session_key, seq)
        < ($17::real, $18::timestamptz, $19::uuid, $20::bigint)
    ORDER BY sort_rank DESC, create_time DESC, session_key DESC, seq DESC
    LIMIT $21
)
SELECT t.candidates, p.bucket, p.session_key, p.seq, p.create_time, p.rank
FROM total AS t
LEFT JOIN page AS p ON true
ORDER BY p.sort_rank DESC, p.create_time DESC, p.session_key DESC, p.seq DESC;

-- name: many_entries
-- Among which to search when too much is found, but little among the newest: the first $22 of a scope.
(
    SELECT *
    FROM search_entry AS e
    WHERE e.document @@ $1::text::tsquery
    LIMIT $22
);

-- name: newest_entries
-- Among which to search when too much is found: the newest $22 of a tenant or an owner.
(
    SELECT *
    FROM search_entry AS e
    WHERE e.tenant = $3 AND ($4::text IS NULL OR e.owner = $4)
        AND (e.create_time, e.session_key, e.seq) < ($12::timestamptz, $13::uuid, $14::bigint)
    ORDER BY e.create_time DESC, e.session_key DESC, e.seq DESC
    LIMIT $22
);

-- name: newest_entries_of_sessions
-- The same within sessions, of each the newest $22; $23 are their buckets.
(
    SELECT e.*
    FROM unnest($23::smallint[], $10::uuid[]) AS k (bucket, session_key)
    CROSS JOIN LATERAL (
        SELECT *
        FROM search_entry AS e
        WHERE e.bucket = k.bucket AND e.session_key = k.session_key
            AND (e.create_time, e.session_key, e.seq) < ($12::timestamptz, $13::uuid, $14::bigint)
        ORDER BY e.seq DESC
        LIMIT $22
    ) AS e
);

-- name: newest_walked
-- Where a search among the newest $6 entries ended.
SELECT e.create_time, e.session_key, e.seq
FROM search_entry AS e
WHERE e.tenant = $1 AND ($2::text IS NULL OR e.owner = $2)
    AND (e.create_time, e.session_key, e.seq) < ($3::timestamptz, $4::uuid, $5::bigint)
ORDER BY e.create_time DESC, e.session_key DESC, e.seq DESC
OFFSET $6 - 1
LIMIT 1;

-- name: newest_walked_of_sessions
-- The same of sessions: where the first of them to end did.
SELECT e.create_time, e.session_key, e.seq
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
CROSS JOIN LATERAL (
    SELECT e.create_time, e.session_key, e.seq
    FROM search_entry AS e
    WHERE e.bucket = k.bucket AND e.session_key = k.session_key
        AND (e.create_time, e.session_key, e.seq) < ($3::timestamptz, $4::uuid, $5::bigint)
    ORDER BY e.seq DESC
    OFFSET $6 - 1
    LIMIT 1
) AS e
ORDER BY e.create_time DESC, e.session_key DESC, e.seq DESC
LIMIT 1;

-- name: search_messages_at
-- The messages of hits, as far as they aren't offloaded.
SELECT m.bucket, m.session_key, m.seq, m.create_time, m.summary, m.payload
FROM unnest($1::smallint[], $2::uuid[], $3::bigint[]) AS k (bucket, session_key, seq)
JOIN message AS m
    ON m.bucket = k.bucket AND m.session_key = k.session_key AND m.seq = k.seq;

-- name: search_marks
-- What hides the messages of hits now; as in spans_over, for several sessions.
SELECT k.bucket, k.session_key, k.seq, s.kind, s.summary_seq
FROM unnest($1::smallint[], $2::uuid[], $3::bigint[]) AS k (bucket, session_key, seq)
LEFT JOIN compaction AS c
    ON c.bucket = k.bucket AND c.session_key = k.session_key AND c.summary_seq = k.seq
CROSS JOIN LATERAL (
    VALUES (1::smallint, coalesce(c.from_seq, k.seq)), (2::smallint, k.seq)
) AS p (kind, seq)
CROSS JOIN LATERAL (
    SELECT s.kind, s.summary_seq, s.to_seq
    FROM hidden_span AS s
    WHERE s.bucket = k.bucket AND s.session_key = k.session_key AND s.kind = p.kind
        AND s.from_seq <= p.seq
    ORDER BY s.from_seq DESC
    LIMIT 1
) AS s
WHERE s.to_seq >= p.seq AND s.summary_seq IS DISTINCT FROM k.seq
    AND (p.kind = 2 OR c.revert_time IS NULL);

-- name: search_sessions
-- What sessions are called, for the hits in them.
SELECT s.bucket, s.session_key, s.session_id, s.title
FROM session AS s
JOIN unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key) USING (bucket, session_key)
WHERE s.tenant = $3;

-- name: keys_of_family
-- The sessions of a family that fit, $2 at most.
SELECT s.bucket, s.session_key
FROM session AS s
WHERE s.tenant = $1 :fits
LIMIT $2;

-- name: forget_session_progress
-- Of sessions that were deleted while entries were made of them.
DELETE FROM search_progress AS p
USING unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
WHERE p.bucket = k.bucket AND p.session_key = k.session_key;

-- name: sessions_with_text
-- Which sessions have it in their title or a message that isn't rewound, of those in which the first $4 such
-- entries are. $1 the words with their scope, $2 tenant, $3 owner.
WITH found AS MATERIALIZED (
    SELECT e.bucket, e.session_key
    FROM search_entry AS e
    WHERE e.document @@ $1::text::tsquery
        AND e.tenant = $2
        AND ($3::text IS NULL OR e.owner = $3)
        AND NOT EXISTS (
            SELECT
            FROM hidden_span AS s
            WHERE s.bucket = e.bucket AND s.session_key = e.session_key AND s.kind = 2
                AND e.seq BETWEEN s.from_seq AND s.to_seq
        )
    LIMIT $4
)
SELECT bucket, session_key, (SELECT count(*) FROM found) AS entries
FROM found
GROUP BY bucket, session_key;
