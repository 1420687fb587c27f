"""What must never be found in the tables of attachments."""

from __future__ import annotations

BAD = """
SELECT 'a count that is wrong' AS what, count(*) AS number
FROM (SELECT tenant, sha256, content_id, size, count(*) AS uses FROM attachment GROUP BY 1, 2, 3, 4) AS a
FULL JOIN attachment_content AS c USING (tenant, sha256)
WHERE (a.uses, a.content_id, a.size) IS DISTINCT FROM (c.reference_count, c.content_id, c.size)
UNION ALL
SELECT 'bytes that are lost or others', count(*)
FROM attachment_content AS c
JOIN LATERAL (
    SELECT string_agg(content, '' ORDER BY chunk_no) AS bytes
    FROM attachment_chunk AS k
    WHERE k.content_id = c.content_id
) AS k ON true
WHERE sha256(coalesce(k.bytes, '')) <> c.sha256 OR octet_length(coalesce(k.bytes, '')) <> c.size
UNION ALL
SELECT 'bytes that nothing refers to', count(*)
FROM attachment_chunk AS k
WHERE NOT EXISTS (SELECT FROM attachment_content AS c WHERE c.content_id = k.content_id)
    AND NOT EXISTS (SELECT FROM attachment_upload AS u WHERE u.content_id = k.content_id)
UNION ALL
SELECT 'an upload with other bytes than it says', count(*)
FROM attachment_upload AS u
WHERE u.received <> (
    SELECT coalesce(sum(octet_length(content)), 0)
    FROM attachment_chunk AS k
    WHERE k.content_id = u.content_id
)
UNION ALL
SELECT 'an attachment without its session', count(*)
FROM attachment AS a
WHERE NOT EXISTS (
    SELECT FROM session AS s WHERE s.bucket = a.bucket AND s.session_key = a.session_key
)
"""
"""Kinds of mistakes, each with their number."""
