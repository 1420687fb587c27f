-- name: insert_draft_piece
-- The next piece of a draft, unless its session was deleted meanwhile.
INSERT INTO draft_piece (
    bucket, session_key, draft_id, piece_no, client_id, whole, content, ended, create_time
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp()
WHERE EXISTS (SELECT FROM session WHERE bucket = $1 AND session_key = $2);

-- name: draft_pieces
-- What is new of a session's drafts: $3, $4 the drafts that are known and their last pieces. The age in
-- seconds of the last piece says whether its publisher lives.
SELECT
    p.draft_id, p.piece_no, p.client_id, p.whole, p.content, p.ended,
    extract(epoch FROM clock_timestamp() - p.create_time)::float8 AS age
FROM draft_piece AS p
LEFT JOIN unnest($3::uuid[], $4::integer[]) AS k (draft_id, piece_no) USING (draft_id)
WHERE p.bucket = $1 AND p.session_key = $2 AND p.piece_no > coalesce(k.piece_no, -1)
ORDER BY p.draft_id, p.piece_no;

-- name: recent_drafts
-- The sessions of whose drafts something came lately; few drafts are under way at any time.
SELECT DISTINCT bucket, session_key
FROM draft_piece
WHERE create_time > clock_timestamp() - $1::interval;

-- name: forget_draft
-- A draft that has ended.
DELETE FROM draft_piece
WHERE bucket = $1 AND session_key = $2 AND draft_id = $3;

-- name: forget_old_drafts
-- What servers that were killed have left behind: drafts without a piece for $1.
DELETE FROM draft_piece AS p
WHERE NOT EXISTS (
    SELECT
    FROM draft_piece AS q
    WHERE q.bucket = p.bucket AND q.session_key = p.session_key AND q.draft_id = p.draft_id
        AND q.create_time > clock_timestamp() - $1::interval
);

-- name: appended_among
-- Which of these client ids a session has.
SELECT i.client_id
FROM unnest($3::text[]) AS i (client_id)
WHERE i.client_id = (
    SELECT m.client_id
    FROM message AS m
    WHERE m.bucket = $1 AND m.session_key = $2 AND m.client_id >= i.client_id
    ORDER BY m.client_id
    LIMIT 1
);
