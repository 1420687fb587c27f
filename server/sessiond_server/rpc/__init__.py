"""gRPC: a thin servicer per service, and the one wall that turns refusals into statuses."""
