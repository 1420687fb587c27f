-- name: read_segments
-- The segments of seqs $3 to $4 in the order of reading: $5 bits of roles and $6 of kinds of which one must
-- occur, $7 the number, $8 which versions the caller has already.
SELECT
    s.first_seq, s.last_seq, s.version, s.dictionary_id, s.message_bytes,
    CASE WHEN s.version <> ALL($8::uuid[]) THEN s.content END AS content
FROM message_segment AS s
WHERE s.bucket = $1 AND s.session_key = $2
    AND s.first_seq <= $4 AND s.last_seq >= $3
    AND s.first_seq >= coalesce((
        SELECT max(b.first_seq)
        FROM message_segment AS b
        WHERE b.bucket = $1 AND b.session_key = $2 AND b.first_seq <= $3
    ), 0)
    AND s.roles & $5::integer <> 0 AND s.kinds & $6::bigint <> 0
ORDER BY s.first_seq :direction
LIMIT $7;

-- name: segments_with_seqs
-- The first $5 of the segments with these messages; $4 which versions the caller has already.
SELECT
    s.first_seq, s.last_seq, s.version, s.dictionary_id, s.message_bytes,
    CASE WHEN s.version <> ALL($4::uuid[]) THEN s.content END AS content
FROM (
    SELECT DISTINCT s.first_seq
    FROM unnest($3::bigint[]) AS k (seq)
    CROSS JOIN LATERAL (
        SELECT s.first_seq, s.last_seq
        FROM message_segment AS s
        WHERE s.bucket = $1 AND s.session_key = $2 AND s.first_seq <= k.seq
        ORDER BY s.first_seq DESC
        LIMIT 1
    ) AS s
    WHERE s.last_seq >= k.seq
    ORDER BY s.first_seq
    LIMIT $5
) AS f
JOIN message_segment AS s ON s.bucket = $1 AND s.session_key = $2 AND s.first_seq = f.first_seq
ORDER BY s.first_seq;

-- name: count_segments_with_seqs
-- In how many segments these messages are.
SELECT count(DISTINCT s.first_seq)
FROM unnest($3::bigint[]) AS k (seq)
CROSS JOIN LATERAL (
    SELECT s.first_seq, s.last_seq
    FROM message_segment AS s
    WHERE s.bucket = $1 AND s.session_key = $2 AND s.first_seq <= k.seq
    ORDER BY s.first_seq DESC
    LIMIT 1
) AS s
WHERE s.last_seq >= k.seq;

-- name: segment_totals
-- What whole segments within ranges hold of the context, and which these are: none that has been changed
-- since message $5, if that isn't null.
SELECT s.first_seq, s.last_seq, s.context_messages, s.context_tokens
FROM unnest($3::bigint[], $4::bigint[]) AS r (low, high)
JOIN message_segment AS s
    ON s.bucket = $1 AND s.session_key = $2 AND s.first_seq BETWEEN r.low AND r.high AND s.last_seq <= r.high
WHERE $5::bigint IS NULL OR NOT EXISTS (
    SELECT
    FROM message_revision AS v
    WHERE v.bucket = $1 AND v.session_key = $2 AND v.seq BETWEEN s.first_seq AND s.last_seq
        AND v.effective_seq > $5
)
ORDER BY s.first_seq;

-- name: segment_at_time
-- The first segment with a message of this time or later.
SELECT first_seq, last_seq
FROM message_segment
WHERE bucket = $1 AND session_key = $2 AND last_time >= $3
ORDER BY first_seq
LIMIT 1;

-- name: segments_with_client_ids
-- Which segments may hold these client ids; $5 is where those with indexed keys begin. The fence keeps the
-- planner from reading all segments of a session instead of the index.
SELECT k.client_id, s.first_seq
FROM unnest($3::text[], $4::integer[]) AS k (client_id, client_key)
CROSS JOIN LATERAL (
    SELECT s.first_seq
    FROM message_segment AS s
    WHERE s.bucket = $1 AND s.session_key = $2 AND s.first_seq < $5
        AND s.client_keys @> ARRAY[k.client_key]
    UNION ALL
    SELECT i.first_seq
    FROM (
        SELECT s.bucket, s.session_key, s.first_seq
        FROM message_segment AS s
        WHERE s.indexed_client_keys @> ARRAY[k.client_key]
        OFFSET 0
    ) AS i
    WHERE i.bucket = $1 AND i.session_key = $2
) AS s;

-- name: revisions_valid
-- Messages as they were right after message $5, where they have been changed since.
SELECT DISTINCT ON (seq) seq, token_count, kind, in_context, in_transcript, type, payload
FROM message_revision
WHERE bucket = $1 AND session_key = $2 AND seq BETWEEN $3 AND $4 AND effective_seq > $5
ORDER BY seq, change_no;

-- name: read_dictionary
-- What segments are compressed with.
SELECT content
FROM segment_dictionary
WHERE bucket = $1 AND dictionary_id = $2;

