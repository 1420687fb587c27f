-- An agent's own records of its sessions.
-- compatible: 12

CREATE TABLE session_log (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    log_seq bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    round_index integer NOT NULL,
    content bytea NOT NULL,
    origin_time timestamptz,
    create_time timestamptz NOT NULL,
    CONSTRAINT session_log_pkey PRIMARY KEY (bucket, session_key, log_seq),
    CONSTRAINT session_log_kind_length CHECK (char_length(kind) <= 256),
    CONSTRAINT session_log_content_size CHECK (octet_length(content) <= 1048576)
);

-- How many records a session has, how large they are together, and which number the next one gets.
CREATE TABLE session_log_total (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    next_log_seq bigint NOT NULL,
    record_count bigint NOT NULL,
    content_bytes bigint NOT NULL,
    CONSTRAINT session_log_total_pkey PRIMARY KEY (bucket, session_key)
);
