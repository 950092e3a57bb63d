"""What is run and on what: bundles, sessions, preprocessing."""
