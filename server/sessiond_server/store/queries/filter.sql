-- name: filter_owner
-- The conditions of a SessionFilter, about `s`, a row of `session`. A query that says :fits gets those that are
-- given: a plan for all of them would take no index.
s.owner = :owner

-- name: filter_sources
-- Several.
s.source = ANY(:sources::text[])

-- name: filter_source
-- One, for which lists have an index.
s.source = :source

-- name: filter_exclude_sources
-- What is left.
s.source <> ALL(:exclude_sources::text[])

-- name: filter_agents
-- Several.
s.agent = ANY(:agents::text[])

-- name: filter_agent
-- One, for which lists have an index.
s.agent = :agent

-- name: filter_slots
-- States, and whether archived; see the column.
s.slot = ANY(:slots::smallint[])

-- name: filter_labels
-- All of them.
s.labels @> :labels::text::jsonb

-- name: filter_parent_id
-- The children of a session.
s.parent_id = :parent_id

-- name: filter_subtree_of
-- A session and its descendants.
s.session_id IN (
    WITH RECURSIVE tree AS (
        SELECT :subtree_of::text COLLATE "C" AS session_id
        UNION ALL
        SELECT c.session_id
        FROM tree AS t
        JOIN session AS c ON c.tenant = :tenant AND c.parent_id = t.session_id
    )
    SELECT session_id
    FROM tree
)

-- name: filter_no_subagents
-- The condition of partial indexes.
s.parent_kind <> 1

-- name: filter_created_from
-- The range of the time of creation.
s.create_time >= :created_from

-- name: filter_created_before
-- Its end.
s.create_time < :created_before

-- name: filter_active_from
-- The range of the last activity, which the session's row has some seconds late.
(
    SELECT h.activity_time
    FROM session_head AS h
    WHERE h.bucket = s.bucket AND h.session_key = s.session_key
) >= :active_from

-- name: filter_active_before
-- Its end.
(
    SELECT h.activity_time
    FROM session_head AS h
    WHERE h.bucket = s.bucket AND h.session_key = s.session_key
) < :active_before

-- name: filter_ended_from
-- The range of the time at which it ended.
s.end_time >= :ended_from

-- name: filter_ended_before
-- Its end.
s.end_time < :ended_before
