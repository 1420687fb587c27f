-- name: list_messages
-- A page of the log, without the ranges that the caller skips: $3, $4 the ranges to read in order, $5 only
-- the transcript, $6 roles, $7 kinds, $8 types, $9 the size, $10 how many bytes at most. `available` counts
-- what there is, up to the size, so that a page cut by its bytes says that there is more. A row without a seq
-- says that there is nothing; each says where the offload border was then.
SELECT m.seq, m.create_time, m.summary, m.payload, m.available, m.segment, h.offloaded_before_seq
FROM session_head AS h
LEFT JOIN LATERAL (
    SELECT
        m.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(octet_length(m.payload) + 64) OVER page AS bytes
    FROM (
        SELECT m.*, r.place AS segment
        FROM unnest($3::bigint[], $4::bigint[]) WITH ORDINALITY AS r (low, high, place)
        CROSS JOIN LATERAL (
            SELECT m.seq, m.create_time, m.summary, m.payload
            FROM message AS m
            WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq BETWEEN r.low AND r.high
                AND (m.in_transcript OR NOT $5::boolean)
                AND ($6::smallint[] IS NULL OR m.role = ANY($6))
                AND ($7::smallint[] IS NULL OR m.kind = ANY($7))
                AND ($8::text[] IS NULL OR coalesce(m.type, '') = ANY($8))
            ORDER BY m.seq :direction
            LIMIT $9
        ) AS m
        ORDER BY r.place, m.seq :direction
        LIMIT $9
    ) AS m
    WINDOW page AS (ORDER BY m.seq :direction ROWS UNBOUNDED PRECEDING)
) AS m ON m.place = 1 OR m.bytes <= $10
WHERE h.bucket = $1 AND h.session_key = $2
ORDER BY m.seq :direction;

-- name: read_border
-- Below which seq a session's messages are offloaded.
SELECT offloaded_before_seq
FROM session_head
WHERE bucket = $1 AND session_key = $2;

-- name: message_by_seq
-- One message.
SELECT seq, create_time, summary, payload
FROM message
WHERE bucket = $1 AND session_key = $2 AND seq = $3;

-- name: message_by_client_id
-- One message by the id that its writer gave it.
SELECT seq, create_time, summary, payload
FROM message
WHERE bucket = $1 AND session_key = $2 AND client_id = $3;

-- name: seq_at_time
-- The first seq whose message was appended at a time or later, by bisection: times grow with the seq.
WITH RECURSIVE bisection AS (
    SELECT $3::bigint AS low, $4::bigint AS high
    UNION ALL
    SELECT
        CASE WHEN m.create_time < $5 THEN (b.low + b.high) / 2 + 1 ELSE b.low END,
        CASE WHEN m.create_time < $5 THEN b.high ELSE (b.low + b.high) / 2 END
    FROM bisection AS b
    JOIN message AS m
        ON m.bucket = $1 AND m.session_key = $2 AND m.seq = (b.low + b.high) / 2
    WHERE b.low < b.high
)
SELECT low
FROM bisection
WHERE low = high;

-- name: rewound_from
-- Rewound spans that end at a seq or later, in order.
SELECT from_seq, to_seq
FROM hidden_span
WHERE bucket = $1 AND session_key = $2 AND kind = 2 AND from_seq <= $4
    AND from_seq >= coalesce((
        SELECT max(b.from_seq)
        FROM hidden_span AS b
        WHERE b.bucket = $1 AND b.session_key = $2 AND b.kind = 2 AND b.from_seq <= $3
    ), 0)
ORDER BY from_seq
LIMIT $5;

-- name: rewound_before
-- Rewound spans that begin at a seq or earlier, the last first.
SELECT from_seq, to_seq
FROM hidden_span
WHERE bucket = $1 AND session_key = $2 AND kind = 2 AND from_seq <= $3 AND to_seq >= $4
ORDER BY from_seq DESC
LIMIT $5;

-- name: spans_over
-- Which rewound and compacted spans the messages of a page stand in, for their marks. A summary stands where
-- the range that it replaces does, and nowhere once it is reverted.
SELECT k.seq, s.kind, s.summary_seq
FROM unnest($3::bigint[]) AS k (seq)
LEFT JOIN compaction AS c
    ON c.bucket = $1 AND c.session_key = $2 AND c.summary_seq = k.seq
