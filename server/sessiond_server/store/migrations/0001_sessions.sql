-- Sessions.
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
    agent text COLLATE "C" NOT NULL,
    title text COLLATE "C" NOT NULL,
    title_source smallint NOT NULL,
    pinned boolean NOT NULL,
    state smallint NOT NULL,
    archived boolean NOT NULL,
    slot smallint NOT NULL GENERATED ALWAYS AS (state + CASE WHEN archived THEN 2 ELSE 0 END) STORED,
    end_reason text COLLATE "C" NOT NULL,
    labels jsonb NOT NULL,
    metadata bytea NOT NULL,
    parent_id text COLLATE "C",
    parent_kind smallint NOT NULL,
    spawn_tool_call_id text COLLATE "C" NOT NULL,
    fork_seq bigint NOT NULL,
    root_id text COLLATE "C" NOT NULL,
    spawn_depth integer NOT NULL,
    lifecycle smallint NOT NULL,
    turn_index integer NOT NULL,
    fact_changes bigint NOT NULL,
    create_request_id text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    listed_time timestamptz NOT NULL,
    end_time timestamptz,
    position bigint NOT NULL DEFAULT 0,
    settled_version xid NOT NULL DEFAULT '0',
    CONSTRAINT session_pkey PRIMARY KEY (bucket, session_key),
    CONSTRAINT session_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT session_id_length CHECK (octet_length(session_id) BETWEEN 1 AND 512),
    CONSTRAINT session_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT session_source_length CHECK (char_length(source) <= 256),
    CONSTRAINT session_agent_length CHECK (char_length(agent) <= 256),
    CONSTRAINT session_title_length CHECK (char_length(title) <= 100),
    CONSTRAINT session_end_reason_length CHECK (char_length(end_reason) <= 256),
    CONSTRAINT session_labels_size CHECK (octet_length(labels::text) <= 262144),
    CONSTRAINT session_metadata_size CHECK (octet_length(metadata) <= 131072),
    CONSTRAINT session_parent_id_length CHECK (octet_length(parent_id) <= 512),
    CONSTRAINT session_spawn_tool_call_id_length CHECK (octet_length(spawn_tool_call_id) <= 256),
    CONSTRAINT session_root_id_length CHECK (octet_length(root_id) <= 512),
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

