-- name: transfer_selection
-- Which sessions to export, of these ids ($2) or (null) of any, behind a place ($3, $4) if that isn't null.
SELECT s.session_id, s.parent_id, s.create_time
FROM session AS s
WHERE s.tenant = $1 AND ($2::text[] IS NULL OR s.session_id = ANY($2))
    AND ($3::timestamptz IS NULL OR (s.create_time, s.session_id) > ($3, $4)) :fits
ORDER BY s.create_time, s.session_id;

-- name: transfer_fits
-- Whether a session fits.
SELECT EXISTS (
    SELECT
    FROM session AS s
    WHERE s.bucket = $1 AND s.session_key = $2 :fits
);

-- name: transfer_continuations
-- The sessions that these continue, and those that continue them.
WITH RECURSIVE line AS (
    SELECT session_id COLLATE "C" AS session_id
    FROM unnest($2::text[]) AS given (session_id)
    UNION
    SELECT CASE WHEN s.session_id = l.session_id THEN s.parent_id ELSE s.session_id END
    FROM line AS l
    JOIN session AS s
        ON s.tenant = $1 AND s.parent_kind = 2 AND l.session_id IN (s.session_id, s.parent_id)
)
SELECT session_id
FROM line;

-- name: transfer_messages
-- A page of the log from seq $3 to $4, as it was before change $5: $6 how many, $7 how many bytes at most.
SELECT seq, create_time, summary, payload
FROM (
    SELECT
        m.*,
        row_number() OVER page AS place,
        sum(octet_length(m.payload) + 64) OVER page AS bytes
    FROM (
        SELECT m.seq, m.create_time, m.summary, coalesce(r.payload, m.payload) AS payload
        FROM message AS m
        LEFT JOIN LATERAL (
            SELECT r.payload
            FROM message_revision AS r
            WHERE r.bucket = m.bucket AND r.session_key = m.session_key AND r.seq = m.seq
                AND r.change_no >= $5
            ORDER BY r.change_no
            LIMIT 1
        ) AS r ON true
        WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq BETWEEN $3 AND $4
        ORDER BY m.seq
        LIMIT $6
    ) AS m
    WINDOW page AS (ORDER BY m.seq ROWS UNBOUNDED PRECEDING)
) AS m
WHERE place = 1 OR bytes <= $7
ORDER BY seq;

-- name: transfer_revision_places
-- Where the earlier versions stand in the order of what happened.
SELECT change_no, min(effective_seq) AS effective_seq
FROM message_revision
WHERE bucket = $1 AND session_key = $2
GROUP BY change_no
ORDER BY effective_seq, change_no;

-- name: transfer_revisions
-- The versions that one change replaced, behind seq $4: $5 how many.
SELECT seq, change_no, effective_seq, payload
FROM message_revision
WHERE bucket = $1 AND session_key = $2 AND change_no = $3 AND seq > $4
ORDER BY seq
LIMIT $5;

-- name: transfer_compactions
-- Every compaction.
SELECT *
FROM compaction
WHERE bucket = $1 AND session_key = $2
ORDER BY summary_seq;

-- name: transfer_rewinds
-- Every rewind.
SELECT *
FROM rewind
WHERE bucket = $1 AND session_key = $2
ORDER BY rewind_id;

-- name: transfer_told
-- Of which things the changes of these kinds tell.
SELECT kind, reference, change_no
FROM session_change
WHERE bucket = $1 AND session_key = $2 AND kind = ANY($3::smallint[]);

-- name: transfer_changes
-- The entries of the feed but messages, behind number $3 and before $4: $5 how many. They stand in the order
-- of their numbers.
SELECT change_no, after_seq, kind, reference, seqs, child_id, child_kind, create_time
FROM session_change
WHERE bucket = $1 AND session_key = $2 AND change_no > $3 AND change_no < $4
ORDER BY change_no
LIMIT $5;

-- name: session_stands
-- Whether a session is still the one of incarnation $3, and no change of kind $4 came from number $5 on.
SELECT EXISTS (
    SELECT
    FROM session
    WHERE bucket = $1 AND session_key = $2 AND incarnation = $3
) AND NOT EXISTS (
    SELECT
    FROM session_change
    WHERE bucket = $1 AND session_key = $2 AND kind = $4 AND change_no >= $5
);

