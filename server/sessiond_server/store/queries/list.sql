-- name: list_sessions
-- The keys of a page, of pinned sessions or of others. Conditions that aren't given aren't in the text: a plan
-- for all of them would take no index. And :rows is a number in it: of a limit that it doesn't know the
-- planner thinks that it is a tenth of all, and takes no index either.
SELECT s.bucket, s.session_key, s.pinned, s.:order_time AS order_time
FROM session AS s
WHERE s.tenant = :tenant
    AND s.pinned = :pinned
    AND (s.:order_time, s.session_key) < (:after_time::timestamptz, :after_key::uuid)
    :conditions
ORDER BY s.:order_time DESC, s.session_key DESC
LIMIT :rows;

-- name: list_sessions_merged
-- The same of several values of a column: the first of each are merged.
SELECT s.*
FROM unnest(:values::text[]) AS v (value)
CROSS JOIN LATERAL (
    SELECT s.bucket, s.session_key, s.pinned, s.:order_time AS order_time
    FROM session AS s
    WHERE s.tenant = :tenant
        AND s.:column = CAST(v.value AS :cast)
        AND s.pinned = :pinned
        AND (s.:order_time, s.session_key) < (:after_time::timestamptz, :after_key::uuid)
        :conditions
    ORDER BY s.:order_time DESC, s.session_key DESC
    LIMIT :rows
) AS s
ORDER BY s.order_time DESC, s.session_key DESC
LIMIT :rows;

-- name: count_listed
-- How many sessions a list holds, among the first :most that it has to look at; and how many it looked at.
SELECT count(*) FILTER (WHERE s.tenant = :tenant :conditions) AS fitting, count(*) AS looked_at
FROM (
    SELECT s.*
    FROM session AS s
    WHERE s.tenant = :tenant :narrow
    LIMIT :most
) AS s;

-- name: listing_root
-- The descendants of a session without a parent, by an index of their own.
s.root_id = :subtree_of AND s.parent_id IS NOT NULL

-- name: listing_itself
-- The session without a parent, which is one of its subtree.
s.session_id = :subtree_of

-- name: listing_placed_created_from
-- What the time of creation tells of the place in a list. A session is listed at a time at which it was active,
-- which is after it was created, or up to a day before if it was imported from a clock that is ahead. An index
-- serves this, which the condition itself has none for.
s.:order_time >= :created_from::timestamptz - interval '25 hours'

-- name: listing_placed_active_from
-- Likewise of the last activity, which a session is listed at within seconds, or up to a day before if messages were
-- imported.
s.:order_time >= :active_from::timestamptz - interval '25 hours'

-- name: listing_placed_active_before
-- Likewise, and in either order.
s.:order_time < :active_before::timestamptz

-- name: listing_settled_until
-- What changed later comes behind the list.
s.position <= :settled_until::bigint

-- name: root_of
-- Whether a subtree is a whole tree.
SELECT root_id
FROM session
WHERE tenant = $1 AND session_id = $2;

-- name: child_counts
-- How many children sessions have, each up to 1000; with an owner ($3), of that one's.
SELECT p.parent_id, c.children
FROM unnest($2::text[]) AS p (parent_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS children
    FROM (
        SELECT
        FROM session AS s
        WHERE s.tenant = $1 AND s.parent_id = p.parent_id AND ($3::text IS NULL OR s.owner = $3)
        LIMIT 1000
    ) AS s
) AS c
WHERE c.children > 0;

-- name: listing_keys
-- A list of sessions to list from.
(s.bucket, s.session_key) IN (
    SELECT k.bucket, k.session_key
    FROM unnest(:key_buckets::smallint[], :key_uuids::uuid[]) AS k (bucket, session_key)
)

-- name: listing_text
-- Whether a session has a text. It is asked of each in turn until the page is full.
EXISTS (
    SELECT
    FROM search_entry AS e
    WHERE e.bucket = s.bucket AND e.session_key = s.session_key
        AND e.document @@ :text::text::tsquery
        AND NOT EXISTS (
            SELECT
            FROM hidden_span AS w
            WHERE w.bucket = e.bucket AND w.session_key = e.session_key AND w.kind = 2
                AND e.seq BETWEEN w.from_seq AND w.to_seq
        )
    OFFSET 0
)
