-- name: claim_job
-- The job $1 is $2's for $3 seconds, if it is due and nobody's. The first replica that asks makes it.
INSERT INTO job (name, holder, expire_time, due_time, start_time, end_time, error)
VALUES ($1, $2, now() + make_interval(secs => $3), now(), now(), NULL, '')
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, expire_time = excluded.expire_time, start_time = now()
WHERE job.due_time <= now() AND job.expire_time <= now()
RETURNING true;

-- name: job_wait
-- Seconds until the job $1 may be claimed.
SELECT extract(epoch FROM greatest(due_time, expire_time) - clock_timestamp())::float8
FROM job
WHERE name = $1;

-- name: renew_job
-- Another $3 seconds, if $2 still holds it.
UPDATE job
SET expire_time = now() + make_interval(secs => $3)
WHERE name = $1 AND holder = $2
RETURNING true;

-- name: finish_job
-- It is due again $3 seconds after its start.
UPDATE job
SET
    holder = '', expire_time = now(), due_time = start_time + make_interval(secs => $3),
    end_time = now(), error = $4
WHERE name = $1 AND holder = $2;
