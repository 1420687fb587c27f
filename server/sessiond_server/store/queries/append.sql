-- name: append_messages
-- The heart: one statement stores the calls that are allowed, and returns how far the session of each had come
-- before all of them. $3 is 0, the seq that a call expects, or the negative of a revision. Heads
-- are locked in key order before anything is decided, since two batches would deadlock otherwise, and
-- conditions are tested against the locked rows. A client id that the session has already violates its
-- key: nothing is looked up for messages that are new, as nearly all are. What is left out or violates
-- is looked at one by one, see operations/appending.py. A call may be for a session of some origin alone: what
-- its birth says of owner, source, agent and parent must be so, if it isn't empty.
-- Client ids of offloaded messages are looked up, unless $11 says that this is done: a call is left out where
-- one may be there, and where the border has moved since this statement began, since it sees the segments of
-- then. A variant leaves out all calls to sessions with offloaded messages, and so costs less to begin.
WITH call AS MATERIALIZED (
    SELECT bucket, session_key, expected, writer_token, birth, call_no
    FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::text[], $5::text[])
        WITH ORDINALITY AS c (bucket, session_key, expected, writer_token, birth, call_no)
),
head AS MATERIALIZED (
    SELECT h.*
    FROM (SELECT DISTINCT bucket, session_key FROM call ORDER BY bucket, session_key) AS c
    CROSS JOIN LATERAL (
        SELECT *
        FROM session_head AS h
        WHERE h.bucket = c.bucket AND h.session_key = c.session_key
        FOR UPDATE
    ) AS h
),
met AS MATERIALIZED (
    SELECT c.call_no
    FROM unnest($6::text[], $7::bigint[]) AS i (client_id, facts)
    JOIN call AS c ON c.call_no = i.facts >> 47
    JOIN head AS h ON h.bucket = c.bucket AND h.session_key = c.session_key
    CROSS JOIN LATERAL (
        SELECT ARRAY[
            ('x' || left(encode(sha256(convert_to(h.session_key::text || i.client_id, 'UTF8')), 'hex'), 8))
                ::bit(32)::integer
        ] AS client_key
    ) AS k
    WHERE h.offloaded_before_seq > h.first_seq
        AND (
            EXISTS (
                SELECT
                FROM message_segment AS s
                WHERE s.bucket = h.bucket AND s.session_key = h.session_key
                    AND s.first_seq < h.first_seq + 4096 AND s.client_keys @> k.client_key
            )
            OR EXISTS (
                SELECT
                FROM (
                    SELECT s.bucket, s.session_key
                    FROM message_segment AS s
                    WHERE s.indexed_client_keys @> k.client_key
                    OFFSET 0
                ) AS s
                WHERE s.bucket = h.bucket AND s.session_key = h.session_key
            )
        )
),
allowed AS MATERIALIZED (
    SELECT
        c.call_no, h.bucket, h.session_key, h.next_seq, h.context_changes, h.context_token_count,
        h.activity_time
    FROM call AS c
    JOIN head AS h USING (bucket, session_key)
    WHERE h.state = 1
        AND c.expected IN (0, h.next_seq, -(h.next_seq + h.context_changes))
        AND (
            c.birth IS NULL
            OR EXISTS (
                SELECT
                FROM session AS s
                WHERE s.bucket = h.bucket AND s.session_key = h.session_key
                    AND split_part(c.birth, chr(31), 1) IN ('', s.owner)
                    AND split_part(c.birth, chr(31), 2) IN ('', s.source)
                    AND split_part(c.birth, chr(31), 3) IN ('', s.agent)
                    AND split_part(c.birth, chr(31), 4) IN ('', s.parent_kind || ' ' || s.parent_id)
            )
        )
        AND CASE c.writer_token
            WHEN '' THEN h.writer_expire_time <= clock_timestamp()
            ELSE c.writer_token = h.writer_token AND h.writer_expire_time > clock_timestamp()
        END
        AND (
            h.offloaded_before_seq <= h.first_seq
            OR $11::boolean
            OR (
                h.offloaded_before_seq = (
                    SELECT o.offloaded_before_seq
                    FROM session_head AS o
                    WHERE o.bucket = h.bucket AND o.session_key = h.session_key
                )
                AND c.call_no <> ALL (SELECT m.call_no FROM met AS m)
            )
        )
),
added AS MATERIALIZED (
    SELECT
        a.call_no, a.bucket, a.session_key, i.client_id, i.facts, i.payload,
        string_to_array(nullif(split_part(i.tools, chr(30), 1), ''), chr(31)) AS calls,
        string_to_array(nullif(split_part(i.tools, chr(30), 2), ''), chr(31)) AS results,
        nullif(split_part(i.tools, chr(30), 3), '') AS type,
        (i.facts >> 16 & 2147483647)::integer AS token_count,
        (i.facts & 2) <> 0 AS in_context,
        a.next_seq - 1 + row_number() OVER (PARTITION BY a.bucket, a.session_key ORDER BY i.item_no) AS seq,
        -- Strictly growing, so that messages of one time are those of one transaction.
        greatest(a.activity_time + interval '1 microsecond', statement_timestamp()) AS create_time
    FROM unnest($6::text[], $7::bigint[], $8::text[], $9::bytea[])
        WITH ORDINALITY AS i (client_id, facts, tools, payload, item_no)
    JOIN allowed AS a ON a.call_no = i.facts >> 47
),
growth AS MATERIALIZED (
    SELECT
        bucket, session_key, max(create_time) AS activity_time,
        count(*) AS messages,
        coalesce(sum(cardinality(calls)), 0) AS calls,
        count(*) FILTER (WHERE in_context) AS context_messages,
        coalesce(sum(token_count) FILTER (WHERE in_context), 0) AS context_tokens
    FROM added
    GROUP BY bucket, session_key
),
grown AS (
    UPDATE session_head AS h
    SET next_seq = h.next_seq + g.messages,
        message_count = h.message_count + g.messages,
        tool_call_count = h.tool_call_count + g.calls,
        context_message_count = h.context_message_count + g.context_messages,
        context_token_count = h.context_token_count + g.context_tokens,
        activity_time = g.activity_time,
        unsettled = true
    FROM growth AS g
    WHERE h.bucket = g.bucket AND h.session_key = g.session_key
),
result AS MATERIALIZED (
    SELECT a.bucket, a.session_key, r.tool_call_id, a.seq
    FROM added AS a
    CROSS JOIN unnest(a.results) AS r (tool_call_id)
    WHERE a.results IS NOT NULL
),
resulted AS (
    INSERT INTO tool_result (bucket, session_key, tool_call_id, seq)
    SELECT bucket, session_key, tool_call_id, seq
    FROM result
),
answered AS (
    DELETE FROM open_tool_call AS o
    USING result AS r
    WHERE o.bucket = r.bucket AND o.session_key = r.session_key AND o.tool_call_id = r.tool_call_id
),
opened AS (
    INSERT INTO open_tool_call (bucket, session_key, tool_call_id, seq, position)
    SELECT a.bucket, a.session_key, c.tool_call_id, a.seq, c.position
    FROM added AS a
    CROSS JOIN unnest(a.calls) WITH ORDINALITY AS c (tool_call_id, position)
    WHERE a.calls IS NOT NULL
        AND NOT EXISTS (
            SELECT
            FROM result AS r
            WHERE r.bucket = a.bucket AND r.session_key = a.session_key
                AND r.tool_call_id = c.tool_call_id AND r.seq >= a.seq
        )
),
stored AS (
    INSERT INTO message (
        bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript, summary,
        client_id, type, tool_call_ids, tool_result_ids, payload
    )
    SELECT
        bucket, session_key, seq, create_time, token_count,
        ((facts >> 8) & 255)::smallint, ((facts >> 2) & 63)::smallint, in_context, (facts & 1) <> 0,
        $10::boolean, client_id, type, calls, results, payload
    FROM added
)
SELECT call_no, next_seq, context_changes, context_token_count FROM allowed;

