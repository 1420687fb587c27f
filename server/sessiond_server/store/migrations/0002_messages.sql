-- Messages, and what hides and replaces them.
-- compatible: 2

-- A message: its protobuf encoding, and beside it only what SQL filters or sorts by. `summary` marks the
-- summaries of compactions, whose place in the context is that of the range which they replace. The ids of
-- tools are those of its calls, in order, and those that its results answer, each once.
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
    summary boolean NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    type text COLLATE "C",
    tool_call_ids text[],
    tool_result_ids text[],
    payload bytea NOT NULL,
    CONSTRAINT message_pkey PRIMARY KEY (bucket, session_key, seq),
    CONSTRAINT message_client_id_key UNIQUE (bucket, session_key, client_id),
    CONSTRAINT message_client_id_length CHECK (octet_length(client_id) <= 128),
    CONSTRAINT message_type_length CHECK (char_length(type) <= 128),
    CONSTRAINT message_payload_size CHECK (octet_length(payload) <= 4194304)
);

-- Without statistics of these two the planner takes both as hardly selective, and so chooses the index whose
-- further columns a query names. With them it takes a session for a handful of rows that are soon read.
ALTER TABLE message
    ALTER COLUMN bucket SET STATISTICS 0,
    ALTER COLUMN session_key SET STATISTICS 0;

-- Which messages hold results of a tool call: what `message.tool_result_ids` says, by the id.
CREATE TABLE tool_result (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    tool_call_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    CONSTRAINT tool_result_pkey PRIMARY KEY (bucket, session_key, tool_call_id, seq),
    CONSTRAINT tool_result_id_length CHECK (octet_length(tool_call_id) <= 256)
);

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
    type text COLLATE "C",
    payload bytea NOT NULL,
    CONSTRAINT message_revision_pkey PRIMARY KEY (bucket, session_key, seq, change_no)
);

-- The tool calls of messages that aren't rewound which no result behind them, or in their message, answers,
-- and perhaps a few that one answers: a result doesn't see the call of an append that commits while it waits for the lock.
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

-- Every compaction. It counts from its summary's seq on, and until `revert_effective_seq`.
CREATE TABLE compaction (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    summary_seq bigint NOT NULL,
    change_no bigint NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    message_count bigint NOT NULL,
    tokens_before bigint NOT NULL,
    tokens_after bigint NOT NULL,
    author text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    turn_index integer NOT NULL,
    create_time timestamptz NOT NULL,
    revert_time timestamptz,
    revert_effective_seq bigint,
    CONSTRAINT compaction_pkey PRIMARY KEY (bucket, session_key, summary_seq),
    CONSTRAINT compaction_range CHECK (from_seq <= to_seq AND to_seq < summary_seq),
    CONSTRAINT compaction_author_length CHECK (char_length(author) <= 256),
    CONSTRAINT compaction_actor_length CHECK (char_length(actor) <= 256),
    CONSTRAINT compaction_model_length CHECK (char_length(model) <= 256)
);

-- Every rewind. It hides after_seq + 1 to to_seq from `effective_seq` on, until `revert_effective_seq`.
CREATE TABLE rewind (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    rewind_id bigint NOT NULL,
    after_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    effective_seq bigint NOT NULL,
    author text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    revert_time timestamptz,
    revert_effective_seq bigint,
    CONSTRAINT rewind_pkey PRIMARY KEY (bucket, session_key, rewind_id),
    CONSTRAINT rewind_range CHECK (after_seq < to_seq),
    CONSTRAINT rewind_author_length CHECK (char_length(author) <= 256),
    CONSTRAINT rewind_actor_length CHECK (char_length(actor) <= 256)
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
    summary_seq bigint,
    covered boolean NOT NULL,
    CONSTRAINT hidden_span_pkey PRIMARY KEY (bucket, session_key, kind, from_seq),
    CONSTRAINT hidden_span_range CHECK (from_seq <= to_seq)
);
CREATE INDEX hidden_span_shown_idx ON hidden_span (bucket, session_key, from_seq) WHERE NOT covered;

-- The tool results that no rewind hides.
CREATE VIEW tool_answer AS
SELECT r.bucket, r.session_key, r.tool_call_id, r.seq
FROM tool_result AS r
WHERE NOT EXISTS (
    SELECT
    FROM hidden_span AS s
    WHERE s.bucket = r.bucket AND s.session_key = r.session_key AND s.kind = 2
        AND r.seq BETWEEN s.from_seq AND s.to_seq
);

-- The tool calls that wait for their result: none in their message or behind it answers them.
CREATE VIEW waiting_tool_call AS
SELECT o.bucket, o.session_key, o.tool_call_id, o.seq, o.position
FROM open_tool_call AS o
WHERE NOT EXISTS (
    SELECT
    FROM tool_answer AS a
    WHERE a.bucket = o.bucket AND a.session_key = o.session_key
        AND a.tool_call_id = o.tool_call_id AND a.seq >= o.seq
);

-- Offloaded messages: up to 256 in a row, compressed together. Beside them only what saves reading them: the
-- totals of those that are in the context and no summaries, the summaries that aren't in it, bits for the
-- roles and kinds that occur. The border may stand behind a segment that is `settled`: every tool call up to
-- there is answered there. Client ids are kept as numbers of 32 bits, for looking further only where one
-- occurs: those of a session's first messages are looked through, those of later ones have an index, which
-- takes ten times the space.
CREATE TABLE message_segment (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    last_time timestamptz NOT NULL,
    context_tokens bigint NOT NULL,
    kinds bigint NOT NULL,
    roles integer NOT NULL,
    context_messages integer NOT NULL,
    message_bytes integer NOT NULL,
    settled boolean NOT NULL,
    version uuid NOT NULL,
    dictionary_id uuid,
    silent_summaries bigint[],
    client_keys integer[],
    indexed_client_keys integer[],
    content bytea NOT NULL,
    CONSTRAINT message_segment_pkey PRIMARY KEY (bucket, session_key, first_seq),
    CONSTRAINT message_segment_range CHECK (first_seq <= last_seq)
);
ALTER TABLE message_segment ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX message_segment_client_key_idx ON message_segment USING gin (indexed_client_keys)
    WITH (fastupdate = off) WHERE indexed_client_keys IS NOT NULL;

-- What the conversations of a tenant begin with alike, such as the prompt of an agent: kept once, for as long
-- as segments are compressed with it. The bucket is a hash of the id, which is one of tenant and content.
CREATE TABLE segment_dictionary (
    bucket smallint NOT NULL,
    dictionary_id uuid NOT NULL,
    uses bigint NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT segment_dictionary_pkey PRIMARY KEY (bucket, dictionary_id),
    CONSTRAINT segment_dictionary_uses CHECK (uses > 0)
);
ALTER TABLE segment_dictionary ALTER COLUMN content SET STORAGE EXTERNAL;

-- Every move of messages into segments and out of them.
CREATE TABLE message_offload (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    offload_id bigint NOT NULL,
    restored boolean NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    message_bytes bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    author text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT message_offload_pkey PRIMARY KEY (bucket, session_key, offload_id),
    CONSTRAINT message_offload_range CHECK (from_seq <= to_seq),
    CONSTRAINT message_offload_author_length CHECK (char_length(author) <= 256),
    CONSTRAINT message_offload_actor_length CHECK (char_length(actor) <= 256)
);
