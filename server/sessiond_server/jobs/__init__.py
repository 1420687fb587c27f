"""What the service does by itself, each on one replica at a time."""
