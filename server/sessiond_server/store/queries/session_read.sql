-- name: read_session
-- Facts and counters in one look; what is large only if $3 says so.
SELECT
    s.bucket, s.session_key, s.tenant, s.session_id, s.incarnation, s.owner, s.source, s.agent, s.title,
    s.title_source, s.pinned, s.archived, s.state, s.end_reason, s.parent_id, s.parent_kind, s.spawn_tool_call_id,
    s.fork_seq, s.root_id, s.spawn_depth, s.lifecycle, s.turn_index, s.fact_changes, s.create_request_id,
    s.create_time, s.update_time, s.listed_time, s.end_time,
    s.labels::text AS labels_json,
    CASE WHEN $3::boolean THEN s.metadata END AS metadata,
    coalesce(f.model, '') AS model,
    CASE
        WHEN $3 THEN (
            SELECT ARRAY[u.system_prompt, u.config]
            FROM full_setup AS u
            WHERE u.bucket = s.bucket AND u.session_key = s.session_key
                AND u.effective_seq = f.effective_seq
        )
    END AS texts,
    h.first_seq, h.next_seq, h.message_count, h.tool_call_count, h.context_message_count,
    h.context_token_count, h.context_changes, h.activity_time, h.offloaded_before_seq,
    (
        SELECT count(*)
        FROM waiting_tool_call AS w
        WHERE w.bucket = s.bucket AND w.session_key = s.session_key
    ) AS open_tool_call_count,
    (
        SELECT json_agg(
            json_build_array(
                u.currency, u.records, u.calls, u.input, u.output, u.cache_read, u.cache_write, u.reasoning,
                u.total, u.estimates, u.estimated::text, u.actuals, u.actual::text
            )
        )::text
        FROM (
            SELECT
                u.currency, sum(u.record_count) AS records, sum(u.model_calls) AS calls,
                sum(u.input_tokens) AS input, sum(u.output_tokens) AS output,
                sum(u.cache_read_tokens) AS cache_read, sum(u.cache_write_tokens) AS cache_write,
                sum(u.reasoning_tokens) AS reasoning, sum(u.total_tokens) AS total,
                sum(u.estimated_count) AS estimates, sum(u.estimated) AS estimated,
                sum(u.actual_count) AS actuals, sum(u.actual) AS actual
            FROM usage_sum AS u
            WHERE u.bucket = s.bucket AND u.session_key = s.session_key AND NOT u.inherited
            GROUP BY u.currency
            HAVING sum(u.record_count) > 0
        ) AS u
    ) AS usage_json,
    (
        SELECT json_build_array(
            b.provider, b.base_url, b.mode, b.cost_status, b.cost_source, b.pricing_version
        )::text
        FROM usage_billing AS b
        WHERE b.bucket = s.bucket AND b.session_key = s.session_key
    ) AS billing_json
FROM session AS s
JOIN session_head AS h USING (bucket, session_key)
JOIN unnest($1::smallint[], $2::uuid[]) WITH ORDINALITY AS k (bucket, session_key, place)
    USING (bucket, session_key)
LEFT JOIN LATERAL (
    SELECT f.effective_seq, f.model
    FROM session_setup AS f
    WHERE f.bucket = s.bucket AND f.session_key = s.session_key
    ORDER BY f.effective_seq DESC
    LIMIT 1
) AS f ON true
ORDER BY k.place;

-- name: full_sizes
-- How many bytes sessions take in full beyond what is always read, to read no more of them than fit a page.
SELECT
    s.bucket, s.session_key,
    octet_length(s.metadata) + coalesce(
        (
            SELECT octet_length(f.system_prompt) + octet_length(f.config)
            FROM full_setup AS f
            WHERE f.bucket = s.bucket AND f.session_key = s.session_key
            ORDER BY f.effective_seq DESC
            LIMIT 1
        ),
        0
    ) AS size
FROM session AS s
JOIN unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key) USING (bucket, session_key);

-- name: list_previews
-- What a list shows of each session's conversation: the beginnings of messages among which the first and the
-- last text is. A row without a seq says that there is nothing; each says where the session's offload ends.
SELECT k.place, h.offloaded_before_seq, m.seq, m.beginning, m.opening
FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::bigint[])
    WITH ORDINALITY AS k (bucket, session_key, first_seq, next_seq, place)
JOIN session_head AS h USING (bucket, session_key)
LEFT JOIN LATERAL (
    (
        SELECT m.seq, substring(m.payload FROM 1 FOR 4096) AS beginning, true AS opening
        FROM message AS m
        WHERE m.bucket = k.bucket AND m.session_key = k.session_key
            AND m.seq BETWEEN k.first_seq AND k.first_seq + 31
            AND m.role = 3 AND m.in_transcript
        ORDER BY m.seq
        LIMIT 2
    )
    UNION ALL
    (
        SELECT m.seq, substring(m.payload FROM 1 FOR 4096) AS beginning, false AS opening
        FROM message AS m
        WHERE m.bucket = k.bucket AND m.session_key = k.session_key
            AND m.seq BETWEEN k.next_seq - 32 AND k.next_seq - 1
            AND m.role IN (3, 4) AND m.in_transcript
        ORDER BY m.seq DESC
        LIMIT 8
    )
) AS m ON true
ORDER BY k.place, m.opening, m.seq DESC;

-- name: longer_beginnings
-- More of messages whose beginning shows nothing.
SELECT m.bucket, m.session_key, m.seq, substring(m.payload FROM 1 FOR 65536) AS beginning
FROM unnest($1::smallint[], $2::uuid[], $3::bigint[]) AS k (bucket, session_key, seq)
JOIN message AS m USING (bucket, session_key, seq);

-- name: continued
-- A session, the one that it continues, the one that that continues, and so on, $4 at most. With an owner
-- ($5) it ends before somebody else's.
WITH RECURSIVE chain AS (
    SELECT s.session_id, s.parent_id, s.parent_kind, 1 AS place
    FROM session AS s
    WHERE s.bucket = $1 AND s.session_key = $2
    UNION ALL
    SELECT p.session_id, p.parent_id, p.parent_kind, c.place + 1
    FROM chain AS c
    JOIN session AS p ON p.tenant = $3 AND p.session_id = c.parent_id
    WHERE c.parent_kind = 2 AND c.place < $4 AND ($5::text IS NULL OR p.owner = $5)
)
SELECT session_id
FROM chain
ORDER BY place;