-- name: calls_with_known_messages
-- Which of these calls hold a message whose client id its session has. The order makes the index of
-- client ids the only one that serves: by estimates alone the planner may read whole sessions.
SELECT DISTINCT i.call_no
FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::integer[]) AS i (bucket, session_key, client_id, call_no)
WHERE i.client_id = (
    SELECT m.client_id
    FROM message AS m
    WHERE m.bucket = i.bucket AND m.session_key = i.session_key AND m.client_id >= i.client_id
    ORDER BY m.client_id
    LIMIT 1
);

-- name: known_messages
-- Which of these client ids the session has, and the bytes as they were first, whatever was changed later, where
-- they aren't those that are sent now; none where their lengths differ by more than $5. So nobody makes this read
-- much by sending little.
SELECT
    k.client_id, m.seq,
    CASE
        WHEN f.payload = k.payload THEN NULL
        WHEN abs(octet_length(f.payload) - octet_length(k.payload)) > $5::integer THEN ''::bytea
        ELSE f.payload
    END AS other
FROM unnest($3::text[], $4::bytea[]) AS k (client_id, payload)
JOIN message AS m ON m.bucket = $1 AND m.session_key = $2 AND m.client_id = k.client_id
LEFT JOIN LATERAL (
    SELECT r.payload
    FROM message_revision AS r
    WHERE r.bucket = $1 AND r.session_key = $2 AND r.seq = m.seq
    ORDER BY r.change_no
    LIMIT 1
) AS r ON true
CROSS JOIN LATERAL (SELECT coalesce(r.payload, m.payload) AS payload) AS f;
