-- Attachments: files of sessions. Equal bytes are stored once per tenant.
-- compatible: 6

-- A file of a session. `content_id` names its bytes; as long as this row is there, so are they. `upload_ids`
-- are the `content_id`s of the uploads that came to it, the last 16, by which a repeated end of one finds it; a copy
-- has none.
CREATE TABLE attachment (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    attachment_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    mime_type text COLLATE "C" NOT NULL,
    disposition smallint NOT NULL,
    metadata bytea NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    sha256 bytea NOT NULL,
    size bigint NOT NULL,
    content_id uuid NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    upload_ids uuid[] NOT NULL DEFAULT '{}',
    CONSTRAINT attachment_pkey PRIMARY KEY (bucket, session_key, attachment_id),
    CONSTRAINT attachment_name_key UNIQUE (bucket, session_key, name),
    CONSTRAINT attachment_id_length CHECK (octet_length(attachment_id) BETWEEN 1 AND 128),
    CONSTRAINT attachment_name_length CHECK (octet_length(name) BETWEEN 1 AND 2048),
    CONSTRAINT attachment_mime_type_length CHECK (char_length(mime_type) <= 256),
    CONSTRAINT attachment_metadata_size CHECK (octet_length(metadata) <= 1048576),
    CONSTRAINT attachment_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT attachment_sha256_size CHECK (octet_length(sha256) = 32)
);

-- The bytes that a tenant has, and how many attachments refer to them: with the last of these the row and its
-- chunks go. The bucket is a hash of (tenant, sha256).
CREATE TABLE attachment_content (
    bucket smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    sha256 bytea NOT NULL,
    content_id uuid NOT NULL,
    size bigint NOT NULL,
    reference_count bigint NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT attachment_content_pkey PRIMARY KEY (bucket, tenant, sha256),
    CONSTRAINT attachment_content_tenant_length CHECK (octet_length(tenant) <= 128),
    CONSTRAINT attachment_content_sha256_size CHECK (octet_length(sha256) = 32),
    CONSTRAINT attachment_content_references CHECK (reference_count >= 0)
);

-- The bytes themselves, 256 KiB a row but for the last one, from 0 on. The bucket is a hash of the content's
-- id.
CREATE TABLE attachment_chunk (
    bucket smallint NOT NULL,
    content_id uuid NOT NULL,
    chunk_no integer NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT attachment_chunk_pkey PRIMARY KEY (bucket, content_id, chunk_no),
    CONSTRAINT attachment_chunk_content_size CHECK (octet_length(content) <= 262144)
);
-- Images and documents are compressed already: trying again costs, and a part of them is read quicker.
ALTER TABLE attachment_chunk ALTER COLUMN content SET STORAGE EXTERNAL;

-- An upload under way: whose chunks nothing refers to yet. It is kept until `expire_time`, which each write puts
-- off; then a job removes it with its chunks. `received` says how many bytes are stored. One that goes on call by
-- call has all further columns: what is to become of it, and the id of the API key that may write it; an empty
-- `sha256` isn't known.
CREATE TABLE attachment_upload (
    bucket smallint NOT NULL,
    session_key uuid NOT NULL,
    content_id uuid NOT NULL,
    expire_time timestamptz NOT NULL,
    received bigint NOT NULL DEFAULT 0,
    key_id text COLLATE "C",
    attachment_id text COLLATE "C",
    name text COLLATE "C",
    mime_type text COLLATE "C",
    disposition smallint,
    metadata bytea,
    size bigint,
    sha256 bytea,
    CONSTRAINT attachment_upload_pkey PRIMARY KEY (bucket, session_key, content_id),
    CONSTRAINT attachment_upload_received CHECK (received >= 0 AND received <= coalesce(size, received)),
    CONSTRAINT attachment_upload_whole CHECK (
        num_nulls(key_id, attachment_id, name, mime_type, disposition, metadata, size, sha256) IN (0, 8)
    ),
    CONSTRAINT attachment_upload_key_id_length CHECK (octet_length(key_id) <= 128),
    CONSTRAINT attachment_upload_attachment_id_length CHECK (
        octet_length(attachment_id) BETWEEN 1 AND 128
    ),
    CONSTRAINT attachment_upload_name_length CHECK (octet_length(name) BETWEEN 1 AND 2048),
    CONSTRAINT attachment_upload_mime_type_length CHECK (char_length(mime_type) <= 256),
    CONSTRAINT attachment_upload_metadata_size CHECK (octet_length(metadata) <= 1048576),
    CONSTRAINT attachment_upload_sha256_size CHECK (octet_length(sha256) IN (0, 32))
);
CREATE INDEX attachment_upload_expire_idx ON attachment_upload (expire_time);
