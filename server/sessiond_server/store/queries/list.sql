-- name: list_sessions
-- The keys of a page, of pinned sessions or of others. Filters that aren't given aren't in the text: a plan
-- for all of them would take no index. And :rows is a number in it: of a limit that it doesn't know the
-- planner thinks that it is a tenth of all, and takes no index either.
SELECT s.bucket, s.session_key, s.pinned, s.:order_time AS order_time
FROM session AS s
WHERE s.tenant = :tenant
    AND s.pinned = :pinned
    AND (s.:order_time, s.session_key) < (:after_time::timestamptz, :after_key::uuid)
    :filters
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
        :filters
    ORDER BY s.:order_time DESC, s.session_key DESC
    LIMIT :rows
) AS s
ORDER BY s.order_time DESC, s.session_key DESC
LIMIT :rows;

-- name: count_listed
-- How many sessions a list holds, among the first :most that it has to look at; and how many it looked at.
SELECT count(*) FILTER (WHERE s.tenant = :tenant :filters) AS fitting, count(*) AS looked_at
FROM (
    SELECT s.*
    FROM session AS s
    WHERE s.tenant = :tenant :narrow
    LIMIT :most
) AS s;

-- name: filter_owner
-- By an index of its own.
s.owner = :owner

-- name: filter_sources
-- Several, where their lists aren't merged.
s.source = ANY(:sources::text[])

-- name: filter_source
-- By an index of its own.
s.source = :source

-- name: filter_exclude_sources
-- What is left.
s.source <> ALL(:exclude_sources::text[])

-- name: filter_agent
-- By an index of its own.
s.agent = :agent

-- name: filter_parent_id
-- By an index of its own.
s.parent_id = :parent_id

-- name: filter_root
-- The descendants of a session without a parent, by an index of their own.
s.root_id = :root AND s.parent_id IS NOT NULL

-- name: filter_subtree_of
-- The descendants of a session that has a parent.
s.session_id IN (
    WITH RECURSIVE tree AS (
        SELECT c.session_id
        FROM session AS c
        WHERE c.tenant = :tenant AND c.parent_id = :subtree_of
        UNION ALL
        SELECT c.session_id
        FROM tree AS t
        JOIN session AS c ON c.tenant = :tenant AND c.parent_id = t.session_id
    )
    SELECT session_id
    FROM tree
)

-- name: filter_states
-- Where the lists of states aren't merged.
s.state = ANY(:states::smallint[])

-- name: filter_labels
-- All of them.
s.labels @> :labels::text::jsonb

-- name: filter_idle_since
-- A session is listed at a time at which it was active, and created before that, so the first condition is
-- implied, and an index serves it.
s.:order_time < :idle_since::timestamptz
AND (
    SELECT h.activity_time
    FROM session_head AS h
    WHERE h.bucket = s.bucket AND h.session_key = s.session_key
) < :idle_since

-- name: filter_no_children
-- The condition of partial indexes.
s.parent_kind <> 1

-- name: filter_settled_until
-- What changed later comes behind the list.
s.position <= :settled_until::bigint

-- name: root_of
-- Whether a subtree is a whole tree.
SELECT root_id
FROM session
WHERE bucket = $1 AND session_key = $2;

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

-- name: filter_keys
-- A list of sessions to list from.
(s.bucket, s.session_key) IN (
    SELECT k.bucket, k.session_key
    FROM unnest(:key_buckets::smallint[], :key_uuids::uuid[]) AS k (bucket, session_key)
)

-- name: filter_text
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
