-- name: lock_head
-- Every change of a session begins here, so that changes of one session come one after the other.
SELECT *
FROM session_head
WHERE bucket = $1 AND session_key = $2
FOR UPDATE;

-- name: lock_free_head
-- Likewise, unless another transaction has it.
SELECT true
FROM session_head
WHERE bucket = $1 AND session_key = $2
FOR UPDATE SKIP LOCKED;

-- name: lock_heads
-- Several sessions at once, in key order as everywhere.
SELECT h.bucket, h.session_key
FROM session_head AS h
JOIN unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key) USING (bucket, session_key)
ORDER BY h.bucket, h.session_key
FOR UPDATE OF h;

-- name: read_head
-- A look without a lock.
SELECT *
FROM session_head
WHERE bucket = $1 AND session_key = $2;

-- name: database_now
-- The one clock that leases go by.
SELECT clock_timestamp();

-- name: insert_session
-- The head is inserted with it; a session that exists already leaves both alone.
WITH made AS (
    INSERT INTO session (
        bucket, session_key, tenant, session_id, incarnation, owner, source, agent, title,
        title_source, pinned, archived, state, end_reason, labels, metadata, parent_id, parent_kind,
        spawn_tool_call_id, fork_seq, root_id, spawn_depth, lifecycle, turn_index, fact_changes,
        create_request_id, create_time, update_time, listed_time, end_time
    )
    VALUES (
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, '', $13::text::jsonb, $14, $15, $16, $17,
        $18, $19, $20, $21, $22, 1, $23, statement_timestamp(), statement_timestamp(), statement_timestamp(),
        NULL
    )
    ON CONFLICT (bucket, session_key) DO NOTHING
    RETURNING bucket, session_key, create_time
)
INSERT INTO session_head (
    bucket, session_key, state, first_seq, next_seq, next_change, message_count, tool_call_count,
    context_message_count, context_token_count, activity_time, writer_epoch, writer_token,
    writer_holder, writer_expire_time, compactor_token, compactor_holder, compactor_expire_time
)
SELECT
    bucket, session_key, 1, 1, 1, 1, 0, 0, 0, 0, create_time, 0, '', '',
    'epoch'::timestamptz, '', '', 'epoch'::timestamptz
FROM made
RETURNING session_key;

-- name: update_session
-- The facts that can change, all at once, but for metadata that wasn't read; the caller holds the head's lock.
UPDATE session
SET title = $3, title_source = $4, pinned = $5, archived = $6, state = $7, end_reason = $8,
    labels = $9::text::jsonb, metadata = coalesce($10, metadata), turn_index = $11, end_time = $12,
    fact_changes = fact_changes + 1, update_time = statement_timestamp()
WHERE bucket = $1 AND session_key = $2;

-- name: set_head_state
-- Appends look at the head's state alone, claims of reminders at the reminder.
WITH reminders AS (
    UPDATE reminder
    SET held = $3 <> 1
    WHERE bucket = $1 AND session_key = $2 AND state = 1
)
UPDATE session_head
SET state = $3, unsettled = true
WHERE bucket = $1 AND session_key = $2;

-- name: context_changed
-- What changes the context without being an append counts as activity.
UPDATE session_head
SET context_changes = context_changes + 1, activity_time = greatest(activity_time, statement_timestamp()),
    unsettled = true
WHERE bucket = $1 AND session_key = $2
RETURNING next_seq, next_seq + context_changes, context_token_count;

-- name: count_context_changes
-- Other changes of the context: of the prompt, and what is imported.
UPDATE session_head
SET context_changes = context_changes + $3, unsettled = true
WHERE bucket = $1 AND session_key = $2;

-- name: lock_titles
-- Who needs a title that nobody else has waits for others who do. Titles may be given without it.
SELECT pg_advisory_xact_lock($1);

-- name: add_title
-- A session's title, by its series.
INSERT INTO session_title (bucket, tenant, owner, series, number, session_id)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: title_holder
-- Another session of the owner that has a title.
SELECT session_id
FROM session_title
WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND series = $4 AND number = $5 AND session_id <> $6
ORDER BY session_id
LIMIT 1;

