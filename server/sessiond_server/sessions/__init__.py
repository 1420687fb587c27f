"""The rules of sessions, without gRPC and SQL: what is seen, what belongs together, what follows."""
