-- name: context_map
-- What the context is made of, in one look: counters, and what is hidden in it now.
SELECT
    h.first_seq, h.next_seq, h.offloaded_before_seq, h.context_message_count, h.context_token_count,
    h.context_changes,
    (
        SELECT array_agg(ARRAY[p.from_seq, p.to_seq, coalesce(p.summary_seq, 0)] ORDER BY p.from_seq)
        FROM hidden_span AS p
        WHERE p.bucket = $1 AND p.session_key = $2 AND NOT p.covered
    ) AS spans
FROM session_head AS h
WHERE h.bucket = $1 AND h.session_key = $2;

-- name: compaction_history
-- Every compaction, as far as the context goes.
SELECT summary_seq, from_seq, to_seq, revert_effective_seq
FROM compaction
WHERE bucket = $1 AND session_key = $2
ORDER BY summary_seq;

-- name: rewind_history
-- Every rewind, as far as the context goes.
SELECT rewind_id, after_seq, to_seq, effective_seq, revert_effective_seq
FROM rewind
WHERE bucket = $1 AND session_key = $2
ORDER BY rewind_id;

-- name: context_page
-- A page of the context in its order: $3 … $5 the segments (from, to, whether it is a summary), $6 only
-- messages in these roles, $7 of these kinds, $8 of these types, $9 the size, $10 how many bytes at most. A
-- row without a seq says that there is nothing; each says where the offload border was then.
SELECT m.segment, m.seq, m.create_time, m.summary, m.payload, m.available, h.offloaded_before_seq
FROM session_head AS h
LEFT JOIN LATERAL (
    SELECT
        m.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(octet_length(m.payload) + 64) OVER page AS bytes
    FROM (
        SELECT g.segment, m.seq, m.create_time, m.summary, m.payload
        FROM unnest($3::bigint[], $4::bigint[], $5::boolean[])
            WITH ORDINALITY AS g (low, high, summary, segment)
        CROSS JOIN LATERAL (
            SELECT m.seq, m.create_time, m.summary, m.payload
            FROM message AS m
            WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq BETWEEN g.low AND g.high
                AND m.summary = g.summary AND m.in_context
                AND ($6::smallint[] IS NULL OR m.role = ANY($6))
                AND ($7::smallint[] IS NULL OR m.kind = ANY($7))
                AND ($8::text[] IS NULL OR coalesce(m.type, '') = ANY($8))
            ORDER BY m.seq :direction
            LIMIT $9
        ) AS m
        ORDER BY g.segment, m.seq :direction
        LIMIT $9
    ) AS m
    WINDOW page AS (ORDER BY m.segment, m.seq :direction ROWS UNBOUNDED PRECEDING)
) AS m ON m.place = 1 OR m.bytes <= $10
WHERE h.bucket = $1 AND h.session_key = $2
ORDER BY m.segment, m.seq :direction;

-- name: context_page_as_of
-- A page of the context as of message $6: each message in the version that was valid then.
SELECT segment, seq, create_time, summary, payload, available
FROM (
    SELECT
        m.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(octet_length(m.payload) + 64) OVER page AS bytes
    FROM (
        SELECT g.segment, m.seq, m.create_time, m.summary, m.payload
        FROM unnest($3::bigint[], $4::bigint[], $5::boolean[])
            WITH ORDINALITY AS g (low, high, summary, segment)
        CROSS JOIN LATERAL (
            SELECT m.seq, m.create_time, m.summary, coalesce(r.payload, m.payload) AS payload
            FROM message AS m
            LEFT JOIN LATERAL (
                SELECT r.payload, r.in_context
                FROM message_revision AS r
                WHERE r.bucket = $1 AND r.session_key = $2 AND r.seq = m.seq AND r.effective_seq > $6
                ORDER BY r.change_no
                LIMIT 1
            ) AS r ON true
            WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq BETWEEN g.low AND g.high
                AND m.summary = g.summary AND coalesce(r.in_context, m.in_context)
            ORDER BY m.seq
            LIMIT $7
        ) AS m
        ORDER BY g.segment, m.seq
        LIMIT $7
    ) AS m
    WINDOW page AS (ORDER BY m.segment, m.seq ROWS UNBOUNDED PRECEDING)
) AS m
WHERE place = 1 OR bytes <= $8
ORDER BY segment, seq;

-- name: context_outline
-- The context without its contents: for limits, plans and checks. Segments come in the order of reading.
SELECT g.segment, m.seq, m.summary, m.role, m.token_count, m.tool_call_ids, m.tool_result_ids
FROM unnest($3::bigint[], $4::bigint[], $5::boolean[]) WITH ORDINALITY AS g (low, high, summary, segment)
CROSS JOIN LATERAL (
    SELECT m.seq, m.summary, m.role, m.token_count, m.tool_call_ids, m.tool_result_ids
    FROM message AS m
    WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq BETWEEN g.low AND g.high
        AND m.summary = g.summary AND m.in_context
    ORDER BY m.seq :direction
    LIMIT $6
) AS m
ORDER BY g.segment, m.seq :direction
LIMIT $6;

