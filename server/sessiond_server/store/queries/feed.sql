-- name: record_change
-- A change takes its number and its place in the order from the locked head. All of a transaction have its time,
-- by which feeds know that they belong together.
WITH head AS (
    UPDATE session_head
    SET next_change = next_change + 1, unsettled = true
    WHERE bucket = $1 AND session_key = $2
    RETURNING next_change - 1 AS change_no, next_seq - 1 AS after_seq
)
INSERT INTO session_change (
    bucket, session_key, change_no, after_seq, kind, reference, seqs, child_id, child_kind, create_time
)
SELECT $1, $2, change_no, after_seq, $3, $4, $5, $6, $7, transaction_timestamp()
FROM head;

-- name: record_facts_of
-- Changes of kind $4 of several locked sessions, one of each, with a reference of its own.
WITH head AS (
    UPDATE session_head AS h
    SET next_change = h.next_change + 1, unsettled = true
    FROM unnest($1::smallint[], $2::uuid[], $3::bigint[]) AS k (bucket, session_key, reference)
    WHERE h.bucket = k.bucket AND h.session_key = k.session_key
    RETURNING h.bucket, h.session_key, h.next_change - 1 AS change_no, h.next_seq - 1 AS after_seq, k.reference
)
INSERT INTO session_change (
    bucket, session_key, change_no, after_seq, kind, reference, seqs, child_id, child_kind, create_time
)
SELECT
    bucket, session_key, change_no, after_seq, $4, reference, NULL, '', 0, transaction_timestamp()
FROM head;

-- name: record_deleted_attachments
-- All attachments of a session are about to go: each is a change of kind $3, of which $4 happens to it.
WITH going AS (
    SELECT attachment_id, row_number() OVER (ORDER BY attachment_id) AS place
    FROM attachment
    WHERE bucket = $1 AND session_key = $2
),
head AS (
    UPDATE session_head
    SET next_change = next_change + (SELECT count(*) FROM going)
    WHERE bucket = $1 AND session_key = $2
    RETURNING next_change - (SELECT count(*) FROM going) AS first_change, next_seq - 1 AS after_seq
)
INSERT INTO session_change (
    bucket, session_key, change_no, after_seq, kind, reference, seqs, child_id, child_kind, create_time
)
SELECT
    $1, $2, first_change + place - 1, after_seq, $3, 0, NULL, attachment_id, $4, transaction_timestamp()
FROM head
CROSS JOIN going;

-- name: feed_start
-- A session's state, and what stands where a watch is to begin: $3 a seq or null for the last, $4 a change
-- or null for the last before seq $5.
SELECT
    s.incarnation, h.first_seq, h.next_seq, h.next_change, h.offloaded_before_seq, p.seq, p.change_no,
    (
        SELECT m.create_time
        FROM message AS m
        WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq = p.seq
    ) AS seq_time,
    (
        SELECT c.create_time
        FROM session_change AS c
        WHERE c.bucket = $1 AND c.session_key = $2 AND c.change_no = p.change_no
    ) AS change_time
FROM session AS s
JOIN session_head AS h USING (bucket, session_key)
CROSS JOIN LATERAL (
    SELECT
        coalesce($3::bigint, h.next_seq - 1) AS seq,
        coalesce($4::bigint, (
            SELECT max(c.change_no)
            FROM session_change AS c
            WHERE c.bucket = $1 AND c.session_key = $2 AND c.after_seq < $5
        ), 0) AS change_no
) AS p
WHERE s.bucket = $1 AND s.session_key = $2;

-- name: feed_page
-- What happened behind message $3 and change $4, in order: $5 how many at most, $6 how many bytes. One
-- statement sees one state; a row without a place says that nothing happened.
SELECT
    s.incarnation, h.next_seq, h.next_change, h.offloaded_before_seq,
    i.seq, i.change_no, i.create_time, i.summary, i.payload, i.kind, i.reference, i.seqs, i.child_id,
    i.child_kind, i.client_id, i.available
FROM session AS s
JOIN session_head AS h USING (bucket, session_key)
LEFT JOIN LATERAL (
    SELECT
        o.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(coalesce(octet_length(o.payload), 0) + 64) OVER page AS bytes
    FROM (
        (
            SELECT
                m.seq, 0::bigint AS change_no, m.create_time, m.summary, m.payload, 0::smallint AS kind,
                0::bigint AS reference, NULL::bigint[] AS seqs, '' AS child_id, 0::smallint AS child_kind,
                m.client_id
            FROM message AS m
            WHERE m.bucket = $1 AND m.session_key = $2 AND m.seq > $3
            ORDER BY m.seq
            LIMIT $5
        )
        UNION ALL
        (
            SELECT
                c.after_seq, c.change_no, c.create_time, false, NULL, c.kind,
                c.reference, c.seqs, c.child_id, c.child_kind, ''
            FROM session_change AS c
            WHERE c.bucket = $1 AND c.session_key = $2 AND c.change_no > $4
            ORDER BY c.change_no
            LIMIT $5
        )
        ORDER BY seq, change_no
        LIMIT $5
    ) AS o
    WINDOW page AS (ORDER BY o.seq, o.change_no ROWS UNBOUNDED PRECEDING)
) AS i ON i.place = 1 OR i.bytes <= $6
WHERE s.bucket = $1 AND s.session_key = $2
ORDER BY i.seq, i.change_no;

-- name: feed_versions
-- How far sessions have come: the sweep finds by it what no hint told.
SELECT s.bucket, s.session_key, s.incarnation, h.next_seq, h.next_change
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
JOIN session AS s USING (bucket, session_key)
JOIN session_head AS h USING (bucket, session_key);

-- name: descendants
-- All that come from a session: its children, theirs, and so on.
WITH RECURSIVE tree AS (
    SELECT s.session_id
    FROM session AS s
    WHERE s.tenant = $1 AND s.parent_id = $2
    UNION
    SELECT s.session_id
    FROM tree AS t
    JOIN session AS s ON s.tenant = $1 AND s.parent_id = t.session_id
)
SELECT session_id
FROM tree
LIMIT $3;
