"""Each claim of speed or quality, measured against a peer in the same run."""