-- name: context_outline_as_of
-- The same as of message $6.
SELECT g.segment, m.seq, m.summary, m.role, m.token_count, m.tool_call_ids, m.tool_result_ids
FROM unnest($3::bigint[], $4::bigint[], $5::boolean[]) WITH ORDINALITY AS g (low, high, summary, segment)
CROSS JOIN LATERAL (
    SELECT
        m.seq, m.summary, m.role, coalesce(r.token_count, m.token_count) AS token_count,
        m.tool_call_ids, m.tool_result_ids
    FROM message AS m
    LEFT JOIN LATERAL (
        SELECT r.token_count, r.in_context
        FROM message_revision AS r
        WHERE r.bucket = $1 AND r.session_key = $2 AND r.seq = m.seq AND r.effective_seq > $6
        ORDER BY r.change_no
        LIMIT 1
    ) AS r ON true
    WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq BETWEEN g.low AND g.high
        AND m.summary = g.summary AND coalesce(r.in_context, m.in_context)
    ORDER BY m.seq :direction
    LIMIT $7
) AS m
ORDER BY g.segment, m.seq :direction
LIMIT $7;

-- name: context_totals_as_of
-- What the context held as of message $6.
SELECT count(*) AS messages, coalesce(sum(coalesce(r.token_count, m.token_count)), 0)::bigint AS tokens
FROM unnest($3::bigint[], $4::bigint[], $5::boolean[]) AS g (low, high, summary)
JOIN message AS m
    ON m.bucket = $1 AND m.session_key = $2 AND m.seq BETWEEN g.low AND g.high AND m.summary = g.summary
LEFT JOIN LATERAL (
    SELECT r.token_count, r.in_context
    FROM message_revision AS r
    WHERE r.bucket = $1 AND r.session_key = $2 AND r.seq = m.seq AND r.effective_seq > $6
    ORDER BY r.change_no
    LIMIT 1
) AS r ON true
WHERE coalesce(r.in_context, m.in_context);

-- name: forget_spans
-- Before they are derived anew.
DELETE FROM hidden_span
WHERE bucket = $1 AND session_key = $2;

-- name: insert_spans
-- What is hidden now.
INSERT INTO hidden_span (bucket, session_key, kind, from_seq, to_seq, summary_seq, covered)
SELECT $1, $2, s.kind, s.from_seq, s.to_seq, s.summary_seq, s.covered
FROM unnest($3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[])
    AS s (kind, from_seq, to_seq, summary_seq, covered);

-- name: cover_spans
-- A new compaction takes the place of those in its range.
WITH compacted AS (
    DELETE FROM hidden_span
    WHERE bucket = $1 AND session_key = $2 AND kind = 1 AND from_seq >= $3 AND to_seq <= $4
)
UPDATE hidden_span
SET covered = true
WHERE bucket = $1 AND session_key = $2 AND kind = 2 AND from_seq >= $3 AND to_seq <= $4;

-- name: set_context_counters
-- After a change that isn't an append.
UPDATE session_head
SET context_message_count = $3, context_token_count = $4, next_change = next_change + $5, unsettled = true
WHERE bucket = $1 AND session_key = $2;

-- name: context_totals
-- The counters, derived from the log.
SELECT count(*) AS messages, coalesce(sum(m.token_count), 0)::bigint AS tokens
FROM unnest($3::bigint[], $4::bigint[], $5::boolean[]) AS g (low, high, summary)
JOIN message AS m
    ON m.bucket = $1 AND m.session_key = $2 AND m.seq BETWEEN g.low AND g.high
        AND m.summary = g.summary AND m.in_context;