-- What else lists filter by. What changes a session's place in the order changes all of these: the settling job
-- does, after the commit of what happened in the session, and at most every few seconds.
CREATE INDEX session_parent_listed_idx
    ON session (tenant, parent_id, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_id IS NOT NULL;
CREATE INDEX session_root_listed_idx
    ON session (tenant, root_id, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_id IS NOT NULL;
CREATE INDEX session_parent_created_idx
    ON session (tenant, parent_id, pinned DESC, create_time DESC, session_key DESC)
    WHERE parent_id IS NOT NULL;
CREATE INDEX session_root_created_idx
    ON session (tenant, root_id, pinned DESC, create_time DESC, session_key DESC)
    WHERE parent_id IS NOT NULL;
CREATE INDEX session_source_listed_idx
    ON session (tenant, source, pinned DESC, listed_time DESC, session_key DESC);
CREATE INDEX session_agent_listed_idx
    ON session (tenant, agent, pinned DESC, listed_time DESC, session_key DESC);

-- Lists leave the sessions of sub-agents out unless asked for them, and there may be many more of these.
-- A slot is a state and whether the session is archived. Lists of several are merged.
CREATE INDEX session_slot_listed_idx
    ON session (tenant, slot, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_kind <> 1;
CREATE INDEX session_owner_roots_idx
    ON session (tenant, owner, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_kind <> 1;

-- Which sessions changed behind a position, see `position_counter`. One that wasn't settled yet has position 0.
-- `settled_version` is the transaction that had written the session's head when it was settled.
CREATE INDEX session_position_idx ON session (tenant, position);
CREATE INDEX session_owner_position_idx ON session (tenant, owner, position);

-- Where most sessions are one session's children, statistics would tell the planner that every session has
-- so many, and it would look for them without an index. Without statistics it takes a parent's to be few.
ALTER TABLE session
    ALTER COLUMN parent_id SET STATISTICS 0,
    ALTER COLUMN root_id SET STATISTICS 0;

-- The system prompt, model and config of a session, each with the next seq at the time from which they held:
-- those of the row with the highest `effective_seq` up to n held when message n was committed. What is set
-- between two messages takes one row. A session without a row has none of the three.
CREATE TABLE session_setup (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    effective_seq bigint NOT NULL,
    prompt_id uuid,
    config_id uuid,
    model text COLLATE "C" NOT NULL,
    CONSTRAINT session_setup_pkey PRIMARY KEY (bucket, session_key, effective_seq),
    CONSTRAINT session_setup_model_length CHECK (char_length(model) <= 256)
);
-- Whether a text is still in use.
CREATE INDEX session_setup_prompt_idx ON session_setup (prompt_id) WHERE prompt_id IS NOT NULL;
CREATE INDEX session_setup_config_idx ON session_setup (config_id) WHERE config_id IS NOT NULL;

-- Prompts and configs. Sessions of a tenant that have the same one share it, for as long as one of them has
-- it: the id is a hash of tenant and content, and the bucket is the last bits of it. Who refers to a text
-- holds it with a shared lock until the reference is stored, and who deletes it locks it before looking.
CREATE TABLE setup_text (
    bucket smallint NOT NULL,
    text_id uuid NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT setup_text_pkey PRIMARY KEY (bucket, text_id),
    CONSTRAINT setup_text_size CHECK (octet_length(content) <= 1048576)
);

-- Setups with their texts.
CREATE VIEW full_setup AS
SELECT
    f.bucket, f.session_key, f.effective_seq, f.model,
    coalesce(p.content, '') AS system_prompt, coalesce(c.content, '') AS config
FROM session_setup AS f
LEFT JOIN setup_text AS p
    ON p.bucket = ('x' || right(f.prompt_id::text, 8))::bit(32)::integer & 1023
        AND p.text_id = f.prompt_id
LEFT JOIN setup_text AS c
    ON c.bucket = ('x' || right(f.config_id::text, 8))::bit(32)::integer & 1023
        AND c.text_id = f.config_id;

-- The titles of an owner's sessions by their series. Several may have the same one. The bucket is a hash of
-- (tenant, owner).
CREATE TABLE session_title (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    series text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    CONSTRAINT session_title_pkey PRIMARY KEY (bucket, tenant, owner, series, number, session_id),
    CONSTRAINT session_title_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT session_title_series_length CHECK (char_length(series) <= 100),
    CONSTRAINT session_title_session_id_length CHECK (octet_length(session_id) <= 512)
);
CREATE INDEX session_title_series_idx ON session_title (tenant, series, number DESC);

-- What appends change, apart from all that they don't. Every message before `offloaded_before_seq` is in a
-- segment, every other one in `message`; nothing is offloaded if it isn't above the first seq. A session's
-- revision is `next_seq + context_changes`, the latter of which counts what changed the context without an
-- append: an append raises the revision at no cost. Whatever changes
-- what lists show of a session sets `unsettled`, and the settling job takes it back when it has given the session
-- its next position and its place in lists, and nothing has written to the head since. Indexes see nothing of any other change, so that updates stay in their
-- page (HOT).
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
    context_changes bigint NOT NULL DEFAULT 0,
    activity_time timestamptz NOT NULL,
    unsettled boolean NOT NULL DEFAULT true,
    writer_epoch bigint NOT NULL,
    writer_token text COLLATE "C" NOT NULL,
    writer_holder text COLLATE "C" NOT NULL,
    writer_expire_time timestamptz NOT NULL,
    compactor_token text COLLATE "C" NOT NULL,
    compactor_holder text COLLATE "C" NOT NULL,
    compactor_expire_time timestamptz NOT NULL,
    offloaded_before_seq bigint NOT NULL DEFAULT 0,
    CONSTRAINT session_head_pkey PRIMARY KEY (bucket, session_key),
    CONSTRAINT session_head_writer_token_length CHECK (octet_length(writer_token) <= 128),
    CONSTRAINT session_head_writer_holder_length CHECK (char_length(writer_holder) <= 256),
    CONSTRAINT session_head_compactor_token_length CHECK (octet_length(compactor_token) <= 128),
    CONSTRAINT session_head_compactor_holder_length CHECK (char_length(compactor_holder) <= 256)
) WITH (fillfactor = 70);
CREATE INDEX session_head_unsettled_idx ON session_head (bucket, session_key) WHERE unsettled;
