-- How far consumers have come in sessions, and which sessions wait for them.
-- compatible: 13

-- The watermark of a consumer in a session, and with `queued` whether it waits there: from `ready_time` on
-- it can be claimed, which moves that time to the end of the lease. `child` is a sub-agent's session.
CREATE TABLE watermark (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    child boolean NOT NULL,
    seq bigint NOT NULL,
    queued boolean NOT NULL,
    ready_time timestamptz NOT NULL,
    claim_token text COLLATE "C" NOT NULL,
    claim_worker text COLLATE "C" NOT NULL,
    claim_count integer NOT NULL,
    done_token text COLLATE "C" NOT NULL,
    update_time timestamptz,
    CONSTRAINT watermark_pkey PRIMARY KEY (bucket, session_key, consumer),
    CONSTRAINT watermark_consumer_length CHECK (octet_length(consumer) BETWEEN 1 AND 128),
    CONSTRAINT watermark_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT watermark_session_id_length CHECK (octet_length(session_id) <= 128),
    CONSTRAINT watermark_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT watermark_claim_token_length CHECK (octet_length(claim_token) <= 128),
    CONSTRAINT watermark_claim_worker_length CHECK (char_length(claim_worker) <= 256),
    CONSTRAINT watermark_done_token_length CHECK (octet_length(done_token) <= 128)
);

-- Who claims goes over all sessions of a tenant, so these don't begin with the bucket. They hold only what
-- waits: a session that a consumer is done with costs it nothing.
CREATE INDEX watermark_queue_idx ON watermark (tenant, consumer, child, ready_time) WHERE queued;
CREATE INDEX watermark_owner_queue_idx ON watermark (tenant, consumer, owner, ready_time) WHERE queued;

-- The consumers that claim, of an owner's sessions or, with an empty owner, of all. Sessions listed up to
-- `scanned_time` are queued, if there is work in them, or will be listed later when there is. The bucket is a
-- hash of (tenant, owner), so that an owner's are counted in one.
CREATE TABLE watermark_consumer (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    scanned_time timestamptz NOT NULL,
    CONSTRAINT watermark_consumer_pkey PRIMARY KEY (bucket, tenant, owner, consumer),
    CONSTRAINT watermark_consumer_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT watermark_consumer_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT watermark_consumer_consumer_length CHECK (octet_length(consumer) BETWEEN 1 AND 128)
);

-- For the list of a tenant's.
CREATE INDEX watermark_consumer_tenant_idx ON watermark_consumer (tenant, owner, consumer);
