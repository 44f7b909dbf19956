"""What must hold at each boundary, as Great Expectations suites in code."""