-- name: import_session
-- A session as it was elsewhere, with its times. That it was made meanwhile violates its key, and all is done
-- once more. No activity is later than now, or the session would be thought busy, and be listed first, until
-- then.
WITH made AS (
    INSERT INTO session (
        bucket, session_key, tenant, session_id, incarnation, owner, source, agent, title,
        title_source, pinned, archived, state, end_reason, labels, metadata, parent_id, parent_kind,
        spawn_tool_call_id, fork_seq, root_id, spawn_depth, lifecycle, turn_index, fact_changes,
        create_request_id, create_time, update_time, listed_time, end_time
    )
    VALUES (
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::text::jsonb, $16, $17, $18, $19,
        $20, $21, $22, $23, $24, 1, $25, $26, $27,
        least(greatest($26::timestamptz, $28::timestamptz), statement_timestamp()), $29
    )
    RETURNING bucket, session_key, create_time, state
)
INSERT INTO session_head (
    bucket, session_key, state, first_seq, next_seq, next_change, message_count, tool_call_count,
    context_message_count, context_token_count, activity_time, writer_epoch, writer_token,
    writer_holder, writer_expire_time, compactor_token, compactor_holder, compactor_expire_time
)
SELECT
    bucket, session_key, state, $30, $30, 1, 0, 0, 0, 0, least(create_time, statement_timestamp()),
    0, '', '', 'epoch'::timestamptz, '', '', 'epoch'::timestamptz
FROM made;

-- name: child_is_told
-- Whether a parent's feed tells of a child.
SELECT EXISTS (
    SELECT
    FROM session_change
    WHERE bucket = $1 AND session_key = $2 AND kind = 8 AND child_id = $3
);

-- name: equal_messages
-- Which of these messages the session has with these bytes, be it before later updates.
SELECT k.seq
FROM unnest($3::bigint[], $4::bytea[]) AS k (seq, payload)
JOIN message AS m ON m.bucket = $1 AND m.session_key = $2 AND m.seq = k.seq
WHERE m.payload = k.payload
    OR EXISTS (
        SELECT
        FROM message_revision AS r
        WHERE r.bucket = $1 AND r.session_key = $2 AND r.seq = k.seq AND r.payload = k.payload
    );

-- name: versions_of_messages
-- Messages as they are, but for offloaded ones, and as they were before updates; those whose lengths differ from
-- these by $5 at most.
SELECT v.seq, v.payload
FROM unnest($3::bigint[], $4::integer[]) AS k (seq, length)
CROSS JOIN LATERAL (
    SELECT m.seq, m.payload
    FROM message AS m
    WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq = k.seq
    UNION ALL
    SELECT r.seq, r.payload
    FROM message_revision AS r
    WHERE r.bucket = $1 AND r.session_key = $2 AND r.seq = k.seq
) AS v
WHERE abs(octet_length(v.payload) - k.length) <= $5::integer;

-- name: last_message_time
-- Times must not go back.
SELECT create_time
FROM message
WHERE bucket = $1 AND session_key = $2 AND seq = $3;

-- name: import_messages
-- Messages with the seqs and times that they had, behind the last one; the caller holds the head's lock.
WITH added AS MATERIALIZED (
    SELECT
        $1::smallint AS bucket, $2::uuid AS session_key, i.seq, i.create_time, i.summary, i.client_id, i.facts,
        i.payload,
        string_to_array(nullif(split_part(i.tools, chr(30), 1), ''), chr(31)) AS calls,
        string_to_array(nullif(split_part(i.tools, chr(30), 2), ''), chr(31)) AS results,
        nullif(split_part(i.tools, chr(30), 3), '') AS type,
        (i.facts >> 16 & 2147483647)::integer AS token_count,
        (i.facts & 2) <> 0 AS in_context
    FROM unnest(
        $3::bigint[], $4::timestamptz[], $5::boolean[], $6::text[], $7::bigint[], $8::text[], $9::bytea[]
    ) AS i (seq, create_time, summary, client_id, facts, tools, payload)
),
grown AS (
    UPDATE session_head AS h
    SET next_seq = g.last_seq + 1,
        message_count = h.message_count + g.messages,
        tool_call_count = h.tool_call_count + g.calls,
        context_message_count = h.context_message_count + g.context_messages,
        context_token_count = h.context_token_count + g.context_tokens,
        activity_time = greatest(h.activity_time, g.activity_time),
        unsettled = true
    FROM (
        SELECT
            max(seq) AS last_seq,
            max(create_time) AS activity_time,
            count(*) AS messages,
            coalesce(sum(cardinality(calls)), 0) AS calls,
            count(*) FILTER (WHERE in_context) AS context_messages,
            coalesce(sum(token_count) FILTER (WHERE in_context), 0) AS context_tokens
        FROM added
    ) AS g
    WHERE h.bucket = $1 AND h.session_key = $2
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
            WHERE r.tool_call_id = c.tool_call_id AND r.seq >= a.seq
        )
)
INSERT INTO message (
    bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript, summary,
    client_id, type, tool_call_ids, tool_result_ids, payload
)
SELECT
    bucket, session_key, seq, create_time, token_count,
    ((facts >> 8) & 255)::smallint, ((facts >> 2) & 63)::smallint, in_context, (facts & 1) <> 0,
    summary, client_id, type, calls, results, payload
