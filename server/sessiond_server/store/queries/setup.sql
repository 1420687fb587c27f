-- name: hold_text
-- A text that is there stays there until the transaction that will refer to it ends.
SELECT true
FROM setup_text
WHERE bucket = $1 AND text_id = $2
FOR KEY SHARE;

-- name: add_text
-- A text that isn't there yet, unless somebody else is adding it.
INSERT INTO setup_text (bucket, text_id, content)
VALUES ($1, $2, $3)
ON CONFLICT (bucket, text_id) DO NOTHING;

-- name: lock_text
-- Whoever would refer to a text waits until it is known whether it goes.
SELECT true
FROM setup_text
WHERE bucket = $1 AND text_id = $2
FOR UPDATE;

-- name: drop_text
-- A locked text that nobody refers to.
DELETE FROM setup_text
WHERE bucket = $1 AND text_id = $2
    AND NOT EXISTS (SELECT FROM session_setup WHERE prompt_id = $2)
    AND NOT EXISTS (SELECT FROM session_setup WHERE config_id = $2);

-- name: setup_texts
-- The texts that sessions refer to.
SELECT DISTINCT t.text_id
FROM session_setup AS f
JOIN unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key) USING (bucket, session_key)
CROSS JOIN unnest(ARRAY[f.prompt_id, f.config_id]) AS t (text_id)
WHERE t.text_id IS NOT NULL;

-- name: put_setup
-- What holds from a seq on, in the place of what was to hold from there.
INSERT INTO session_setup (bucket, session_key, effective_seq, prompt_id, config_id, model)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (bucket, session_key, effective_seq) DO UPDATE
SET prompt_id = excluded.prompt_id, config_id = excluded.config_id, model = excluded.model;

-- name: replaced_texts
-- The texts of the setup that holds from a seq on.
SELECT prompt_id, config_id
FROM session_setup
WHERE bucket = $1 AND session_key = $2 AND effective_seq = $3;

-- name: setup_as_of
-- What held as of message $3, or holds now if that is null.
SELECT system_prompt, model, config
FROM full_setup
WHERE bucket = $1 AND session_key = $2 AND ($3::bigint IS NULL OR effective_seq <= $3)
ORDER BY effective_seq DESC
LIMIT 1;

-- name: copy_setups
-- What held in a session up to message $5, or until now if that is null, for its fork.
INSERT INTO session_setup (bucket, session_key, effective_seq, prompt_id, config_id, model)
SELECT $3, $4, effective_seq, prompt_id, config_id, model
FROM session_setup
WHERE bucket = $1 AND session_key = $2 AND ($5::bigint IS NULL OR effective_seq <= $5);

-- name: setup_places
-- From which seqs on setups held, of those behind the first message ($3).
SELECT effective_seq
FROM session_setup
WHERE bucket = $1 AND session_key = $2 AND effective_seq > $3
ORDER BY effective_seq;

-- name: setup_at
-- The setup that holds from a seq on.
SELECT system_prompt, model, config
FROM full_setup
WHERE bucket = $1 AND session_key = $2 AND effective_seq = $3;
