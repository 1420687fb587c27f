"""Postgres: the schema, the queries, and the batcher that appends go through."""
