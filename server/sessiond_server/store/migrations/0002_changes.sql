-- What happens to a session besides appends, in one order with its messages, for feeds.
-- compatible: 2

-- A change stands behind the message `after_seq`, and changes stand in the order of their numbers. What a
-- change says is read from where it is kept: `reference` is a note's seq, a rewind's id or a first seq,
-- `seqs` are messages, `child_id` is a session.
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
    CONSTRAINT session_change_child_id_length CHECK (octet_length(child_id) <= 128)
);
