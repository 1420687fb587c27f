-- What is to happen in sessions at a time.
-- compatible: 6

-- A recall is pending (state 1), completed (2) or cancelled (3), and due at first_time + occurrence * interval.
-- From `ready_time` on it can be claimed: when it is due, or when the lease of its claim has ended. A claim
-- stands for all its times up to `claimed_occurrence`. It is held while its session isn't active. A claim
-- locks the recall alone, every other change the session's head before it.
CREATE TABLE recall (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    recall_id text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    state smallint NOT NULL,
    held boolean NOT NULL,
    first_time timestamptz NOT NULL,
    interval_microseconds bigint NOT NULL,
    occurrence bigint NOT NULL,
    due_time timestamptz NOT NULL,
    ready_time timestamptz NOT NULL,
    claimed_occurrence bigint NOT NULL,
    claim_token text COLLATE "C" NOT NULL,
    claim_worker text COLLATE "C" NOT NULL,
    claim_count integer NOT NULL,
    done_token text COLLATE "C" NOT NULL,
    fired_count bigint NOT NULL,
    missed_count bigint NOT NULL,
    skipped_count bigint NOT NULL,
    last_fire_time timestamptz,
    last_message_seq bigint NOT NULL,
    request_hash bytea NOT NULL,
    details bytea NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT recall_pkey PRIMARY KEY (bucket, session_key, recall_id),
    CONSTRAINT recall_recall_id_length CHECK (octet_length(recall_id) BETWEEN 1 AND 100),
    CONSTRAINT recall_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT recall_session_id_length CHECK (octet_length(session_id) <= 128),
    CONSTRAINT recall_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT recall_type_length CHECK (char_length(type) <= 256),
    CONSTRAINT recall_claim_token_length CHECK (octet_length(claim_token) <= 128),
    CONSTRAINT recall_claim_worker_length CHECK (char_length(claim_worker) <= 256),
    CONSTRAINT recall_done_token_length CHECK (octet_length(done_token) <= 128),
    CONSTRAINT recall_request_hash_size CHECK (octet_length(request_hash) <= 32),
    CONSTRAINT recall_details_size CHECK (octet_length(details) <= 1048576)
);

-- Who claims goes over all sessions of a tenant, so these don't begin with the bucket. They hold only what
-- can be due.
CREATE INDEX recall_ready_idx ON recall (tenant, ready_time) WHERE state = 1 AND NOT held;
CREATE INDEX recall_ready_type_idx ON recall (tenant, type, ready_time) WHERE state = 1 AND NOT held;
CREATE INDEX recall_ready_owner_idx ON recall (tenant, owner, ready_time) WHERE state = 1 AND NOT held;
CREATE INDEX recall_session_idx ON recall (bucket, session_key, state, due_time, recall_id);
CREATE INDEX recall_listed_idx ON recall (tenant, state, due_time, session_key, recall_id);
CREATE INDEX recall_owner_idx ON recall (tenant, owner, state, due_time, session_key, recall_id);