CROSS JOIN LATERAL (
    VALUES (1::smallint, coalesce(c.from_seq, k.seq)), (2::smallint, k.seq)
) AS p (kind, seq)
CROSS JOIN LATERAL (
    SELECT s.kind, s.summary_seq, s.to_seq
    FROM hidden_span AS s
    WHERE s.bucket = $1 AND s.session_key = $2 AND s.kind = p.kind AND s.from_seq <= p.seq
    ORDER BY s.from_seq DESC
    LIMIT 1
) AS s
WHERE s.to_seq >= p.seq AND s.summary_seq IS DISTINCT FROM k.seq
    AND (p.kind = 2 OR c.revert_time IS NULL);

-- name: summary_ranges
-- What the summaries of a page replace.
SELECT summary_seq, from_seq, to_seq
FROM compaction
WHERE bucket = $1 AND session_key = $2 AND summary_seq = ANY($3::bigint[]);

-- name: size_of_messages
-- What an update would have to hold in memory.
SELECT coalesce(sum(octet_length(payload)), 0)::bigint AS size
FROM message
WHERE bucket = $1 AND session_key = $2 AND seq = ANY($3::bigint[]);

-- name: messages_to_update
-- The current versions, in order.
SELECT seq, create_time, token_count, kind, in_context, in_transcript, type, summary, payload
FROM message
WHERE bucket = $1 AND session_key = $2 AND seq = ANY($3::bigint[]);

-- name: save_revisions
-- The versions that UpdateMessages replaces, for contexts as of an earlier seq.
INSERT INTO message_revision (
    bucket, session_key, seq, change_no, effective_seq, token_count, kind, in_context, in_transcript, type,
    payload
)
SELECT
    m.bucket, m.session_key, m.seq, $4, $5, m.token_count, m.kind, m.in_context, m.in_transcript, m.type,
    m.payload
FROM message AS m
WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq = ANY($3::bigint[]);

-- name: replace_messages
-- The new versions.
UPDATE message AS m
SET token_count = u.token_count, kind = u.kind, in_context = u.in_context,
    in_transcript = u.in_transcript, type = u.type, payload = u.payload
FROM unnest(
    $3::bigint[], $4::integer[], $5::smallint[], $6::boolean[], $7::boolean[], $8::text[], $9::bytea[]
) AS u (seq, token_count, kind, in_context, in_transcript, type, payload)
WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq = u.seq;

-- name: open_tool_calls
-- A page of the calls that wait for their results.
SELECT o.seq, o.position
FROM waiting_tool_call AS o
WHERE o.bucket = $1 AND o.session_key = $2 AND (o.seq, o.position) > ($3::bigint, $4::bigint)
ORDER BY o.seq, o.position
LIMIT $5;

-- name: forget_open_tool_calls
-- Before they are derived anew.
DELETE FROM open_tool_call
WHERE bucket = $1 AND session_key = $2;

-- name: derive_open_tool_calls
-- From the log itself, after a rewind or its revert; costs a look at all tool messages.
INSERT INTO open_tool_call (bucket, session_key, tool_call_id, seq, position)
SELECT m.bucket, m.session_key, c.tool_call_id, m.seq, c.position
FROM message AS m
CROSS JOIN unnest(m.tool_call_ids) WITH ORDINALITY AS c (tool_call_id, position)
WHERE m.bucket = $1 AND m.session_key = $2 AND m.tool_call_ids IS NOT NULL
    AND NOT EXISTS (
        SELECT
        FROM hidden_span AS w
        WHERE w.bucket = m.bucket AND w.session_key = m.session_key AND w.kind = 2
            AND m.seq BETWEEN w.from_seq AND w.to_seq
    )
    AND NOT EXISTS (
        SELECT
        FROM tool_answer AS a
        WHERE a.bucket = m.bucket AND a.session_key = m.session_key
            AND a.tool_call_id = c.tool_call_id AND a.seq >= m.seq
    );
