-- Sessions, their messages, and what happens to them.
-- compatible: 1
--
-- `bucket` is a hash of (tenant, session id) and stands first in every key; `session_key` comes from the
-- same hash, so that an append needs no lookup and the tenant is in every key. There are no foreign
-- keys: they would take a lock per appended row. A session's head row is locked before anything else
-- of the session is written, and head rows in the order of their keys.

CREATE TABLE session (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    incarnation uuid NOT NULL,
    owner text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    profile text COLLATE "C" NOT NULL,
    title text COLLATE "C" NOT NULL,
    title_source smallint NOT NULL,
    pinned boolean NOT NULL,
    state smallint NOT NULL,
    end_reason text COLLATE "C" NOT NULL,
    labels jsonb NOT NULL,
    details bytea NOT NULL,
    parent_id text COLLATE "C",
    parent_kind smallint NOT NULL,
    spawn_tool_call_id text COLLATE "C" NOT NULL,
    fork_seq bigint NOT NULL,
    root_id text COLLATE "C" NOT NULL,
    spawn_depth integer NOT NULL,
    lifecycle smallint NOT NULL,
    round_index integer NOT NULL,
    revision bigint NOT NULL,
    create_request_id text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    listed_time timestamptz NOT NULL,
    end_time timestamptz,
    CONSTRAINT session_pkey PRIMARY KEY (bucket, session_key),
    CONSTRAINT session_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT session_id_length CHECK (octet_length(session_id) BETWEEN 1 AND 128),
    CONSTRAINT session_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT session_source_length CHECK (char_length(source) <= 256),
    CONSTRAINT session_profile_length CHECK (char_length(profile) <= 256),
    CONSTRAINT session_title_length CHECK (char_length(title) <= 100),
    CONSTRAINT session_end_reason_length CHECK (char_length(end_reason) <= 256),
    CONSTRAINT session_labels_size CHECK (octet_length(labels::text) <= 262144),
    CONSTRAINT session_details_size CHECK (octet_length(details) <= 1048576),
    CONSTRAINT session_parent_id_length CHECK (octet_length(parent_id) <= 128),
    CONSTRAINT session_spawn_tool_call_id_length CHECK (octet_length(spawn_tool_call_id) <= 256),
    CONSTRAINT session_root_id_length CHECK (octet_length(root_id) <= 128),
    CONSTRAINT session_create_request_id_length CHECK (octet_length(create_request_id) <= 128)
);

-- Lists go over all sessions of a tenant or an owner, so these indexes don't start with the bucket: each
-- shard answers with its first rows, and these are merged.
CREATE INDEX session_listed_idx ON session (tenant, pinned DESC, listed_time DESC, session_key DESC);
CREATE INDEX session_created_idx ON session (tenant, pinned DESC, create_time DESC, session_key DESC);
CREATE INDEX session_owner_listed_idx
    ON session (tenant, owner, pinned DESC, listed_time DESC, session_key DESC);
CREATE INDEX session_owner_created_idx
    ON session (tenant, owner, pinned DESC, create_time DESC, session_key DESC);
CREATE INDEX session_id_idx ON session (tenant, session_id);
CREATE INDEX session_parent_idx ON session (tenant, parent_id) WHERE parent_id IS NOT NULL;

-- A title belongs to one session of its owner. The bucket is a hash of (tenant, owner).
CREATE TABLE session_title (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    title text COLLATE "C" NOT NULL,
    lineage text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    CONSTRAINT session_title_pkey PRIMARY KEY (bucket, tenant, owner, title),
    CONSTRAINT session_title_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT session_title_title_length CHECK (char_length(title) <= 100),
    CONSTRAINT session_title_lineage_length CHECK (char_length(lineage) <= 100),
    CONSTRAINT session_title_session_id_length CHECK (octet_length(session_id) <= 128)
);
CREATE INDEX session_title_lineage_idx ON session_title (tenant, lineage, number DESC);

-- What appends change, apart from all that they don't. No index on it but the key: its updates stay in
-- their page (HOT).
CREATE TABLE session_head (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    state smallint NOT NULL,
    first_seq bigint NOT NULL,
    next_seq bigint NOT NULL,
    next_change bigint NOT NULL,
    message_count bigint NOT NULL,
    tool_call_count bigint NOT NULL,
    context_message_count bigint NOT NULL,
    context_token_count bigint NOT NULL,
    activity_time timestamptz NOT NULL,
    listed_time timestamptz NOT NULL,
    writer_epoch bigint NOT NULL,
    writer_token text COLLATE "C" NOT NULL,
    writer_holder text COLLATE "C" NOT NULL,
    writer_expire_time timestamptz NOT NULL,
    compactor_token text COLLATE "C" NOT NULL,
    compactor_holder text COLLATE "C" NOT NULL,
    compactor_expire_time timestamptz NOT NULL,
    CONSTRAINT session_head_pkey PRIMARY KEY (bucket, session_key),
    CONSTRAINT session_head_writer_token_length CHECK (octet_length(writer_token) <= 128),
    CONSTRAINT session_head_writer_holder_length CHECK (char_length(writer_holder) <= 256),
    CONSTRAINT session_head_compactor_token_length CHECK (octet_length(compactor_token) <= 128),
    CONSTRAINT session_head_compactor_holder_length CHECK (char_length(compactor_holder) <= 256)
) WITH (fillfactor = 70);

