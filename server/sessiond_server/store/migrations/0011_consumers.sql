-- How far consumers have come in sessions, and which sessions wait for them.
-- compatible: 11

-- The cursor of a consumer in a session, and with `queued` whether it waits there: from `ready_time` on
-- it can be claimed, which moves that time to the end of the lease. `claim_expire_time` is when the last claim's
-- lease ends or ended (the epoch if there is none): its token is good until the session is claimed anew, however
-- often it is due or done meanwhile. `child` is a sub-agent's session.
CREATE TABLE consumer_cursor (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    consumer_id text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    child boolean NOT NULL,
    seq bigint NOT NULL,
    queued boolean NOT NULL,
    ready_time timestamptz NOT NULL,
    claim_token text COLLATE "C" NOT NULL,
    claim_holder text COLLATE "C" NOT NULL,
    claim_expire_time timestamptz NOT NULL,
    claim_count integer NOT NULL,
    done_token text COLLATE "C" NOT NULL,
    update_time timestamptz,
    CONSTRAINT consumer_cursor_pkey PRIMARY KEY (bucket, session_key, consumer_id),
    CONSTRAINT consumer_cursor_consumer_id_length CHECK (octet_length(consumer_id) BETWEEN 1 AND 128),
    CONSTRAINT consumer_cursor_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT consumer_cursor_session_id_length CHECK (octet_length(session_id) <= 512),
    CONSTRAINT consumer_cursor_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT consumer_cursor_claim_token_length CHECK (octet_length(claim_token) <= 128),
    CONSTRAINT consumer_cursor_claim_holder_length CHECK (char_length(claim_holder) <= 256),
    CONSTRAINT consumer_cursor_done_token_length CHECK (octet_length(done_token) <= 128)
);

-- Who claims goes over all sessions of a tenant, so these don't begin with the bucket. They hold only what
-- waits: a session that a consumer is done with costs it nothing.
CREATE INDEX consumer_cursor_queue_idx
    ON consumer_cursor (tenant, consumer_id, child, ready_time) WHERE queued;
CREATE INDEX consumer_cursor_owner_queue_idx
    ON consumer_cursor (tenant, consumer_id, owner, ready_time) WHERE queued;

-- The consumers that claim, of an owner's sessions or, with an empty owner, of all. Sessions that changed up to
-- `scanned_position` are queued, if there is work in them, or will take a later position when there is. The bucket
-- is a hash of (tenant, owner), so that an owner's are counted in one.
CREATE TABLE consumer (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    consumer_id text COLLATE "C" NOT NULL,
    scanned_position bigint NOT NULL,
    scan_time timestamptz NOT NULL,
    CONSTRAINT consumer_pkey PRIMARY KEY (bucket, tenant, owner, consumer_id),
    CONSTRAINT consumer_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT consumer_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT consumer_consumer_id_length CHECK (octet_length(consumer_id) BETWEEN 1 AND 128)
);

-- For the list of a tenant's.
CREATE INDEX consumer_tenant_idx ON consumer (tenant, owner, consumer_id);
