-- What messages are found by, and how far each session is indexed.
-- compatible: 7

-- A message, or a piece of a long one, as words. The words of `document` that begin with '=' aren't the
-- message's: they stand for its tenant, owner, source, session and role, so that one index finds words within
-- these. What is at seq 0 is the session's title.
CREATE TABLE search_entry (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    seq bigint NOT NULL,
    piece smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    role smallint NOT NULL,
    create_time timestamptz NOT NULL,
    document tsvector NOT NULL,
    CONSTRAINT search_entry_pkey PRIMARY KEY (bucket, session_key, seq, piece),
    CONSTRAINT search_entry_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT search_entry_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT search_entry_source_length CHECK (char_length(source) <= 256)
);
CREATE INDEX search_entry_document_idx ON search_entry USING gin (document);

-- The newest first, where so many messages are found that only these are ranked.
CREATE INDEX search_entry_newest_idx ON search_entry (tenant, create_time DESC, session_key DESC, seq DESC);
CREATE INDEX search_entry_owner_newest_idx
    ON search_entry (tenant, owner, create_time DESC, session_key DESC, seq DESC);

-- How far a session is indexed, with which version of the entries, and with which title. The row is locked
-- before entries of the session are written or deleted; `change_no` grows when what was read for them may
-- no longer be right.
CREATE TABLE search_progress (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    indexed_seq bigint NOT NULL,
    entry_version smallint NOT NULL,
    change_no bigint NOT NULL,
    title text COLLATE "C",
    CONSTRAINT search_progress_pkey PRIMARY KEY (bucket, session_key),
    CONSTRAINT search_progress_title_length CHECK (char_length(title) <= 100)
) WITH (fillfactor = 70);

-- Everything that was appended before `complete_time` has entries of this version. In bucket 0.
CREATE TABLE search_state (
    bucket smallint NOT NULL,
    entry_version smallint NOT NULL,
    complete_time timestamptz NOT NULL,
    CONSTRAINT search_state_pkey PRIMARY KEY (bucket, entry_version)
);
