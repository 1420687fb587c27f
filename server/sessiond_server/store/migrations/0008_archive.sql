-- Archived messages: compressed segments, out of the way of appends.
-- compatible: 8

-- Every message below it is in a segment, every other one in `message`. Nothing is archived where it isn't above
-- the first seq.
ALTER TABLE session_head ADD COLUMN archived_before_seq bigint NOT NULL DEFAULT 0;

-- Up to 256 consecutive messages, compressed together. Beside them only what saves reading them: the totals of
-- those that are in the context and no notes, the notes that aren't in it, bits for the roles and kinds that
-- occur. The border may stand behind a segment that is `settled`: every tool call up to there is answered there.
-- Client ids are kept as numbers of 32 bits, for looking further only where one occurs: those of a session's first
-- messages are looked through, those of later ones have an index, which takes ten times the space.
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
    silent_notes bigint[],
    client_keys integer[],
    indexed_client_keys integer[],
    content bytea NOT NULL,
    CONSTRAINT message_segment_pkey PRIMARY KEY (bucket, session_key, first_seq),
    CONSTRAINT message_segment_range CHECK (first_seq <= last_seq)
);
ALTER TABLE message_segment ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX message_segment_client_key_idx ON message_segment USING gin (indexed_client_keys)
    WITH (fastupdate = off) WHERE indexed_client_keys IS NOT NULL;

-- What the conversations of a tenant begin with alike, such as the prompt of an agent: kept once, for as long as
-- segments are compressed with it. The bucket is a hash of the id, which is one of tenant and content.
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
CREATE TABLE message_archive (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    archive_id bigint NOT NULL,
    restored boolean NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    message_bytes bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    author text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT message_archive_pkey PRIMARY KEY (bucket, session_key, archive_id),
    CONSTRAINT message_archive_range CHECK (from_seq <= to_seq),
    CONSTRAINT message_archive_author_length CHECK (char_length(author) <= 256)
);
