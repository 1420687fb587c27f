-- name: insert_api_key
-- A new key, which is good until $7 if that isn't null.
INSERT INTO api_key (
    key_id, secret_hash, name, tenant, owner, permissions, create_time, expire_time
)
VALUES ($1, $2, $3, $4, $5, $6, now(), $7);

-- name: find_api_key
-- A key that hasn't expired.
SELECT secret_hash, tenant, owner, permissions
FROM api_key
WHERE key_id = $1 AND (expire_time IS NULL OR expire_time > now());

-- name: list_api_keys
-- All keys, the newest first; for the command line.
SELECT key_id, name, tenant, owner, permissions, create_time, expire_time
FROM api_key
ORDER BY create_time DESC, key_id;

-- name: delete_api_key
-- Revoke a key.
DELETE FROM api_key WHERE key_id = $1 RETURNING true;

-- name: session_owner
-- Whose a session is.
SELECT owner
FROM session
WHERE bucket = $1 AND session_key = $2;

-- name: session_owners
-- Whose the sessions are, of those that there are, and which creation of each it is.
SELECT s.session_id, s.owner, s.incarnation
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
JOIN session AS s USING (bucket, session_key);