-- name: remove_title
-- What a session was called.
DELETE FROM session_title
WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND series = $4 AND number = $5 AND session_id = $6;

-- name: series_numbers
-- The newest of a title's series, but for that of session $5.
SELECT max(number) AS newest
FROM session_title
WHERE bucket = $1 AND tenant = $2 AND owner = $3 AND series = $4 AND session_id <> $5;

-- name: sessions_by_prefix
-- A range of the C collation is a prefix search in which % and _ mean themselves.
SELECT session_id
FROM session
WHERE tenant = $1 AND session_id >= $2 AND ($3::text IS NULL OR session_id < $3) AND ($4 = '' OR owner = $4)
ORDER BY session_id
LIMIT 21;

-- name: newest_sessions_by_title
-- The newest of a series of each owner: several if they have the same title.
SELECT t.session_id
FROM session_title AS t
WHERE t.tenant = $1 AND t.series = $2 AND ($3 = '' OR t.owner = $3)
    AND NOT EXISTS (
        SELECT
        FROM session_title AS n
        WHERE n.bucket = t.bucket AND n.tenant = t.tenant AND n.owner = t.owner AND n.series = t.series
            AND n.number > t.number
    )
ORDER BY t.number DESC
LIMIT 21;

-- name: sessions_by_title
-- The sessions with a title.
SELECT session_id
FROM session_title
WHERE tenant = $1 AND series = $2 AND number = $3 AND ($4 = '' OR owner = $4)
LIMIT 21;

-- name: session_exists
-- Whether an id is taken.
SELECT s.create_request_id
FROM session AS s
WHERE s.bucket = $1 AND s.session_key = $2;

-- name: parent
-- From which session one comes.
SELECT parent_id
FROM session
WHERE bucket = $1 AND session_key = $2;

-- name: revise_session
-- That a fact was changed which another table has.
UPDATE session
SET fact_changes = fact_changes + 1, update_time = statement_timestamp()
WHERE bucket = $1 AND session_key = $2;

-- name: children
-- The direct children of sessions, with what decides their fate.
SELECT bucket, session_key, session_id, incarnation, parent_kind, lifecycle
FROM session
WHERE tenant = $1 AND parent_id = ANY($2::text[])
ORDER BY session_id;

-- name: detach_children
-- Children that outlive their parent have none then, and are the roots of their own trees.
WITH RECURSIVE tree AS (
    SELECT s.bucket, s.session_key, s.session_id, s.session_id AS root_id, s.spawn_depth AS lift
    FROM session AS s
    WHERE s.tenant = $1 AND s.session_id = ANY($2::text[])
    UNION ALL
    SELECT c.bucket, c.session_key, c.session_id, t.root_id, t.lift
    FROM tree AS t
    JOIN session AS c ON c.tenant = $1 AND c.parent_id = t.session_id
)
UPDATE session AS s
SET root_id = t.root_id,
    spawn_depth = s.spawn_depth - t.lift,
    parent_id = CASE WHEN s.session_id = t.root_id THEN NULL ELSE s.parent_id END,
    parent_kind = CASE WHEN s.session_id = t.root_id THEN 0 ELSE s.parent_kind END,
    fact_changes = s.fact_changes + 1,
    update_time = statement_timestamp()
FROM tree AS t
WHERE s.bucket = t.bucket AND s.session_key = t.session_key
RETURNING s.bucket, s.session_key, s.session_id = t.root_id AS is_root, t.lift <> 0 AS is_lifted;

-- name: titles_of
-- The titles that go with sessions.
SELECT s.tenant, s.owner, s.title, s.session_id
FROM session AS s
JOIN unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key) USING (bucket, session_key)
WHERE s.title <> '';

-- name: message_total
-- What a deletion takes with it.
SELECT coalesce(sum(message_count), 0)::bigint
FROM session_head
JOIN unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key) USING (bucket, session_key);

