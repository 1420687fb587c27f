-- name: begin_upload
-- Unless the session is gone; one that is about to go waits for the lock, and then takes the upload with it.
WITH there AS MATERIALIZED (
    SELECT bucket, session_key
    FROM session
    WHERE bucket = $1 AND session_key = $2
    FOR KEY SHARE
)
INSERT INTO attachment_upload (bucket, session_key, content_id, expire_time)
SELECT bucket, session_key, $3, clock_timestamp() + $4::interval
FROM there
RETURNING content_id;

-- name: keep_upload
-- A sign of life. Nothing if the upload was given up, or went with its session.
UPDATE attachment_upload
SET expire_time = clock_timestamp() + $4::interval
WHERE bucket = $1 AND session_key = $2 AND content_id = $3
RETURNING content_id;

-- name: insert_chunks
-- The next chunks, beginning with number $6: they never come without an upload, whose row is locked.
WITH upload AS (
    UPDATE attachment_upload
    SET expire_time = clock_timestamp() + $4::interval, received = received + $8
    WHERE bucket = $1 AND session_key = $2 AND content_id = $3
    RETURNING content_id
)
INSERT INTO attachment_chunk (bucket, content_id, chunk_no, content)
SELECT $5, upload.content_id, $6::integer + c.place::integer - 1, c.content
FROM upload, unnest($7::bytea[]) WITH ORDINALITY AS c (content, place)
RETURNING chunk_no;

-- name: start_upload
-- One that goes on call by call. The caller holds the lock of the session's head.
INSERT INTO attachment_upload (
    bucket, session_key, content_id, expire_time, key_id, attachment_id, name, mime_type, disposition,
    metadata, size, sha256
)
VALUES ($1, $2, $3, clock_timestamp() + $4::interval, $5, $6, $7, $8, $9, $10, $11, $12)
RETURNING *;

-- name: lock_upload
-- One that key $4 started and may write.
SELECT *
FROM attachment_upload
WHERE bucket = $1 AND session_key = $2 AND content_id = $3 AND key_id = $4
FOR UPDATE;

-- name: read_upload
-- The same without a lock.
SELECT *
FROM attachment_upload
WHERE bucket = $1 AND session_key = $2 AND content_id = $3 AND key_id = $4;

-- name: upload_of_attachment
-- The one of attachment $3 that key $4 started. A session has few.
SELECT *
FROM attachment_upload
WHERE bucket = $1 AND session_key = $2 AND attachment_id = $3 AND key_id = $4
ORDER BY content_id
LIMIT 1;

-- name: attachment_of_upload
-- What an upload came to, for a repeated call.
SELECT *
FROM attachment
WHERE bucket = $1 AND session_key = $2 AND $3 = ANY(upload_ids);

-- name: note_upload
-- Upload $4 came to an attachment that was there. The caller holds the lock of the session's head.
UPDATE attachment
SET upload_ids = (upload_ids || $4::uuid)[greatest(1, cardinality(upload_ids) - 14):]
WHERE bucket = $1 AND session_key = $2 AND attachment_id = $3 AND $4 <> ALL(upload_ids);

-- name: end_upload
-- Its chunks are given to a content, or have to be deleted.
DELETE FROM attachment_upload
WHERE bucket = $1 AND session_key = $2 AND content_id = $3
RETURNING content_id;

-- name: take_uploads
-- The uploads of sessions that go.
DELETE FROM attachment_upload AS u
USING unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
WHERE u.bucket = k.bucket AND u.session_key = k.session_key
RETURNING u.content_id;

-- name: expired_uploads
-- Uploads whose server has died; those that another transaction is at are left to it.
SELECT bucket, session_key, content_id
FROM attachment_upload
WHERE expire_time < clock_timestamp()
ORDER BY expire_time
LIMIT $1
FOR UPDATE SKIP LOCKED;

-- name: delete_chunks
-- Of contents that nothing refers to.
DELETE FROM attachment_chunk AS c
USING unnest($1::smallint[], $2::uuid[]) AS k (bucket, content_id)
WHERE c.bucket = k.bucket AND c.content_id = k.content_id;

-- name: claim_content
-- One more reference to bytes: to those that there are, or else to $4, which are new then.
INSERT INTO attachment_content AS c (
    bucket, tenant, sha256, content_id, size, reference_count, create_time
)
VALUES ($1, $2, $3, $4, $5, 1, statement_timestamp())
ON CONFLICT (bucket, tenant, sha256) DO UPDATE SET reference_count = c.reference_count + 1
RETURNING content_id;

-- name: lock_contents
-- In key order as everywhere, so that two that want the same ones don't wait for each other.
SELECT c.bucket, c.tenant, c.sha256
FROM attachment_content AS c
JOIN unnest($1::smallint[], $2::text[], $3::bytea[]) AS k (bucket, tenant, sha256)
    USING (bucket, tenant, sha256)
ORDER BY c.bucket, c.tenant, c.sha256
FOR UPDATE OF c;

-- name: count_contents
-- So many references more or less ($4), of locked contents.
UPDATE attachment_content AS c
SET reference_count = c.reference_count + k.difference
FROM unnest($1::smallint[], $2::text[], $3::bytea[], $4::bigint[])
    AS k (bucket, tenant, sha256, difference)
WHERE c.bucket = k.bucket AND c.tenant = k.tenant AND c.sha256 = k.sha256;