-- A message: its protobuf encoding, and beside it only what SQL filters or sorts by. `note` marks the
-- notes of compactions, whose place in the context is that of the range which they replace.
CREATE TABLE message (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    seq bigint NOT NULL,
    create_time timestamptz NOT NULL,
    token_count integer NOT NULL,
    role smallint NOT NULL,
    kind smallint NOT NULL,
    in_context boolean NOT NULL,
    in_transcript boolean NOT NULL,
    note boolean NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    tool_call_ids text[],
    tool_call_id text COLLATE "C",
    payload bytea NOT NULL,
    CONSTRAINT message_pkey PRIMARY KEY (bucket, session_key, seq),
    CONSTRAINT message_client_id_key UNIQUE (bucket, session_key, client_id),
    CONSTRAINT message_client_id_length CHECK (octet_length(client_id) <= 128),
    CONSTRAINT message_tool_call_id_length CHECK (octet_length(tool_call_id) <= 256),
    CONSTRAINT message_payload_size CHECK (octet_length(payload) <= 4194304)
);

-- Without statistics of these two the planner takes both as hardly selective, and so chooses the index whose
-- further columns a query names. With them it takes a session for a handful of rows that are soon read.
ALTER TABLE message
    ALTER COLUMN bucket SET STATISTICS 0,
    ALTER COLUMN session_key SET STATISTICS 0;

-- Which results answer a tool call. It costs only the results.
CREATE INDEX message_answer_idx ON message (bucket, session_key, tool_call_id, seq)
    WHERE tool_call_id IS NOT NULL;

-- What a message was before UpdateMessages changed it, valid before `effective_seq`: the next seq of the
-- session when the change was made.
CREATE TABLE message_revision (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    seq bigint NOT NULL,
    change_no bigint NOT NULL,
    effective_seq bigint NOT NULL,
    token_count integer NOT NULL,
    kind smallint NOT NULL,
    in_context boolean NOT NULL,
    in_transcript boolean NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT message_revision_pkey PRIMARY KEY (bucket, session_key, seq, change_no)
);

-- The tool calls of messages that aren't rewound which no later result answers, and perhaps a few that
-- one answers: a result doesn't see the call of an append that commits while it waits for the lock.
-- Readers therefore ask the view `waiting_tool_call` below.
CREATE TABLE open_tool_call (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    tool_call_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    position integer NOT NULL,
    CONSTRAINT open_tool_call_pkey PRIMARY KEY (bucket, session_key, tool_call_id, seq, position),
    CONSTRAINT open_tool_call_id_length CHECK (octet_length(tool_call_id) <= 256)
);

-- Every compaction. It counts from its note's seq on, and until `revert_effective_seq`.
CREATE TABLE compaction (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    note_seq bigint NOT NULL,
    change_no bigint NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    message_count bigint NOT NULL,
    tokens_before bigint NOT NULL,
    tokens_after bigint NOT NULL,
    author text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    round_index integer NOT NULL,
    create_time timestamptz NOT NULL,
    revert_time timestamptz,
    revert_effective_seq bigint,
    CONSTRAINT compaction_pkey PRIMARY KEY (bucket, session_key, note_seq),
    CONSTRAINT compaction_range CHECK (from_seq <= to_seq AND to_seq < note_seq),
    CONSTRAINT compaction_author_length CHECK (char_length(author) <= 256),
    CONSTRAINT compaction_model_length CHECK (char_length(model) <= 256)
);

-- Every rewind. It hides after_seq + 1 to to_seq from `effective_seq` on, until `undo_effective_seq`.
CREATE TABLE rewind (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    rewind_id bigint NOT NULL,
    after_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    effective_seq bigint NOT NULL,
    author text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    undo_time timestamptz,
    undo_effective_seq bigint,
    CONSTRAINT rewind_pkey PRIMARY KEY (bucket, session_key, rewind_id),
    CONSTRAINT rewind_range CHECK (after_seq < to_seq),
    CONSTRAINT rewind_author_length CHECK (char_length(author) <= 256)
);

-- What compactions (kind 1) and rewinds (kind 2) hide now, derived from the two tables above so that
-- reading costs what the context is and not what has happened. The spans of a kind don't overlap. A
-- compaction inside another isn't here; a rewound span inside a compaction is `covered`.
CREATE TABLE hidden_span (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    kind smallint NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    note_seq bigint,
    covered boolean NOT NULL,
    CONSTRAINT hidden_span_pkey PRIMARY KEY (bucket, session_key, kind, from_seq),
    CONSTRAINT hidden_span_range CHECK (from_seq <= to_seq)
);
CREATE INDEX hidden_span_shown_idx ON hidden_span (bucket, session_key, from_seq) WHERE NOT covered;

-- The tool results that no rewind hides.
CREATE VIEW tool_answer AS
SELECT m.bucket, m.session_key, m.tool_call_id, m.seq
FROM message AS m
WHERE m.tool_call_id IS NOT NULL
    AND NOT EXISTS (
        SELECT
        FROM hidden_span AS s
        WHERE s.bucket = m.bucket AND s.session_key = m.session_key AND s.kind = 2
            AND m.seq BETWEEN s.from_seq AND s.to_seq
    );

-- The tool calls that wait for their result: no later result answers them.
CREATE VIEW waiting_tool_call AS
SELECT o.bucket, o.session_key, o.tool_call_id, o.seq, o.position
FROM open_tool_call AS o
WHERE NOT EXISTS (
    SELECT
    FROM tool_answer AS a
    WHERE a.bucket = o.bucket AND a.session_key = o.session_key
        AND a.tool_call_id = o.tool_call_id AND a.seq > o.seq
);
