-- name: add_usage
-- The own sums of sessions grow, or shrink when a turn is set anew, and those of their tenants with them.
-- Rows come in the order of their keys: writers of several would deadlock otherwise.
WITH added AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $1::smallint[], $2::uuid[], $3::date[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::numeric[],
        $16::bigint[], $17::numeric[]
    ) AS k (
        bucket, session_key, day, model, currency, record_count, model_calls, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, estimated_count, estimated,
        actual_count, actual
    )
),
own AS (
    INSERT INTO usage_sum (
        bucket, session_key, inherited, day, model, currency, record_count, model_calls, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, estimated_count, estimated,
        actual_count, actual
    )
    SELECT
        bucket, session_key, false, day, model, currency, record_count, model_calls, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, estimated_count, estimated,
        actual_count, actual
    FROM added
    ORDER BY bucket, session_key, day, model, currency
    ON CONFLICT (bucket, session_key, inherited, day, model, currency) DO UPDATE
    SET record_count = usage_sum.record_count + excluded.record_count,
        model_calls = usage_sum.model_calls + excluded.model_calls,
        input_tokens = usage_sum.input_tokens + excluded.input_tokens,
        output_tokens = usage_sum.output_tokens + excluded.output_tokens,
        cache_read_tokens = usage_sum.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = usage_sum.cache_write_tokens + excluded.cache_write_tokens,
        reasoning_tokens = usage_sum.reasoning_tokens + excluded.reasoning_tokens,
        total_tokens = usage_sum.total_tokens + excluded.total_tokens,
        estimated_count = usage_sum.estimated_count + excluded.estimated_count,
        estimated = usage_sum.estimated + excluded.estimated,
        actual_count = usage_sum.actual_count + excluded.actual_count,
        actual = usage_sum.actual + excluded.actual
)
INSERT INTO usage_of_tenant (
    bucket, tenant, day, model, currency, record_count, model_calls, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, reasoning_tokens, total_tokens, estimated_count, estimated, actual_count, actual
)
SELECT
    bucket, s.tenant, a.day, a.model, a.currency, sum(a.record_count), sum(a.model_calls), sum(a.input_tokens),
    sum(a.output_tokens), sum(a.cache_read_tokens), sum(a.cache_write_tokens), sum(a.reasoning_tokens),
    sum(a.total_tokens), sum(a.estimated_count), sum(a.estimated), sum(a.actual_count), sum(a.actual)
FROM added AS a
JOIN session AS s USING (bucket, session_key)
GROUP BY bucket, s.tenant, a.day, a.model, a.currency
ORDER BY bucket, s.tenant, a.day, a.model, a.currency
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
    actual = usage_of_tenant.actual + excluded.actual;

-- name: add_usage_of_turns
-- The same by turns.
INSERT INTO usage_turn (
    bucket, session_key, turn_index, model, day, currency, record_time, record_count, model_calls,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens,
    estimated_count, estimated, actual_count, actual
)
SELECT
    bucket, session_key, turn_index, model, day, currency, record_time, record_count, model_calls, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, estimated_count,
    estimated, actual_count, actual