-- name: delete_session_rows
-- All that belongs to sessions but their titles, which are in buckets of their owners, and what they share.
-- Tombstones stay for a while.
WITH gone AS (
    SELECT bucket, session_key
    FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
),
stones AS (
    INSERT INTO session_tombstone (
        bucket, session_key, incarnation, tenant, session_id, owner, source, agent, parent_id, parent_kind,
        position, delete_time
    )
    SELECT
        s.bucket, s.session_key, s.incarnation, s.tenant, s.session_id, s.owner, s.source, s.agent,
        s.parent_id, s.parent_kind, 0, statement_timestamp()
    FROM session AS s
    JOIN gone USING (bucket, session_key)
),
messages AS (
    DELETE FROM message AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
revisions AS (
    DELETE FROM message_revision AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
calls AS (
    DELETE FROM open_tool_call AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
results AS (
    DELETE FROM tool_result AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
compactions AS (
    DELETE FROM compaction AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
rewinds AS (
    DELETE FROM rewind AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
spans AS (
    DELETE FROM hidden_span AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
changes AS (
    DELETE FROM session_change AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
entries AS (
    DELETE FROM search_entry AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
setups AS (
    DELETE FROM session_setup AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
progress AS (
    DELETE FROM search_progress AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
drafts AS (
    DELETE FROM draft_piece AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
usage AS (
    DELETE FROM usage_sum AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
usage_turns AS (
    DELETE FROM usage_turn AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
billing AS (
    DELETE FROM usage_billing AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
requests AS (
    DELETE FROM session_request AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
journal AS (
    DELETE FROM journal_record AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
journal_totals AS (
    DELETE FROM journal_total AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
cursors AS (
    DELETE FROM consumer_cursor AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
reminders AS (
    DELETE FROM reminder AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
segments AS (
    DELETE FROM message_segment AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
offloads AS (
    DELETE FROM message_offload AS t USING gone
    WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
),
heads AS (
    DELETE FROM session_head AS t USING gone WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key
)
DELETE FROM session AS t USING gone
WHERE t.bucket = gone.bucket AND t.session_key = gone.session_key;

-- name: clear_session_rows
-- Everything but the session itself, its newest setup, its attachments, reminders and cursors. Of its changes
-- those stay that aren't about messages: $3 are their kinds.
WITH messages AS (
    DELETE FROM message WHERE bucket = $1 AND session_key = $2
),
revisions AS (
    DELETE FROM message_revision WHERE bucket = $1 AND session_key = $2
),
calls AS (
    DELETE FROM open_tool_call WHERE bucket = $1 AND session_key = $2
),
results AS (
    DELETE FROM tool_result WHERE bucket = $1 AND session_key = $2
),
compactions AS (
    DELETE FROM compaction WHERE bucket = $1 AND session_key = $2
),
rewinds AS (
    DELETE FROM rewind WHERE bucket = $1 AND session_key = $2
),
journal AS (
    DELETE FROM journal_record WHERE bucket = $1 AND session_key = $2
),
journal_totals AS (
    UPDATE journal_total
    SET record_count = 0, content_bytes = 0
    WHERE bucket = $1 AND session_key = $2
),
log_requests AS (
    DELETE FROM session_request WHERE bucket = $1 AND session_key = $2 AND kind = 2
),
spans AS (
    DELETE FROM hidden_span WHERE bucket = $1 AND session_key = $2
),
setups AS (
    DELETE FROM session_setup AS f
    WHERE f.bucket = $1 AND f.session_key = $2
        AND f.effective_seq < (
            SELECT max(n.effective_seq)
            FROM session_setup AS n
            WHERE n.bucket = $1 AND n.session_key = $2
        )
),
entries AS (
    DELETE FROM search_entry WHERE bucket = $1 AND session_key = $2 AND seq > 0
),
segments AS (
    DELETE FROM message_segment WHERE bucket = $1 AND session_key = $2
),
offloads AS (
    DELETE FROM message_offload WHERE bucket = $1 AND session_key = $2
),
changes AS (
    DELETE FROM session_change WHERE bucket = $1 AND session_key = $2 AND kind <> ALL($3::smallint[])
)
UPDATE session_head
SET first_seq = next_seq, next_change = next_change + 1, message_count = 0, tool_call_count = 0,
    context_message_count = 0, context_token_count = 0, offloaded_before_seq = 0, unsettled = true
WHERE bucket = $1 AND session_key = $2;

-- name: copy_session_rows
-- A fork's history as it was right after message $5, or all of it as it stands when $5 is null. A message
-- that was changed later is copied as it was then. What is offloaded of it is copied beforehand: $6 messages
-- with $7 tool calls. Its changes are counted as an import of the fork counts them.
WITH messages AS (
    INSERT INTO message (
        bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript,
        summary, client_id, type, tool_call_ids, tool_result_ids, payload
    )
    SELECT
        $3, $4, m.seq, m.create_time, coalesce(r.token_count, m.token_count), m.role,
        coalesce(r.kind, m.kind), coalesce(r.in_context, m.in_context),
        coalesce(r.in_transcript, m.in_transcript), m.summary, m.client_id,
        CASE WHEN r.seq IS NULL THEN m.type ELSE r.type END, m.tool_call_ids, m.tool_result_ids,
        coalesce(r.payload, m.payload)
    FROM message AS m
    LEFT JOIN LATERAL (
        SELECT *
        FROM message_revision AS r
        WHERE r.bucket = m.bucket AND r.session_key = m.session_key AND r.seq = m.seq
            AND r.effective_seq > $5::bigint
        ORDER BY r.change_no
        LIMIT 1
    ) AS r ON true
    WHERE m.bucket = $1 AND m.session_key = $2 AND ($5::bigint IS NULL OR m.seq <= $5)
    RETURNING tool_call_ids
),
results AS (
    INSERT INTO tool_result (bucket, session_key, tool_call_id, seq)
    SELECT $3, $4, tool_call_id, seq
    FROM tool_result
    WHERE bucket = $1 AND session_key = $2 AND ($5::bigint IS NULL OR seq <= $5)
),
revisions AS (
    INSERT INTO message_revision
    SELECT
        $3, $4, seq, change_no, effective_seq, token_count, kind, in_context, in_transcript, type, payload
    FROM message_revision
    WHERE bucket = $1 AND session_key = $2 AND ($5::bigint IS NULL OR effective_seq <= $5)
    RETURNING change_no
),
compactions AS (
    INSERT INTO compaction
    SELECT
        $3, $4, summary_seq, change_no, from_seq, to_seq, message_count, tokens_before, tokens_after,
        author, actor, model, turn_index, create_time,
        CASE WHEN $5::bigint IS NULL OR revert_effective_seq <= $5 THEN revert_time END,
        CASE WHEN $5::bigint IS NULL OR revert_effective_seq <= $5 THEN revert_effective_seq END
    FROM compaction
    WHERE bucket = $1 AND session_key = $2 AND ($5::bigint IS NULL OR summary_seq <= $5)
    RETURNING revert_time
),
rewinds AS (
    INSERT INTO rewind
    SELECT
        $3, $4, rewind_id, after_seq, to_seq, effective_seq, author, actor, create_time,
        CASE WHEN $5::bigint IS NULL OR revert_effective_seq <= $5 THEN revert_time END,
        CASE WHEN $5::bigint IS NULL OR revert_effective_seq <= $5 THEN revert_effective_seq END
    FROM rewind
    WHERE bucket = $1 AND session_key = $2 AND ($5::bigint IS NULL OR effective_seq <= $5)
    RETURNING revert_time
),
total AS (
    SELECT count(*) AS messages, coalesce(sum(cardinality(tool_call_ids)), 0) AS calls
    FROM messages
),
changed AS (
    SELECT count(*) + count(revert_time) AS changes FROM compactions
    UNION ALL
    SELECT count(*) + count(revert_time) FROM rewinds
    UNION ALL
    SELECT count(DISTINCT change_no) FROM revisions
)
UPDATE session_head AS h
SET first_seq = o.first_seq,
    next_seq = coalesce($5 + 1, o.next_seq),
    next_change = o.next_change,
    context_changes = (SELECT sum(changes) FROM changed),
    unsettled = true,
    message_count = total.messages + $6::bigint,
    tool_call_count = total.calls + $7::bigint
FROM total, session_head AS o
WHERE h.bucket = $3 AND h.session_key = $4 AND o.bucket = $1 AND o.session_key = $2;
