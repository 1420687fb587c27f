-- What the service does by itself, on one replica at a time.
-- compatible: 12

-- A job belongs to no session: the table is small, and the same for every shard.
CREATE TABLE job (
    name text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    expire_time timestamptz NOT NULL,
    due_time timestamptz NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    error text COLLATE "C" NOT NULL,
    CONSTRAINT job_pkey PRIMARY KEY (name),
    CONSTRAINT job_name_length CHECK (char_length(name) <= 64),
    CONSTRAINT job_holder_length CHECK (char_length(holder) <= 64),
    CONSTRAINT job_error_length CHECK (char_length(error) <= 1000)
);
