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
    turn_index integer NOT NULL,
    revision bigint NOT NULL,
    create_request_id text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    listed_time timestamptz NOT NULL,
    end_time timestamptz,
    position bigint NOT NULL DEFAULT 0,
    CONSTRAINT session_pkey PRIMARY KEY (bucket, session_key),
    CONSTRAINT session_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT session_id_length CHECK (octet_length(session_id) BETWEEN 1 AND 128),
    CONSTRAINT session_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT session_source_length CHECK (char_length(source) <= 256),
    CONSTRAINT session_agent_length CHECK (char_length(agent) <= 256),
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
CREATE INDEX session_state_listed_idx
    ON session (tenant, state, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_kind <> 1;
CREATE INDEX session_owner_roots_idx
    ON session (tenant, owner, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_kind <> 1;

-- Which sessions changed behind a position, see `position_counter`. One that wasn't settled yet has position 0.
CREATE INDEX session_position_idx ON session (tenant, position);
CREATE INDEX session_owner_position_idx ON session (tenant, owner, position);

-- Where most sessions are one session's children, statistics would tell the planner that every session has
-- so many, and it would look for them without an index. Without statistics it takes a parent's to be few.
ALTER TABLE session
    ALTER COLUMN parent_id SET STATISTICS 0,
    ALTER COLUMN root_id SET STATISTICS 0;

-- A title belongs to one session of its owner. The bucket is a hash of (tenant, owner).
CREATE TABLE session_title (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    title text COLLATE "C" NOT NULL,
    series text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    CONSTRAINT session_title_pkey PRIMARY KEY (bucket, tenant, owner, title),
    CONSTRAINT session_title_owner_length CHECK (char_length(owner) <= 256),
    CONSTRAINT session_title_title_length CHECK (char_length(title) <= 100),
    CONSTRAINT session_title_series_length CHECK (char_length(series) <= 100),
    CONSTRAINT session_title_session_id_length CHECK (octet_length(session_id) <= 128)
);
CREATE INDEX session_title_series_idx ON session_title (tenant, series, number DESC);

-- What appends change, apart from all that they don't. Every message before `offloaded_before_seq` is in a
-- segment, every other one in `message`; nothing is offloaded if it isn't above the first seq. Whatever changes
-- what lists show of a session sets `unsettled`, and the settling job takes it back when it has given the session
-- its next position and its place in lists. Indexes see nothing of any other change, so that updates stay in their
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