-- name: use_dictionary
-- One more segment is compressed with it.
INSERT INTO segment_dictionary (bucket, dictionary_id, uses, content)
VALUES ($1, $2, 1, $3)
ON CONFLICT (bucket, dictionary_id) DO UPDATE SET uses = segment_dictionary.uses + 1;

-- name: dictionary_uses
-- How often these sessions' segments from a seq on use dictionaries.
SELECT s.dictionary_id, count(*) AS uses
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
JOIN message_segment AS s USING (bucket, session_key)
WHERE s.dictionary_id IS NOT NULL AND s.first_seq >= $3
GROUP BY s.dictionary_id;

-- name: lock_dictionaries
-- In the order of their keys, as everywhere, before it is decided what becomes of them.
SELECT d.bucket, d.dictionary_id, d.uses
FROM segment_dictionary AS d
JOIN unnest($1::smallint[], $2::uuid[]) AS k (bucket, dictionary_id) USING (bucket, dictionary_id)
ORDER BY d.bucket, d.dictionary_id
FOR UPDATE OF d;

-- name: release_dictionary
-- Fewer segments are compressed with it.
UPDATE segment_dictionary
SET uses = uses - $3
WHERE bucket = $1 AND dictionary_id = $2;

-- name: delete_dictionary
-- The last segment that was compressed with it is going.
DELETE FROM segment_dictionary
WHERE bucket = $1 AND dictionary_id = $2;

-- name: offload_facts
-- What decides how a session is offloaded, besides its head.
SELECT tenant, incarnation
FROM session
WHERE bucket = $1 AND session_key = $2;

-- name: messages_to_offload
-- The next messages from a seq on, as many as fit a segment.
SELECT
    seq, create_time, token_count, role, kind, in_context, in_transcript, summary, client_id, type,
    tool_call_ids, tool_result_ids, payload
FROM (
    SELECT m.*, sum(octet_length(m.payload)) OVER (ORDER BY m.seq ROWS UNBOUNDED PRECEDING) AS bytes
    FROM (
        SELECT *
        FROM message AS m
        WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq >= $3 AND m.seq < $4
        ORDER BY m.seq
        LIMIT $5
    ) AS m
) AS m
WHERE seq = $3 OR bytes <= $6
ORDER BY seq;

