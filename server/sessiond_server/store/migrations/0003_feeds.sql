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
