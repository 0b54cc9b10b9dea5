"""How fast and how large the daemon is, as ratios to what could be reached at most and to loops written by hand.

`make bench` and `make bench-memory`. Only ratios of one run mean anything: every candidate runs in every round, on the
same topics and the same servers. Nothing here passes or fails.
"""