-- name: insert_segment
-- A segment takes the place of its messages.
INSERT INTO message_segment (
    bucket, session_key, first_seq, last_seq, last_time, context_tokens, kinds, roles, context_messages,
    message_bytes, settled, version, dictionary_id, silent_summaries, client_keys, indexed_client_keys, content
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- name: rewrite_segment
-- The same messages in another version.
UPDATE message_segment
SET context_tokens = $4, kinds = $5, context_messages = $6, message_bytes = $7, version = $8,
    silent_summaries = $9, content = $10
WHERE bucket = $1 AND session_key = $2 AND first_seq = $3;

-- name: delete_offloaded_messages
-- What is in segments now; how many these were is checked.
WITH closed AS (
    DELETE FROM open_tool_call
    WHERE bucket = $1 AND session_key = $2 AND seq >= $3 AND seq < $4
),
results AS (
    DELETE FROM tool_result AS r
    USING (
        SELECT m.seq, t.tool_call_id
        FROM message AS m
        CROSS JOIN unnest(m.tool_result_ids) AS t (tool_call_id)
        WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq >= $3 AND m.seq < $4
            AND m.tool_result_ids IS NOT NULL
    ) AS m
    WHERE r.bucket = $1 AND r.session_key = $2 AND r.tool_call_id = m.tool_call_id COLLATE "C"
        AND r.seq = m.seq
),
gone AS (
    DELETE FROM message
    WHERE bucket = $1 AND session_key = $2 AND seq >= $3 AND seq < $4
    RETURNING octet_length(payload) AS size
)
SELECT count(*), coalesce(sum(size), 0)::bigint
FROM gone;

-- name: last_segments
-- Without their contents: how many of them are restored depends on where the border may stand.
SELECT first_seq, settled
FROM message_segment
WHERE bucket = $1 AND session_key = $2
ORDER BY first_seq DESC
LIMIT $3;

-- name: segments_to_restore
-- The segments from one on.
SELECT first_seq, dictionary_id, message_bytes, content
FROM message_segment
WHERE bucket = $1 AND session_key = $2 AND first_seq >= $3
ORDER BY first_seq;

-- name: delete_segments
-- Those from a seq on, whose messages are restored.
DELETE FROM message_segment
WHERE bucket = $1 AND session_key = $2 AND first_seq >= $3;

-- name: insert_messages
-- Messages with all their columns, as they were; the ids of tool calls and of results come joined.
WITH added AS MATERIALIZED (
    SELECT
        m.seq, m.create_time, m.token_count, m.role, m.kind, m.in_context, m.in_transcript, m.summary,
        m.client_id, m.type, string_to_array(m.calls, chr(31)) AS calls,
        string_to_array(m.results, chr(31)) AS results, m.payload
    FROM unnest(
        $3::bigint[], $4::timestamptz[], $5::integer[], $6::smallint[], $7::smallint[], $8::boolean[],
        $9::boolean[], $10::boolean[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bytea[]
    ) AS m (
        seq, create_time, token_count, role, kind, in_context, in_transcript, summary, client_id, type, calls,
        results, payload
    )
),
resulted AS (
    INSERT INTO tool_result (bucket, session_key, tool_call_id, seq)
    SELECT $1, $2, r.tool_call_id, a.seq
    FROM added AS a
    CROSS JOIN unnest(a.results) AS r (tool_call_id)
    WHERE a.results IS NOT NULL
)
INSERT INTO message (
    bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript, summary,
    client_id, type, tool_call_ids, tool_result_ids, payload
)
SELECT
    $1, $2, seq, create_time, token_count, role, kind, in_context, in_transcript, summary, client_id, type,
    calls, results, payload
FROM added;

-- name: set_border
-- Appends look at the head alone.
UPDATE session_head
SET offloaded_before_seq = $3
WHERE bucket = $1 AND session_key = $2;

-- name: insert_offload
-- The record of a move.
INSERT INTO message_offload (
    bucket, session_key, offload_id, restored, from_seq, to_seq, message_bytes, stored_bytes, author,
    actor, create_time
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, statement_timestamp());

-- name: read_offload
-- One record.
SELECT *
FROM message_offload
WHERE bucket = $1 AND session_key = $2 AND offload_id = $3;

-- name: list_offloads
-- A page of records, the newest first.
SELECT *
FROM message_offload
WHERE bucket = $1 AND session_key = $2 AND offload_id < $3
ORDER BY offload_id DESC
LIMIT $4;

-- name: save_offloaded_revisions
-- As save_revisions, of messages that are in segments.
INSERT INTO message_revision (
    bucket, session_key, seq, change_no, effective_seq, token_count, kind, in_context, in_transcript, type,
    payload
)
SELECT $1, $2, r.seq, $3, $4, r.token_count, r.kind, r.in_context, r.in_transcript, r.type, r.payload
FROM unnest(
    $5::bigint[], $6::integer[], $7::smallint[], $8::boolean[], $9::boolean[], $10::text[], $11::bytea[]
) AS r (seq, token_count, kind, in_context, in_transcript, type, payload);

-- name: first_versions
-- Messages as they were first, where they have been changed.
SELECT DISTINCT ON (seq) seq, payload
FROM message_revision
WHERE bucket = $1 AND session_key = $2 AND seq = ANY($3::bigint[])
ORDER BY seq, change_no;

-- name: sessions_to_offload
-- The next $3 sessions in key order behind ($1, $2), and which of them the policy offloads: everything before
-- `before_seq`, or what is older than $5 where that is null. $4 the time before which a session ended or
-- null, $6 how many messages stay or null, $7 how many less than these must be worth it. What begins with an
-- open call isn't tried; what begins with a call that is answered behind an open one is, in vain.
SELECT h.bucket, h.session_key, h.session_id, p.is_due IS NOT NULL AS is_due, p.before_seq
FROM (
    SELECT h.*, s.session_id, s.end_time
    FROM (
        SELECT *
        FROM session_head AS h
        WHERE (h.bucket, h.session_key) > ($1::smallint, $2::uuid)
        ORDER BY h.bucket, h.session_key
        LIMIT $3
    ) AS h
    JOIN session AS s USING (bucket, session_key)
) AS h
CROSS JOIN LATERAL (
    SELECT greatest(h.first_seq, h.offloaded_before_seq) AS first_hot
) AS f
LEFT JOIN LATERAL (
    SELECT
        true AS is_due,
        CASE
            WHEN h.end_time < $4::timestamptz OR h.activity_time < $5::timestamptz THEN h.next_seq
            WHEN h.next_seq - f.first_hot >= $6::bigint + $7::bigint THEN h.next_seq - $6
        END AS before_seq
    WHERE f.first_hot < h.next_seq
        AND (
            h.end_time < $4 OR h.activity_time < $5 OR h.next_seq - f.first_hot >= $6 + $7
            OR (
                SELECT m.create_time
                FROM message AS m
                WHERE m.bucket = h.bucket AND m.session_key = h.session_key AND m.seq = f.first_hot + $7 - 1
            ) < $5
        )
        AND f.first_hot < coalesce(
            (
                SELECT min(w.seq)
                FROM waiting_tool_call AS w
                WHERE w.bucket = h.bucket AND w.session_key = h.session_key
            ),
            h.next_seq
        )
) AS p ON true
ORDER BY h.bucket, h.session_key;

-- name: versions_before_change
-- As revisions_valid, by the number of a change.
SELECT DISTINCT ON (seq) seq, payload
FROM message_revision
WHERE bucket = $1 AND session_key = $2 AND seq BETWEEN $3 AND $4 AND change_no >= $5
ORDER BY seq, change_no;
