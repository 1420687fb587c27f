-- name: journal_total
-- How many records a session has, and which number the next one gets.
SELECT next_seq, record_count, content_bytes
FROM journal_total
WHERE bucket = $1 AND session_key = $2;

-- name: append_journal
-- Records with the numbers from $3 on; the caller holds the head's lock.
WITH total AS (
    INSERT INTO journal_total (bucket, session_key, next_seq, record_count, content_bytes)
    VALUES ($1, $2, $3::bigint + cardinality($4::text[]), cardinality($4), $8)
    ON CONFLICT (bucket, session_key) DO UPDATE
    SET next_seq = excluded.next_seq,
        record_count = journal_total.record_count + excluded.record_count,
        content_bytes = journal_total.content_bytes + excluded.content_bytes
)
INSERT INTO journal_record (
    bucket, session_key, seq, kind, turn_index, content, origin_time, create_time
)
SELECT $1, $2, $3 - 1 + r.place, r.kind, r.turn_index, r.content, r.origin_time, statement_timestamp()
FROM unnest($4, $5::integer[], $6::bytea[], $7::timestamptz[])
    WITH ORDINALITY AS r (kind, turn_index, content, origin_time, place);

-- name: list_journal
-- A page of the records $3 to $4, of the kinds $5 if these are given, $6 at most, $7 bytes at most.
SELECT seq, kind, turn_index, content, origin_time, create_time, available
FROM (
    SELECT
        r.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(octet_length(r.content) + octet_length(r.kind) + 64) OVER page AS bytes
    FROM (
        SELECT *
        FROM journal_record
        WHERE bucket = $1 AND session_key = $2 AND seq BETWEEN $3 AND $4
            AND ($5::text[] IS NULL OR kind = ANY($5))
        ORDER BY seq :direction
        LIMIT $6
    ) AS r
    WINDOW page AS (ORDER BY r.seq :direction ROWS UNBOUNDED PRECEDING)
) AS r
WHERE place = 1 OR bytes <= $7
ORDER BY seq :direction;
