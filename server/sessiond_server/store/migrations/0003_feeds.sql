-- What feeds tell of besides messages.
-- compatible: 3

-- A change stands behind the message `after_seq`, and changes stand in the order of their numbers. What a
-- change says is read from where it is kept: `reference` is a summary's seq, a rewind's id or a first seq,
-- a time in microseconds or a number of records, `seqs` are messages, `child_id` is a session, a reminder, an attachment
-- or the holder of a lease.
CREATE TABLE session_change (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    change_no bigint NOT NULL,
    after_seq bigint NOT NULL,
    kind smallint NOT NULL,
    reference bigint NOT NULL,
    seqs bigint[],
    child_id text COLLATE "C" NOT NULL,
    child_kind smallint NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT session_change_pkey PRIMARY KEY (bucket, session_key, change_no),
    CONSTRAINT session_change_child_id_length CHECK (octet_length(child_id) <= 1024)
);

-- Messages while they are being written, on their way to the watchers of other replicas. Never durable, so
-- it costs no write-ahead log. A piece holds encoded deltas; one that is `whole` stands for all before it.
-- The last one says how the draft ended (0 while it goes on).
CREATE UNLOGGED TABLE draft_piece (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    draft_id uuid NOT NULL,
    piece_no integer NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    whole boolean NOT NULL,
    content bytea NOT NULL,
    ended smallint NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT draft_piece_pkey PRIMARY KEY (bucket, session_key, draft_id, piece_no),
    CONSTRAINT draft_piece_client_id_length CHECK (octet_length(client_id) <= 128)
);

-- The last position that was given to a session, of this history: one row. Positions grow like the clock, in
-- microseconds. Whoever gives some holds the row's lock until the commit, so a position is never seen before a
-- smaller one.
CREATE TABLE position_counter (
    id smallint NOT NULL,
    history uuid NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT position_counter_pkey PRIMARY KEY (id)
);
INSERT INTO position_counter (id, history, position) VALUES (1, gen_random_uuid(), 0);

-- What is remembered of deleted sessions while tokens of WatchSessions resume: what never changed of them. The
-- settling job gives them their positions, which are 0 until then.
CREATE TABLE session_tombstone (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    incarnation uuid NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    agent text COLLATE "C" NOT NULL,
    parent_id text COLLATE "C",
    parent_kind smallint NOT NULL,
    position bigint NOT NULL,
    delete_time timestamptz NOT NULL,
    CONSTRAINT session_tombstone_pkey PRIMARY KEY (bucket, session_key, incarnation),
    CONSTRAINT session_tombstone_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT session_tombstone_session_id_length CHECK (octet_length(session_id) <= 512),
    CONSTRAINT session_tombstone_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT session_tombstone_source_length CHECK (char_length(source) <= 256),
    CONSTRAINT session_tombstone_agent_length CHECK (char_length(agent) <= 256),
    CONSTRAINT session_tombstone_parent_id_length CHECK (octet_length(parent_id) <= 512)
);
CREATE INDEX session_tombstone_position_idx ON session_tombstone (position);
CREATE INDEX session_tombstone_tenant_idx ON session_tombstone (tenant, position);
CREATE INDEX session_tombstone_owner_idx ON session_tombstone (tenant, owner, position);
CREATE INDEX session_tombstone_id_idx ON session_tombstone (tenant, session_id);