-- name: insert_compaction
-- The record of a compaction.
INSERT INTO compaction (
    bucket, session_key, summary_seq, change_no, from_seq, to_seq, message_count, tokens_before,
    tokens_after, author, actor, model, turn_index, create_time
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, s.turn_index, statement_timestamp()
FROM session AS s
WHERE s.bucket = $1 AND s.session_key = $2;

-- name: read_compaction
-- One compaction, and whether its summary stands in the context.
SELECT
    c.*,
    EXISTS (
        SELECT
        FROM hidden_span AS p
        WHERE p.bucket = $1 AND p.session_key = $2 AND p.kind = 1 AND p.from_seq = c.from_seq
            AND p.summary_seq = c.summary_seq
    ) AND coalesce(
        (
            SELECT m.in_context
            FROM message AS m
            WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq = c.summary_seq
        ),
        (
            SELECT s.silent_summaries IS NULL OR c.summary_seq <> ALL(s.silent_summaries)
            FROM message_segment AS s
            WHERE s.bucket = $1 AND s.session_key = $2 AND s.first_seq <= c.summary_seq
            ORDER BY s.first_seq DESC
            LIMIT 1
        )
    ) AS in_context
FROM compaction AS c
WHERE c.bucket = $1 AND c.session_key = $2 AND c.summary_seq = $3;

-- name: list_compactions
-- A page of compactions, the newest first.
SELECT
    c.*,
    EXISTS (
        SELECT
        FROM hidden_span AS p
        WHERE p.bucket = $1 AND p.session_key = $2 AND p.kind = 1 AND p.from_seq = c.from_seq
            AND p.summary_seq = c.summary_seq
    ) AND coalesce(
        (
            SELECT m.in_context
            FROM message AS m
            WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq = c.summary_seq
        ),
        (
            SELECT s.silent_summaries IS NULL OR c.summary_seq <> ALL(s.silent_summaries)
            FROM message_segment AS s
            WHERE s.bucket = $1 AND s.session_key = $2 AND s.first_seq <= c.summary_seq
            ORDER BY s.first_seq DESC
            LIMIT 1
        )
    ) AS in_context
FROM compaction AS c
WHERE c.bucket = $1 AND c.session_key = $2 AND c.summary_seq < $3
ORDER BY c.summary_seq DESC
LIMIT $4;

-- name: revert_compaction
-- It counts no more from the next seq on.
UPDATE compaction
SET revert_time = statement_timestamp(), revert_effective_seq = $4
WHERE bucket = $1 AND session_key = $2 AND summary_seq = $3;

-- name: insert_rewind
-- The record of a rewind.
INSERT INTO rewind (
    bucket, session_key, rewind_id, after_seq, to_seq, effective_seq, author, actor, create_time
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, statement_timestamp());

-- name: read_rewind
-- One rewind; null is the newest that isn't reverted.
SELECT *
FROM rewind
WHERE bucket = $1 AND session_key = $2
    AND CASE WHEN $3::bigint IS NULL THEN revert_time IS NULL ELSE rewind_id = $3 END
ORDER BY rewind_id DESC
LIMIT 1;

-- name: list_rewinds
-- A page of rewinds, the newest first.
SELECT *
FROM rewind
WHERE bucket = $1 AND session_key = $2 AND rewind_id < $3
ORDER BY rewind_id DESC
LIMIT $4;

-- name: revert_obstacle
-- A compaction that counts, was made after a rewind of $3 + 1 to $4, and doesn't suit what comes back: it
-- stands where that stood, or holds a result of a call in it.
SELECT c.summary_seq
FROM compaction AS c
WHERE c.bucket = $1 AND c.session_key = $2 AND c.summary_seq > $4 AND c.revert_time IS NULL
    AND NOT EXISTS (
        SELECT
        FROM hidden_span AS s
        WHERE s.bucket = $1 AND s.session_key = $2 AND s.kind = 2
            AND c.summary_seq BETWEEN s.from_seq AND s.to_seq
    )
    AND (
        (c.from_seq <= $4 AND c.to_seq > $3)
        OR EXISTS (
            SELECT
            FROM message AS m
            CROSS JOIN unnest(m.tool_call_ids) AS call (id)
            JOIN tool_result AS r
                ON r.bucket = $1 AND r.session_key = $2 AND r.tool_call_id = call.id COLLATE "C"
            WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq > $3 AND m.seq <= $4
                AND r.seq BETWEEN c.from_seq AND c.to_seq AND r.seq > m.seq
        )
    )
ORDER BY c.summary_seq
LIMIT 1;

-- name: revert_rewind
-- It counts no more from the next seq on.
UPDATE rewind
SET revert_time = statement_timestamp(), revert_effective_seq = $4
WHERE bucket = $1 AND session_key = $2 AND rewind_id = $3;

-- name: set_writer
-- The writer lease: a new epoch makes every earlier token useless.
UPDATE session_head
SET writer_epoch = writer_epoch + 1, writer_token = $3, writer_holder = $4,
    writer_expire_time = clock_timestamp() + $5::interval
WHERE bucket = $1 AND session_key = $2
RETURNING writer_epoch, writer_expire_time;

-- name: renew_writer
-- The same epoch for longer.
UPDATE session_head
SET writer_expire_time = clock_timestamp() + $3::interval
WHERE bucket = $1 AND session_key = $2
RETURNING writer_expire_time;

-- name: release_writer
-- The lease ends now, if it is still this one.
UPDATE session_head
SET writer_token = '', writer_holder = '', writer_expire_time = 'epoch'
WHERE bucket = $1 AND session_key = $2 AND writer_token = $3;

-- name: set_compactor
-- The compaction lease.
UPDATE session_head
SET compactor_token = $3, compactor_holder = $4,
    compactor_expire_time = clock_timestamp() + $5::interval
WHERE bucket = $1 AND session_key = $2
RETURNING compactor_expire_time;

-- name: renew_compactor
-- The same token for longer.
UPDATE session_head
SET compactor_expire_time = clock_timestamp() + $3::interval
WHERE bucket = $1 AND session_key = $2
RETURNING compactor_expire_time;

-- name: release_compactor
-- The lease ends now, if it is still this one.
UPDATE session_head
SET compactor_token = '', compactor_holder = '', compactor_expire_time = 'epoch'
WHERE bucket = $1 AND session_key = $2 AND compactor_token = $3;
