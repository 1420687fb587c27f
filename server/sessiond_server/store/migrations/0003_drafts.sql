-- Messages while they are being written, on their way to the watchers of other replicas.
-- compatible: 2

-- Never durable, so it costs no write-ahead log. A piece holds encoded deltas; one that is `whole` stands for
-- all before it. The last one says how the draft ended (0 while it goes on).
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
