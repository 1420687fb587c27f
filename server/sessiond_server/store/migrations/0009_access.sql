-- Who may call, when the setting `auth` asks for keys.
-- compatible: 9

-- A key is shown once; what is kept of it tells nobody what it was. Keys belong to no session: the table is
-- small, and the same for every shard.
CREATE TABLE api_key (
    key_id text COLLATE "C" NOT NULL,
    secret_hash bytea NOT NULL,
    name text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    owner text COLLATE "C",
    permissions text[] COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz,
    CONSTRAINT api_key_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_key_id_length CHECK (char_length(key_id) <= 32),
    CONSTRAINT api_key_name_length CHECK (char_length(name) <= 256),
    CONSTRAINT api_key_tenant_length CHECK (octet_length(tenant) BETWEEN 1 AND 128),
    CONSTRAINT api_key_owner_length CHECK (char_length(owner) BETWEEN 1 AND 256)
);
