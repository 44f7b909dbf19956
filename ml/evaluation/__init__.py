"""How good a set of predictions is, with intervals, and whether that is good enough."""
