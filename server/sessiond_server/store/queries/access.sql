-- name: insert_api_key
-- A new key, which is good until $7 if that isn't null; nothing if the tenant's request made one before.
INSERT INTO api_key (
    key_id, secret_hash, name, tenant, owner, permissions, create_time, expire_time, creator, request_id
)
VALUES ($1, $2, $3, $4, $5, $6, now(), $7, $8, $9)
ON CONFLICT (tenant, request_id) WHERE request_id IS NOT NULL DO NOTHING
RETURNING key_id, name, tenant, owner, permissions, create_time, expire_time, creator;

-- name: find_api_key
-- A key that hasn't expired.
SELECT secret_hash, tenant, owner, permissions
FROM api_key
WHERE key_id = $1 AND (expire_time IS NULL OR expire_time > now());

-- name: hold_api_key
-- A key that is still good isn't revoked before what is done with it is committed.
SELECT key_id, name, tenant, owner, permissions, create_time, expire_time, creator
FROM api_key
WHERE key_id = $1 AND tenant = $2 AND (expire_time IS NULL OR expire_time > now())
FOR SHARE;

-- name: read_api_key
-- A tenant's key, expired or not.
SELECT key_id, name, tenant, owner, permissions, create_time, expire_time, creator
FROM api_key
WHERE key_id = $1 AND tenant = $2;

-- name: api_key_of_request
-- The key that a tenant's request made.
SELECT key_id, name, tenant, owner, permissions, create_time, expire_time, creator
FROM api_key
WHERE tenant = $1 AND request_id = $2;

-- name: page_api_keys
-- The $4 keys of a tenant behind a place, the newest first.
SELECT key_id, name, tenant, owner, permissions, create_time, expire_time, creator
FROM api_key
WHERE tenant = $1 AND (create_time, key_id) < ($2, $3)
ORDER BY create_time DESC, key_id DESC
LIMIT $4;

-- name: list_api_keys
-- All keys, the newest first; for the command line.
SELECT key_id, name, tenant, owner, permissions, create_time, expire_time, creator
FROM api_key
ORDER BY create_time DESC, key_id;

-- name: delete_api_key
-- Revoke a key, of a tenant if one is given.
DELETE FROM api_key
WHERE key_id = $1 AND ($2::text IS NULL OR tenant = $2)
RETURNING true;

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