-- name: delete_unreferenced
-- Of these contents those whose last reference is gone; what is left of them are chunks.
DELETE FROM attachment_content AS c
USING unnest($1::smallint[], $2::text[], $3::bytea[]) AS k (bucket, tenant, sha256)
WHERE c.bucket = k.bucket AND c.tenant = k.tenant AND c.sha256 = k.sha256
    AND c.reference_count = 0
RETURNING c.content_id;

-- name: insert_attachment
-- The caller holds the lock of the session's head.
INSERT INTO attachment (
    bucket, session_key, attachment_id, name, mime_type, disposition, metadata, tenant, sha256, size,
    content_id, create_time, update_time, upload_ids
)
VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce($12, statement_timestamp()),
    coalesce($13, $12, statement_timestamp()), $14
)
RETURNING *;

-- name: update_attachment
-- The facts that can change, and when they did: later than before, as the etag says so. The caller holds the
-- lock of the session's head.
UPDATE attachment
SET name = $4,
    mime_type = $5,
    disposition = $6,
    metadata = $7,
    update_time = greatest(statement_timestamp(), update_time + interval '1 microsecond')
WHERE bucket = $1 AND session_key = $2 AND attachment_id = $3
RETURNING *;

-- name: read_attachment
-- One attachment.
SELECT *
FROM attachment
WHERE bucket = $1 AND session_key = $2 AND attachment_id = $3;

-- name: list_attachments
-- A page behind name $3, of names from $4 on and below $5 (null: without end), that takes $7 bytes at most,
-- or of one row; and how many rows $6 lets through.
SELECT *
FROM (
    SELECT
        a.*,
        sum(
            128 + octet_length(a.attachment_id) + octet_length(a.name) + octet_length(a.mime_type)
            + octet_length(a.metadata)
        ) OVER (ORDER BY a.name) AS total,
        row_number() OVER (ORDER BY a.name) AS place,
        count(*) OVER () AS found
    FROM (
        SELECT *
        FROM attachment
        WHERE bucket = $1 AND session_key = $2 AND name > $3 AND name >= $4
            AND ($5::text IS NULL OR name < $5)
        ORDER BY name
        LIMIT $6
    ) AS a
) AS b
WHERE place = 1 OR total <= $7::bigint
ORDER BY name;

-- name: attachments_by_id
-- So many attachments ($4) behind id $3.
SELECT *
FROM attachment
WHERE bucket = $1 AND session_key = $2 AND attachment_id > $3
ORDER BY attachment_id
LIMIT $4;

-- name: attachment_totals
-- What a session holds, with what the uploads are to bring that go on call by call, but for upload $3; and how
-- many these are.
SELECT a.count + u.count AS count, (a.size + u.size)::bigint AS size, u.count AS uploads
FROM (
    SELECT count(*) AS count, coalesce(sum(size), 0) AS size
    FROM attachment
    WHERE bucket = $1 AND session_key = $2
) AS a, (
    SELECT count(*) AS count, coalesce(sum(size), 0) AS size
    FROM attachment_upload
    WHERE bucket = $1 AND session_key = $2 AND attachment_id IS NOT NULL AND content_id <> $3
) AS u;

-- name: attachment_name_taken
-- Whether a name is in use, as a file or as a directory, or one of the directories in it ($4) as a file, by
-- another attachment than $5.
SELECT EXISTS (
    SELECT
    FROM attachment
    WHERE bucket = $1 AND session_key = $2 AND attachment_id <> $5
        AND (name = $3 OR name = ANY($4::text[]) OR (name > $3 || '/' AND name < $3 || '0'))
);

-- name: attachment_names
-- All names of a session but that of attachment $3, for the rare case that one is taken.
SELECT name
FROM attachment
WHERE bucket = $1 AND session_key = $2 AND attachment_id <> $3;

-- name: delete_attachment
-- One attachment; what it referred to.
DELETE FROM attachment
WHERE bucket = $1 AND session_key = $2 AND attachment_id = $3
RETURNING tenant, sha256;

-- name: take_attachments
-- The attachments of sessions that go, and how often each content was referred to.
WITH gone AS (
    DELETE FROM attachment AS a
    USING unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
    WHERE a.bucket = k.bucket AND a.session_key = k.session_key
    RETURNING a.tenant, a.sha256
)
SELECT tenant, sha256, count(*) AS count
FROM gone
GROUP BY tenant, sha256;

-- name: copy_attachments
-- A fork has the same ones.
WITH copied AS (
    INSERT INTO attachment (
        bucket, session_key, attachment_id, name, mime_type, disposition, metadata, tenant, sha256, size,
        content_id, create_time, update_time
    )
    SELECT
        $3, $4, attachment_id, name, mime_type, disposition, metadata, tenant, sha256, size,
        content_id, create_time, update_time
    FROM attachment
    WHERE bucket = $1 AND session_key = $2
    RETURNING tenant, sha256
)
SELECT tenant, sha256, count(*) AS count
FROM copied
GROUP BY tenant, sha256;

-- name: read_chunks
-- Some chunks of a content, from number $3 to $4.
SELECT chunk_no, content
FROM attachment_chunk
WHERE bucket = $1 AND content_id = $2 AND chunk_no BETWEEN $3 AND $4
ORDER BY chunk_no;
