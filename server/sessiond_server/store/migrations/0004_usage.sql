-- What calls of models used and cost, in sums that outlive what they are about.
-- compatible: 4

-- A session's usage by day, model and currency ('' without costs). What deleted sessions that came from it
-- used is `inherited`. `record_count` tells a sum of nothing from one that was replaced by nothing.
CREATE TABLE usage_sum (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    inherited boolean NOT NULL,
    day date NOT NULL,
    model text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL,
    record_count bigint NOT NULL,
    model_calls bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    estimated_count bigint NOT NULL,
    estimated numeric NOT NULL,
    actual_count bigint NOT NULL,
    actual numeric NOT NULL,
    CONSTRAINT usage_sum_pkey PRIMARY KEY (bucket, session_key, inherited, day, model, currency),
    CONSTRAINT usage_sum_model_length CHECK (char_length(model) <= 256),
    CONSTRAINT usage_sum_currency_length CHECK (octet_length(currency) <= 3)
) WITH (fillfactor = 80);

-- The same by turns, to be listed, and to be taken back when a turn is set anew.
CREATE TABLE usage_turn (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    turn_index integer NOT NULL,
    model text COLLATE "C" NOT NULL,
    day date NOT NULL,
    currency text COLLATE "C" NOT NULL,
    record_time timestamptz NOT NULL,
    record_count bigint NOT NULL,
    model_calls bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    estimated_count bigint NOT NULL,
    estimated numeric NOT NULL,
    actual_count bigint NOT NULL,
    actual numeric NOT NULL,
    CONSTRAINT usage_turn_pkey PRIMARY KEY (bucket, session_key, turn_index, model, day, currency),
    CONSTRAINT usage_turn_model_length CHECK (char_length(model) <= 256),
    CONSTRAINT usage_turn_currency_length CHECK (octet_length(currency) <= 3)
);

-- Who is paid for a session's usage, and in which way. `model` is that of the first record with one.
CREATE TABLE usage_billing (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    model text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    base_url text COLLATE "C" NOT NULL,
    mode text COLLATE "C" NOT NULL,
    cost_status text COLLATE "C" NOT NULL,
    cost_source text COLLATE "C" NOT NULL,
    pricing_version text COLLATE "C" NOT NULL,
    CONSTRAINT usage_billing_pkey PRIMARY KEY (bucket, session_key),
    CONSTRAINT usage_billing_model_length CHECK (char_length(model) <= 256),
    CONSTRAINT usage_billing_provider_length CHECK (char_length(provider) <= 256),
    CONSTRAINT usage_billing_base_url_length CHECK (char_length(base_url) <= 2048),
    CONSTRAINT usage_billing_mode_length CHECK (char_length(mode) <= 256),
    CONSTRAINT usage_billing_cost_status_length CHECK (char_length(cost_status) <= 256),
    CONSTRAINT usage_billing_cost_source_length CHECK (char_length(cost_source) <= 256),
    CONSTRAINT usage_billing_pricing_version_length CHECK (char_length(pricing_version) <= 256)
);

-- The request ids that a session has seen, by what they are of (1 usage, 2 journal), with a digest of what
-- was asked for and what came of it.
CREATE TABLE session_request (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    kind smallint NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    result bigint NOT NULL,
    CONSTRAINT session_request_pkey PRIMARY KEY (bucket, session_key, kind, request_id),
    CONSTRAINT session_request_request_id_length CHECK (octet_length(request_id) <= 128),
    CONSTRAINT session_request_digest_size CHECK (octet_length(digest) <= 32)
);

-- All that the sessions of a tenant ever used, whatever became of them. The bucket is that of the session, so
-- that writers of many sessions don't wait for one row.
CREATE TABLE usage_of_tenant (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    day date NOT NULL,
    model text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL,
    record_count bigint NOT NULL,
    model_calls bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    estimated_count bigint NOT NULL,
    estimated numeric NOT NULL,
    actual_count bigint NOT NULL,
    actual numeric NOT NULL,
    CONSTRAINT usage_of_tenant_pkey PRIMARY KEY (bucket, tenant, day, model, currency),
    CONSTRAINT usage_of_tenant_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT usage_of_tenant_model_length CHECK (char_length(model) <= 256),
    CONSTRAINT usage_of_tenant_currency_length CHECK (octet_length(currency) <= 3)
) WITH (fillfactor = 80);
CREATE INDEX usage_of_tenant_day_idx ON usage_of_tenant (tenant, day);

-- Stands for texts that together are too long for the key of an index. None of them has a control character.
CREATE FUNCTION texts_hash(VARIADIC texts text[]) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN sha256(convert_to(array_to_string(texts, chr(31)), 'UTF8'));

-- What sessions used that are deleted, by what is known of them still: it is what the tenant's sums hold besides
-- those of sessions. `parent_kind` is 1 of those of sub-agents, else 0. The bucket is that of the session.
CREATE TABLE usage_of_deleted (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    agent text COLLATE "C" NOT NULL,
    parent_kind smallint NOT NULL,
    day date NOT NULL,
    model text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL,
    record_count bigint NOT NULL,
    model_calls bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    estimated_count bigint NOT NULL,
    estimated numeric NOT NULL,
    actual_count bigint NOT NULL,
    actual numeric NOT NULL,
    origin_hash bytea NOT NULL GENERATED ALWAYS AS (texts_hash(owner, source, agent, model)) STORED,
    CONSTRAINT usage_of_deleted_pkey
    PRIMARY KEY (bucket, tenant, origin_hash, parent_kind, day, currency),
    CONSTRAINT usage_of_deleted_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT usage_of_deleted_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT usage_of_deleted_source_length CHECK (char_length(source) <= 256),
    CONSTRAINT usage_of_deleted_agent_length CHECK (char_length(agent) <= 256),
    CONSTRAINT usage_of_deleted_model_length CHECK (char_length(model) <= 256),
    CONSTRAINT usage_of_deleted_currency_length CHECK (octet_length(currency) <= 3)
) WITH (fillfactor = 80);
CREATE INDEX usage_of_deleted_day_idx ON usage_of_deleted (tenant, day);
CREATE INDEX usage_of_deleted_owner_idx ON usage_of_deleted (tenant, owner, day);