FROM added;

-- name: known_revisions
-- Which of these earlier versions are there, and their bytes where they aren't these; none where their lengths
-- differ by more than $6.
SELECT
    k.seq, k.change_no,
    CASE
        WHEN r.payload = k.payload THEN NULL
        WHEN abs(octet_length(r.payload) - octet_length(k.payload)) > $6::integer THEN ''::bytea
        ELSE r.payload
    END AS other
FROM unnest($3::bigint[], $4::bigint[], $5::bytea[]) AS k (seq, change_no, payload)
JOIN message_revision AS r
    ON r.bucket = $1 AND r.session_key = $2 AND r.seq = k.seq AND r.change_no = k.change_no;

-- name: import_revisions
-- Earlier versions of messages.
INSERT INTO message_revision (
    bucket, session_key, seq, change_no, effective_seq, token_count, kind, in_context, in_transcript, type,
    payload
)
SELECT
    $1, $2, i.seq, i.change_no, i.effective_seq, (i.facts >> 16 & 2147483647)::integer,
    ((i.facts >> 2) & 63)::smallint, (i.facts & 2) <> 0, (i.facts & 1) <> 0, i.type, i.payload
FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::bytea[])
    AS i (seq, change_no, effective_seq, facts, type, payload);

-- name: import_compaction
-- A compaction as it was recorded elsewhere.
INSERT INTO compaction (
    bucket, session_key, summary_seq, change_no, from_seq, to_seq, message_count, tokens_before,
    tokens_after, author, actor, model, turn_index, create_time
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: import_compaction_revert
-- A compaction counts no more.
UPDATE compaction
SET revert_time = $5, revert_effective_seq = $4
WHERE bucket = $1 AND session_key = $2 AND summary_seq = $3;

-- name: import_rewind
-- A rewind as it was recorded elsewhere.
INSERT INTO rewind (
    bucket, session_key, rewind_id, after_seq, to_seq, effective_seq, author, actor, create_time
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: import_rewind_revert
-- A rewind counts no more.
UPDATE rewind
SET revert_time = $5, revert_effective_seq = $4
WHERE bucket = $1 AND session_key = $2 AND rewind_id = $3;

-- name: known_changes
-- Which of these entries of the feed are there.
SELECT change_no, after_seq, kind, reference, seqs, child_id, child_kind, create_time
FROM session_change
WHERE bucket = $1 AND session_key = $2 AND change_no = ANY($3::bigint[]);

-- name: import_changes
-- Entries of the feed with the numbers that they had.
INSERT INTO session_change (
    bucket, session_key, change_no, after_seq, kind, reference, seqs, child_id, child_kind, create_time
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: set_next_change
-- The number of the next change.
UPDATE session_head
SET next_change = $3, unsettled = true
WHERE bucket = $1 AND session_key = $2;

-- name: restore_context_changes
-- As many changes of the context as there were elsewhere, or as there are.
UPDATE session_head
SET context_changes = greatest(context_changes, $3), unsettled = true
WHERE bucket = $1 AND session_key = $2;

-- name: finish_import
-- When a session was last active elsewhere, unless it has been since; not later than now, but for messages of
-- a later time, behind which others must not go back.
UPDATE session_head
SET activity_time = greatest(activity_time, least($3, statement_timestamp())), unsettled = true
WHERE bucket = $1 AND session_key = $2;

-- name: transfer_usage
-- The sums of a session's usage: its own by day, and those of deleted ones that came from it.
SELECT
    inherited, day, model, currency, record_count, model_calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, total_tokens, estimated_count, estimated, actual_count, actual
FROM usage_sum
WHERE bucket = $1 AND session_key = $2
ORDER BY inherited, day, model, currency;

-- name: transfer_usage_turns
-- The same by turns.
SELECT
    turn_index, model, day, currency, record_time, record_count, model_calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, total_tokens, estimated_count, estimated, actual_count, actual
FROM usage_turn
WHERE bucket = $1 AND session_key = $2
ORDER BY turn_index, model, day, currency;

-- name: transfer_seen
-- Hashes of the request ids that a session has seen.
SELECT hashtextextended(request_id, kind) AS mark
FROM session_request
WHERE bucket = $1 AND session_key = $2
ORDER BY mark;

-- name: transfer_requests
-- The request ids that a session has seen, behind that of kind $3 and id $4: $5 at most.
SELECT kind, request_id, digest, result, hashtextextended(request_id, kind) AS mark
FROM session_request
WHERE bucket = $1 AND session_key = $2 AND (kind, request_id) > ($3::smallint, $4::text)
ORDER BY kind, request_id
LIMIT $5;

-- name: import_usage_sum
-- A sum, unless there is one; its tenant has used as much more. Where it is of deleted sessions ($3), which ones
-- isn't known: they count as having been like the one that they left it to.
WITH added AS (
    INSERT INTO usage_sum (
        bucket, session_key, inherited, day, model, currency, record_count, model_calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
        reasoning_tokens, total_tokens, estimated_count, estimated, actual_count, actual
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
    ON CONFLICT (bucket, session_key, inherited, day, model, currency) DO NOTHING
    RETURNING *
),
of_deleted AS (
    INSERT INTO usage_of_deleted AS d (
        bucket, tenant, owner, source, agent, parent_kind, day, model, currency, record_count, model_calls,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens,
        estimated_count, estimated, actual_count, actual
    )
    SELECT
        s.bucket, s.tenant, s.owner, s.source, s.agent, CASE s.parent_kind WHEN 1 THEN 1 ELSE 0 END, a.day,
        a.model, a.currency, a.record_count, a.model_calls, a.input_tokens, a.output_tokens,
        a.cache_read_tokens, a.cache_write_tokens, a.reasoning_tokens, a.total_tokens, a.estimated_count,
        a.estimated, a.actual_count, a.actual
    FROM session AS s
    JOIN added AS a USING (bucket, session_key)
    WHERE a.inherited
    ON CONFLICT (bucket, tenant, origin_hash, parent_kind, day, currency) DO UPDATE
    SET record_count = d.record_count + excluded.record_count,
        model_calls = d.model_calls + excluded.model_calls,
        input_tokens = d.input_tokens + excluded.input_tokens,
        output_tokens = d.output_tokens + excluded.output_tokens,
        cache_read_tokens = d.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = d.cache_write_tokens + excluded.cache_write_tokens,
        reasoning_tokens = d.reasoning_tokens + excluded.reasoning_tokens,
        total_tokens = d.total_tokens + excluded.total_tokens,
        estimated_count = d.estimated_count + excluded.estimated_count,
        estimated = d.estimated + excluded.estimated,
        actual_count = d.actual_count + excluded.actual_count,
        actual = d.actual + excluded.actual
)
INSERT INTO usage_of_tenant (
    bucket, tenant, day, model, currency, record_count, model_calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, total_tokens, estimated_count, estimated, actual_count, actual
)
SELECT
    s.bucket, s.tenant, a.day, a.model, a.currency, a.record_count, a.model_calls, a.input_tokens, a.output_tokens,
    a.cache_read_tokens, a.cache_write_tokens, a.reasoning_tokens, a.total_tokens,
    a.estimated_count, a.estimated, a.actual_count, a.actual
FROM session AS s
JOIN added AS a USING (bucket, session_key)
ON CONFLICT (bucket, tenant, day, model, currency) DO UPDATE
SET record_count = usage_of_tenant.record_count + excluded.record_count,
    model_calls = usage_of_tenant.model_calls + excluded.model_calls,
    input_tokens = usage_of_tenant.input_tokens + excluded.input_tokens,
    output_tokens = usage_of_tenant.output_tokens + excluded.output_tokens,
    cache_read_tokens = usage_of_tenant.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = usage_of_tenant.cache_write_tokens + excluded.cache_write_tokens,
    reasoning_tokens = usage_of_tenant.reasoning_tokens + excluded.reasoning_tokens,
    total_tokens = usage_of_tenant.total_tokens + excluded.total_tokens,
    estimated_count = usage_of_tenant.estimated_count + excluded.estimated_count,
    estimated = usage_of_tenant.estimated + excluded.estimated,
    actual_count = usage_of_tenant.actual_count + excluded.actual_count,
    actual = usage_of_tenant.actual + excluded.actual
RETURNING true;

-- name: import_usage_turn
-- The sum of a turn, unless there is one.
INSERT INTO usage_turn (
    bucket, session_key, turn_index, model, day, currency, record_time, record_count, model_calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, total_tokens, estimated_count, estimated, actual_count, actual
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
ON CONFLICT (bucket, session_key, turn_index, model, day, currency) DO NOTHING
RETURNING true;

-- name: import_billing
-- How usage is paid for, unless that is known.
INSERT INTO usage_billing (
    bucket, session_key, model, provider, base_url, mode, cost_status, cost_source, pricing_version
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (bucket, session_key) DO NOTHING
RETURNING true;

-- name: import_request
-- A request id, unless it was seen.
INSERT INTO session_request (bucket, session_key, kind, request_id, digest, result)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (bucket, session_key, kind, request_id) DO NOTHING
RETURNING true;

-- name: transfer_marks
-- How far consumers have come in a session.
SELECT consumer_id, seq
FROM consumer_cursor
WHERE bucket = $1 AND session_key = $2
ORDER BY consumer_id;

-- name: transfer_reminders
-- A session's reminders without their claims and details. Nor does a claim count as an attempt.
SELECT
    reminder_id, type, state, first_time, interval_microseconds, occurrence, due_time,
    CASE claim_token WHEN '' THEN greatest(ready_time, due_time) ELSE due_time END AS ready_time,
    CASE claim_token WHEN '' THEN claim_count ELSE greatest(claim_count - 1, 0) END AS attempt_count,
    max_attempts, last_error, fired_count, missed_count, skipped_count, last_fire_time, last_message_seq,
    request_hash, ''::bytea AS details, create_time, update_time
FROM reminder
WHERE bucket = $1 AND session_key = $2
ORDER BY reminder_id;

-- name: transfer_reminder_details
-- What some reminders are about.
SELECT reminder_id, details
FROM reminder
WHERE bucket = $1 AND session_key = $2 AND reminder_id = ANY($3::text[]);

-- name: import_journal_record
-- A record of the journal, unless there is one of its number.
WITH added AS (
    INSERT INTO journal_record (
        bucket, session_key, seq, kind, turn_index, content, origin_time, create_time
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (bucket, session_key, seq) DO NOTHING
    RETURNING bucket, session_key, seq, octet_length(content) AS size
)
INSERT INTO journal_total (bucket, session_key, next_seq, record_count, content_bytes)
SELECT bucket, session_key, seq + 1, 1, size
FROM added
ON CONFLICT (bucket, session_key) DO UPDATE
SET next_seq = greatest(journal_total.next_seq, excluded.next_seq),
    record_count = journal_total.record_count + 1,
    content_bytes = journal_total.content_bytes + excluded.content_bytes
RETURNING true;

-- name: import_mark
-- A cursor, unless the consumer has one in the session.
INSERT INTO consumer_cursor (
    bucket, session_key, consumer_id, tenant, session_id, owner, child, seq, queued, ready_time, claim_token,
    claim_holder, claim_expire_time, claim_count, done_token, update_time
)
SELECT
    s.bucket, s.session_key, $3, s.tenant, s.session_id, s.owner, s.parent_kind = 1, $4, false,
    clock_timestamp(), '', '', 'epoch', 0, '', clock_timestamp()
FROM session AS s
WHERE s.bucket = $1 AND s.session_key = $2
ON CONFLICT (bucket, session_key, consumer_id) DO NOTHING
RETURNING true;

-- name: import_reminder
-- A reminder, unless there is one of its id. It is paused if its session isn't active.
INSERT INTO reminder (
    bucket, session_key, reminder_id, tenant, session_id, owner, type, state, held, first_time,
    interval_microseconds, occurrence, due_time, ready_time, claimed_occurrence, claim_token,
    claim_holder, claim_count, max_attempts, done_token, failed_token, last_error, fired_count, missed_count,
    skipped_count, last_fire_time, last_message_seq, request_hash, details, create_time, update_time
)
SELECT
    s.bucket, s.session_key, $3, s.tenant, s.session_id, s.owner, $4, $5, s.state <> 1, $6, $7, $8, $9, $10, 0,
    '', '', $11, $12, '', '', $13, $14, $15, $16, $17, $18, $19, $20, $21, $22
FROM session AS s
WHERE s.bucket = $1 AND s.session_key = $2
ON CONFLICT (bucket, session_key, reminder_id) DO NOTHING
RETURNING true;
