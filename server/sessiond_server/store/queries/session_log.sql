-- name: log_total
-- How many records a session has, and which number the next one gets.
SELECT next_log_seq, record_count, content_bytes
FROM session_log_total
WHERE bucket = $1 AND session_key = $2;

-- name: append_log
-- Records with the numbers from $3 on; the caller holds the head's lock.
WITH total AS (
    INSERT INTO session_log_total (bucket, session_key, next_log_seq, record_count, content_bytes)
    VALUES ($1, $2, $3::bigint + cardinality($4::text[]), cardinality($4), $8)
    ON CONFLICT (bucket, session_key) DO UPDATE
    SET next_log_seq = excluded.next_log_seq,
        record_count = session_log_total.record_count + excluded.record_count,
        content_bytes = session_log_total.content_bytes + excluded.content_bytes
)
INSERT INTO session_log (
    bucket, session_key, log_seq, kind, round_index, content, origin_time, create_time
)
SELECT $1, $2, $3 - 1 + r.place, r.kind, r.round_index, r.content, r.origin_time, statement_timestamp()
FROM unnest($4, $5::integer[], $6::bytea[], $7::timestamptz[])
    WITH ORDINALITY AS r (kind, round_index, content, origin_time, place);

-- name: list_logs
-- A page of the records $3 to $4, of the kinds $5 if these are given, $6 at most, $7 bytes at most.
SELECT log_seq, kind, round_index, content, origin_time, create_time, available
FROM (
    SELECT
        r.*,
        count(*) OVER () AS available,
        row_number() OVER page AS place,
        sum(octet_length(r.content) + octet_length(r.kind) + 64) OVER page AS bytes
    FROM (
        SELECT *
        FROM session_log
        WHERE bucket = $1 AND session_key = $2 AND log_seq BETWEEN $3 AND $4
            AND ($5::text[] IS NULL OR kind = ANY($5))
        ORDER BY log_seq :direction
        LIMIT $6
    ) AS r
    WINDOW page AS (ORDER BY r.log_seq :direction ROWS UNBOUNDED PRECEDING)
) AS r
WHERE place = 1 OR bytes <= $7
ORDER BY log_seq :direction;
