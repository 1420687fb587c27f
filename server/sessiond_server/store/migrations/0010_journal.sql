-- An agent's own records of its sessions.
-- compatible: 10

CREATE TABLE journal_record (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    seq bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    turn_index integer NOT NULL,
    content bytea NOT NULL,
    origin_time timestamptz,
    create_time timestamptz NOT NULL,
    CONSTRAINT journal_record_pkey PRIMARY KEY (bucket, session_key, seq),
    CONSTRAINT journal_record_kind_length CHECK (char_length(kind) <= 256),
    CONSTRAINT journal_record_content_size CHECK (octet_length(content) <= 1048576)
);

-- How many records a session has, how large they are together, and which number the next one gets.
CREATE TABLE journal_total (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    next_seq bigint NOT NULL,
    record_count bigint NOT NULL,
    content_bytes bigint NOT NULL,
    CONSTRAINT journal_total_pkey PRIMARY KEY (bucket, session_key)
);