FROM unnest(
    $1::smallint[], $2::uuid[], $3::integer[], $4::text[], $5::date[], $6::text[], $7::timestamptz[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
    $16::bigint[], $17::numeric[], $18::bigint[], $19::numeric[]
) AS k (
    bucket, session_key, turn_index, model, day, currency, record_time, record_count, model_calls, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, estimated_count,
    estimated, actual_count, actual
)
ORDER BY bucket, session_key, turn_index, model, day, currency
ON CONFLICT (bucket, session_key, turn_index, model, day, currency) DO UPDATE
SET record_time = greatest(usage_turn.record_time, excluded.record_time),
    record_count = usage_turn.record_count + excluded.record_count,
    model_calls = usage_turn.model_calls + excluded.model_calls,
    input_tokens = usage_turn.input_tokens + excluded.input_tokens,
    output_tokens = usage_turn.output_tokens + excluded.output_tokens,
    cache_read_tokens = usage_turn.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = usage_turn.cache_write_tokens + excluded.cache_write_tokens,
    reasoning_tokens = usage_turn.reasoning_tokens + excluded.reasoning_tokens,
    total_tokens = usage_turn.total_tokens + excluded.total_tokens,
    estimated_count = usage_turn.estimated_count + excluded.estimated_count,
    estimated = usage_turn.estimated + excluded.estimated,
    actual_count = usage_turn.actual_count + excluded.actual_count,
    actual = usage_turn.actual + excluded.actual;

-- name: usage_of_turns
-- What is recorded of turns that are set anew; the caller holds the head's lock.
SELECT turn_index, model, day, currency, record_time,
    record_count, model_calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, total_tokens, estimated_count, estimated, actual_count, actual
FROM usage_turn
WHERE bucket = $1 AND session_key = $2 AND turn_index = ANY($3::integer[]);

-- name: forget_turns
-- Before they are set anew.
DELETE FROM usage_turn
WHERE bucket = $1 AND session_key = $2 AND turn_index = ANY($3::integer[]);

-- name: read_billing
-- How the usage of sessions is paid for.
SELECT bucket, session_key, model, provider, base_url, mode, cost_status, cost_source, pricing_version
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
JOIN usage_billing USING (bucket, session_key);

-- name: store_billing
-- The same as it is now.
INSERT INTO usage_billing (
    bucket, session_key, model, provider, base_url, mode, cost_status, cost_source, pricing_version
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (bucket, session_key) DO UPDATE
SET model = excluded.model,
    provider = excluded.provider,
    base_url = excluded.base_url,
    mode = excluded.mode,
    cost_status = excluded.cost_status,
    cost_source = excluded.cost_source,
    pricing_version = excluded.pricing_version;

-- name: seen_requests
-- Which of these request ids the session has seen, with the digest of each and what came of it.
SELECT request_id, digest, result
FROM session_request
WHERE bucket = $1 AND session_key = $2 AND kind = $3 AND request_id = ANY($4::text[]);

-- name: note_requests
-- Request ids that were new; the caller holds the head's lock.
INSERT INTO session_request (bucket, session_key, kind, request_id, digest, result)
SELECT $1, $2, $3, k.request_id, k.digest, $6
FROM unnest($4::text[], $5::bytea[]) AS k (request_id, digest);

-- name: inherit_usage
-- Sessions that are about to be deleted leave their sums to $1, $2, if it exists.
INSERT INTO usage_sum (
    bucket, session_key, inherited, day, model, currency, record_count, model_calls, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, estimated_count,
    estimated, actual_count, actual
)
SELECT
    h.bucket, h.session_key, true, u.day, u.model, u.currency,
    sum(u.record_count), sum(u.model_calls), sum(u.input_tokens), sum(u.output_tokens),
    sum(u.cache_read_tokens), sum(u.cache_write_tokens), sum(u.reasoning_tokens), sum(u.total_tokens),
    sum(u.estimated_count), sum(u.estimated), sum(u.actual_count), sum(u.actual)
FROM session AS h
CROSS JOIN unnest($3::smallint[], $4::uuid[]) AS k (bucket, session_key)
JOIN usage_sum AS u ON u.bucket = k.bucket AND u.session_key = k.session_key
WHERE h.bucket = $1 AND h.session_key = $2
GROUP BY h.bucket, h.session_key, u.day, u.model, u.currency
HAVING sum(u.record_count) > 0
ORDER BY u.day, u.model, u.currency
ON CONFLICT (bucket, session_key, inherited, day, model, currency) DO UPDATE
SET record_count = usage_sum.record_count + excluded.record_count,
    model_calls = usage_sum.model_calls + excluded.model_calls,
    input_tokens = usage_sum.input_tokens + excluded.input_tokens,
    output_tokens = usage_sum.output_tokens + excluded.output_tokens,
    cache_read_tokens = usage_sum.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = usage_sum.cache_write_tokens + excluded.cache_write_tokens,
    reasoning_tokens = usage_sum.reasoning_tokens + excluded.reasoning_tokens,
    total_tokens = usage_sum.total_tokens + excluded.total_tokens,
    estimated_count = usage_sum.estimated_count + excluded.estimated_count,
    estimated = usage_sum.estimated + excluded.estimated,
    actual_count = usage_sum.actual_count + excluded.actual_count,
    actual = usage_sum.actual + excluded.actual;

-- name: leave_usage
-- Sessions that are about to be deleted leave what they used themselves to the sums of deleted ones.
INSERT INTO usage_of_deleted AS d (
    bucket, tenant, owner, source, agent, parent_kind, day, model, currency, record_count, model_calls,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens,
    estimated_count, estimated, actual_count, actual
)
SELECT
    s.bucket, s.tenant, s.owner, s.source, s.agent, CASE s.parent_kind WHEN 1 THEN 1 ELSE 0 END,
    u.day, u.model, u.currency, sum(u.record_count), sum(u.model_calls), sum(u.input_tokens),
    sum(u.output_tokens), sum(u.cache_read_tokens), sum(u.cache_write_tokens), sum(u.reasoning_tokens),
    sum(u.total_tokens), sum(u.estimated_count), sum(u.estimated), sum(u.actual_count), sum(u.actual)
FROM unnest($1::smallint[], $2::uuid[]) AS k (bucket, session_key)
JOIN session AS s ON s.bucket = k.bucket AND s.session_key = k.session_key
JOIN usage_sum AS u ON u.bucket = k.bucket AND u.session_key = k.session_key AND NOT u.inherited
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
HAVING sum(u.record_count) > 0
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
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
    actual = d.actual + excluded.actual;

-- name: usage_groups
-- What was used, by session ($1), owner ($2), source ($3), agent ($4), day ($5) and model ($6) if these are asked
-- for, on the days $7 to $8: the $15 first groups behind a place, each with a row per currency.
SELECT *
FROM (
    SELECT
        g.*,
        dense_rank() OVER (ORDER BY g.session_id, g.owner, g.source, g.agent, g.day, g.model) AS place
    FROM (
        SELECT
            CASE WHEN $1 THEN u.session_id ELSE '' END AS session_id,
            CASE WHEN $2 THEN u.owner ELSE '' END AS owner,
            CASE WHEN $3 THEN u.source ELSE '' END AS source,
            CASE WHEN $4 THEN u.agent ELSE '' END AS agent,
            CASE WHEN $5 THEN u.day::text ELSE '' END AS day,
            CASE WHEN $6 THEN u.model ELSE '' END AS model,
            u.currency,
            sum(u.record_count) AS record_count, sum(u.model_calls) AS model_calls,
            sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
            sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_tokens) AS cache_write_tokens,
            sum(u.reasoning_tokens) AS reasoning_tokens, sum(u.total_tokens) AS total_tokens,
            sum(u.estimated_count) AS estimated_count, sum(u.estimated) AS estimated,
            sum(u.actual_count) AS actual_count, sum(u.actual) AS actual
        FROM (:used) AS u
        GROUP BY 1, 2, 3, 4, 5, 6, 7
        HAVING sum(u.record_count) > 0
    ) AS g
    WHERE $9::text IS NULL
        OR (g.session_id, g.owner, g.source, g.agent, g.day, g.model)
            > ($9, $10::text, $11::text, $12::text, $13::text, $14::text)
) AS g
WHERE g.place <= $15
ORDER BY g.place, g.currency;

-- name: used_by_session
-- What a session used itself.
SELECT s.session_id, s.owner, s.source, s.agent, u.*
FROM session AS s
JOIN usage_sum AS u USING (bucket, session_key)
WHERE s.bucket = $16 AND s.session_key = $17 AND NOT u.inherited AND u.day BETWEEN $7::date AND $8::date;

-- name: used_by_subtree
-- What a session and all that come from it used, and what those that are deleted used.
SELECT t.*, u.*
FROM (
    WITH RECURSIVE tree AS (
        SELECT s.bucket, s.session_key, s.session_id, s.owner, s.source, s.agent
        FROM session AS s
        WHERE s.bucket = $16 AND s.session_key = $17
        UNION ALL
        SELECT c.bucket, c.session_key, c.session_id, c.owner, c.source, c.agent
        FROM tree AS t
        CROSS JOIN LATERAL (
            SELECT c.bucket, c.session_key, c.session_id, c.owner, c.source, c.agent
            FROM session AS c
            WHERE c.tenant = $18 AND c.parent_id = t.session_id AND ($19::text IS NULL OR c.owner = $19)
            OFFSET 0 -- parent by parent, rather than through all that have one
        ) AS c
    )
    SELECT *
    FROM tree
) AS t
CROSS JOIN LATERAL (
    SELECT *
    FROM usage_sum AS u
    WHERE u.bucket = t.bucket AND u.session_key = t.session_key
        AND u.day BETWEEN $7::date AND $8::date
    OFFSET 0 -- session by session by the key: the planner doesn't know how many there are
) AS u;

-- name: used_by_tenant
-- All that a tenant used, in sums that know no sessions.
SELECT '' AS session_id, '' AS owner, '' AS source, '' AS agent, u.*
FROM usage_of_tenant AS u
WHERE u.tenant = $16 AND u.day BETWEEN $7::date AND $8::date;

-- name: used_by_some
-- What the sessions that fit used themselves.
SELECT s.session_id, s.owner, s.source, s.agent, :sums
FROM session AS s
CROSS JOIN LATERAL (
    SELECT *
    FROM usage_sum AS u
    WHERE u.bucket = s.bucket AND u.session_key = s.session_key AND NOT u.inherited
        AND u.day BETWEEN $7::date AND $8::date
    OFFSET 0
) AS u
WHERE s.tenant = $16 :fits;

-- name: used_by_deleted
-- What deleted sessions used that would fit.
SELECT '' AS session_id, s.owner, s.source, s.agent, :sums
FROM usage_of_deleted AS s
CROSS JOIN LATERAL (SELECT s.*) AS u
WHERE s.tenant = $16 AND s.day BETWEEN $7::date AND $8::date :fits;

-- name: usage_by_turn
-- A page of turns, each with its models: $3 to $4 are the days, $5 and $6 the place before the page, $7 how
-- many. It looks at the turns in which the next $8 rows are.
SELECT *
FROM (
    SELECT r.*, dense_rank() OVER (ORDER BY r.turn_index, r.model) AS place
    FROM (
        SELECT
            u.turn_index, u.model, u.currency, max(u.record_time) AS record_time,
            count(*) AS row_count, sum(u.record_count) AS record_count, sum(u.model_calls) AS model_calls,
            sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
            sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_tokens) AS cache_write_tokens,
            sum(u.reasoning_tokens) AS reasoning_tokens, sum(u.total_tokens) AS total_tokens,
            sum(u.estimated_count) AS estimated_count, sum(u.estimated) AS estimated,
            sum(u.actual_count) AS actual_count, sum(u.actual) AS actual
        FROM usage_turn AS u
        WHERE u.bucket = $1 AND u.session_key = $2 AND u.day BETWEEN $3::date AND $4::date
            AND (u.turn_index, u.model) > ($5::integer, $6::text)
            AND u.turn_index <= (
                SELECT max(f.turn_index)
                FROM (
                    SELECT f.turn_index
                    FROM usage_turn AS f
                    WHERE f.bucket = $1 AND f.session_key = $2 AND f.day BETWEEN $3::date AND $4::date
                        AND (f.turn_index, f.model) > ($5::integer, $6::text)
                    ORDER BY f.turn_index, f.model
                    LIMIT $8
                ) AS f
            )
        GROUP BY u.turn_index, u.model, u.currency
    ) AS r
) AS r
WHERE r.place <= $7
ORDER BY r.place, r.currency;
