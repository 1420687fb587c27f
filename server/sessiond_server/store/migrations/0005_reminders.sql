-- What is to happen in sessions at a time.
-- compatible: 5

-- A reminder is pending (state 1), completed (2), cancelled (3) or has failed (4), and is due at first_time +
-- occurrence * interval. From `ready_time` on it can be claimed: when it is due, when the lease of its claim has
-- ended, or some time behind a failure. `claim_count` says how often it was claimed for one time, at most
-- `max_attempts` times if that isn't 0. A claim stands for all its times up to `claimed_occurrence`. It is held while its session isn't active. A
-- claim locks the reminder alone, every other change the session's head before it.
CREATE TABLE reminder (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    reminder_id text COLLATE "C" NOT NULL,
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
    claim_holder text COLLATE "C" NOT NULL,
    claim_count integer NOT NULL,
    max_attempts integer NOT NULL,
    done_token text COLLATE "C" NOT NULL,
    failed_token text COLLATE "C" NOT NULL,
    last_error bytea NOT NULL,
    fired_count bigint NOT NULL,
    missed_count bigint NOT NULL,
    skipped_count bigint NOT NULL,
    last_fire_time timestamptz,
    last_message_seq bigint NOT NULL,
    request_hash bytea NOT NULL,
    details bytea NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT reminder_pkey PRIMARY KEY (bucket, session_key, reminder_id),
    CONSTRAINT reminder_reminder_id_length CHECK (octet_length(reminder_id) BETWEEN 1 AND 100),
    CONSTRAINT reminder_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT reminder_session_id_length CHECK (octet_length(session_id) <= 512),
    CONSTRAINT reminder_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT reminder_type_length CHECK (char_length(type) <= 256),
    CONSTRAINT reminder_claim_token_length CHECK (octet_length(claim_token) <= 128),
    CONSTRAINT reminder_claim_holder_length CHECK (char_length(claim_holder) <= 256),
    CONSTRAINT reminder_done_token_length CHECK (octet_length(done_token) <= 128),
    CONSTRAINT reminder_failed_token_length CHECK (octet_length(failed_token) <= 128),
    CONSTRAINT reminder_last_error_size CHECK (octet_length(last_error) <= 4096),
    CONSTRAINT reminder_request_hash_size CHECK (octet_length(request_hash) <= 32),
    CONSTRAINT reminder_details_size CHECK (octet_length(details) <= 1048576)
);

-- Who claims goes over all sessions of a tenant, so these don't begin with the bucket. They hold only what
-- can be due.
CREATE INDEX reminder_ready_idx ON reminder (tenant, ready_time) WHERE state = 1 AND NOT held;
CREATE INDEX reminder_ready_type_idx ON reminder (tenant, type, ready_time) WHERE state = 1 AND NOT held;
CREATE INDEX reminder_ready_owner_idx ON reminder (tenant, owner, ready_time) WHERE state = 1 AND NOT held;
-- Those whose last claim's lease has ended, or will.
CREATE INDEX reminder_lapsed_idx ON reminder (tenant, ready_time)
    WHERE state = 1 AND NOT held AND max_attempts > 0 AND claim_count >= max_attempts;
CREATE INDEX reminder_session_idx ON reminder (bucket, session_key, state, due_time, reminder_id);
CREATE INDEX reminder_listed_idx ON reminder (tenant, state, due_time, session_key, reminder_id);
CREATE INDEX reminder_owner_idx ON reminder (tenant, owner, state, due_time, session_key, reminder_id);
