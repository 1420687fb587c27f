-- name: count_sessions
-- The sessions that fit by state and by source: a row per state, then one per source, those with most sessions
-- first. At most $2 sessions are looked at, and at most $3 rows answered.
WITH counted AS MATERIALIZED (
    SELECT s.bucket, s.session_key, s.state, s.source, s.parent_kind
    FROM session AS s
    WHERE s.tenant = $1 :fits
    LIMIT $2
)
SELECT
    c.state, c.source, count(*) AS sessions,
    count(*) FILTER (WHERE c.parent_kind = 1) AS subagents,
    sum(h.message_count)::bigint AS messages,
    sum(h.tool_call_count)::bigint AS tool_calls
FROM counted AS c
JOIN session_head AS h USING (bucket, session_key)
GROUP BY GROUPING SETS ((c.state), (c.source))
ORDER BY c.state, sessions DESC, c.source
LIMIT $3;

-- name: hot_bytes
-- What the messages of the sessions that fit take, all of them looked at.
SELECT coalesce(sum(octet_length(m.payload)), 0)::bigint
FROM session AS s
JOIN message AS m USING (bucket, session_key)
WHERE s.tenant = $1 :fits;

-- name: offloaded_totals
-- What is offloaded of at most $2 sessions that fit: messages, their bytes, and what they take compressed.
SELECT
    coalesce(sum(g.last_seq - g.first_seq + 1), 0)::bigint AS messages,
    coalesce(sum(g.message_bytes), 0)::bigint AS bytes,
    coalesce(sum(octet_length(g.content)), 0)::bigint AS stored_bytes
FROM (
    SELECT s.bucket, s.session_key
    FROM session AS s
    WHERE s.tenant = $1 :fits
    LIMIT $2
) AS s
JOIN message_segment AS g USING (bucket, session_key);

-- name: hot_bytes_sampled
-- The mean size of a message in blocks chosen at random, $2 of them at most.
SELECT avg(octet_length(m.payload))::double precision
FROM message AS m
TABLESAMPLE SYSTEM (least(100, 100 * $2::real / greatest(1, pg_relation_size('message') / 8192)))
JOIN session AS s USING (bucket, session_key)
WHERE s.tenant = $1 :fits;
