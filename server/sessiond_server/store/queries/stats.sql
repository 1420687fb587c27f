-- name: count_sessions
-- The sessions of a tenant or an owner by state and by source: a row per state, then one per source, those
-- with most sessions first. At most $3 sessions are looked at, and at most $4 rows answered.
WITH counted AS MATERIALIZED (
    SELECT bucket, session_key, state, source, parent_kind
    FROM session
    WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2)
    LIMIT $3
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
LIMIT $4;

-- name: hot_bytes
-- What the messages of a tenant or an owner take, all of them looked at.
SELECT coalesce(sum(octet_length(m.payload)), 0)::bigint
FROM session AS s
JOIN message AS m USING (bucket, session_key)
WHERE s.tenant = $1 AND ($2::text IS NULL OR s.owner = $2);

-- name: offloaded_totals
-- What is offloaded of at most $3 sessions: messages, their bytes, and what they take compressed.
SELECT
    coalesce(sum(g.last_seq - g.first_seq + 1), 0)::bigint AS messages,
    coalesce(sum(g.message_bytes), 0)::bigint AS bytes,
    coalesce(sum(octet_length(g.content)), 0)::bigint AS stored_bytes
FROM (
    SELECT bucket, session_key
    FROM session
    WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2)
    LIMIT $3
) AS s
JOIN message_segment AS g USING (bucket, session_key);

-- name: hot_bytes_sampled
-- The mean size of a message in blocks chosen at random, $3 of them at most.
SELECT avg(octet_length(m.payload))::double precision
FROM message AS m
TABLESAMPLE SYSTEM (least(100, 100 * $3::real / greatest(1, pg_relation_size('message') / 8192)))
JOIN session AS s USING (bucket, session_key)
WHERE s.tenant = $1 AND ($2::text IS NULL OR s.owner = $2);
