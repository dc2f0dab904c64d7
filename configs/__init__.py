"""One `get_config()` per experiment; `default` holds every key."""
