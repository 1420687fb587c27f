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
    creator text COLLATE "C" NOT NULL,
    request_id text COLLATE "C",
    CONSTRAINT api_key_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_key_id_length CHECK (char_length(key_id) <= 32),
    CONSTRAINT api_key_name_length CHECK (char_length(name) <= 256),
    CONSTRAINT api_key_tenant_length CHECK (octet_length(tenant) BETWEEN 1 AND 128),
    CONSTRAINT api_key_owner_length CHECK (char_length(owner) BETWEEN 1 AND 256),
    CONSTRAINT api_key_creator_length CHECK (char_length(creator) <= 32),
    CONSTRAINT api_key_request_id_length CHECK (char_length(request_id) BETWEEN 1 AND 128)
);

-- A tenant's keys, the newest first.
CREATE INDEX api_key_by_time ON api_key (tenant, create_time DESC, key_id DESC);

-- A request that is sent again makes no second key.
CREATE UNIQUE INDEX api_key_by_request ON api_key (tenant, request_id) WHERE request_id IS NOT NULL;
