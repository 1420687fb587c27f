-- Retention policies, and the reports of what they did.
-- compatible: 8

-- These belong to a tenant, and the bucket is a hash of it. A rule is an encoded sessiond.v1.RetentionRule.
CREATE TABLE retention_policy (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    policy_id text COLLATE "C" NOT NULL,
    version uuid NOT NULL,
    rule bytea NOT NULL,
    dry_run boolean NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    last_run_time timestamptz,
    CONSTRAINT retention_policy_pkey PRIMARY KEY (bucket, tenant, policy_id),
    CONSTRAINT retention_policy_policy_id_length CHECK (char_length(policy_id) <= 63),
    CONSTRAINT retention_policy_rule_size CHECK (octet_length(rule) <= 262144)
);

-- Ids are in the order of time.
CREATE TABLE retention_report (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    report_id uuid NOT NULL,
    policy_id text COLLATE "C" NOT NULL,
    rule bytea NOT NULL,
    dry_run boolean NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    session_count bigint NOT NULL,
    message_count bigint NOT NULL,
    kept_count bigint NOT NULL,
    CONSTRAINT retention_report_pkey PRIMARY KEY (bucket, tenant, report_id),
    CONSTRAINT retention_report_policy_id_length CHECK (char_length(policy_id) <= 63)
);
CREATE INDEX retention_report_policy_idx ON retention_report (bucket, tenant, policy_id, report_id);

-- Of a session that is deleted nothing remains but this: its id, and the facts that say why it went.
CREATE TABLE retention_report_session (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    report_id uuid NOT NULL,
    item_no integer NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    outcome smallint NOT NULL,
    session_count bigint NOT NULL,
    message_count bigint NOT NULL,
    detached_count bigint NOT NULL,
    state smallint NOT NULL,
    source text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    activity_time timestamptz NOT NULL,
    end_time timestamptz,
    CONSTRAINT retention_report_session_pkey PRIMARY KEY (bucket, tenant, report_id, item_no),
    CONSTRAINT retention_report_session_id_length CHECK (octet_length(session_id) <= 512),
    CONSTRAINT retention_report_session_source_length CHECK (char_length(source) <= 256)
);
