-- Lists that cost what a page holds, whatever they filter by.
-- compatible: 13

-- Each begins with what a list filters by, and goes on in the order of lists. What changes a session's place in
-- the order changes all of these, and happens at most once a minute for each session.
CREATE INDEX session_parent_listed_idx
    ON session (tenant, parent_id, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_id IS NOT NULL;
DROP INDEX session_parent_idx;
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
CREATE INDEX session_profile_listed_idx
    ON session (tenant, profile, pinned DESC, listed_time DESC, session_key DESC);

-- Lists leave the sessions of sub-agents out unless asked for them, and there may be many more of these.
CREATE INDEX session_state_listed_idx
    ON session (tenant, state, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_kind <> 1;
CREATE INDEX session_owner_roots_idx
    ON session (tenant, owner, pinned DESC, listed_time DESC, session_key DESC)
    WHERE parent_kind <> 1;

-- Where most sessions are one session's children, statistics would tell the planner that every session has so many,
-- and it would look for them without an index. Without statistics it takes a parent's to be few.
ALTER TABLE session
    ALTER COLUMN parent_id SET STATISTICS 0,
    ALTER COLUMN root_id SET STATISTICS 0;
