"""What else moves records from Kafka into PostgreSQL, on the same records and the same servers.

`make bench-peers`. Each peer is a program of its own, in an environment of its own, with pinned versions, and set up as
well as its documentation allows: batches of 5,000 like the daemon's, and the same `fetch.queue.backoff.ms`. They are
run as PROGRAM BOOTSTRAP TOPIC GROUP DSN, and go on until SIGTERM.
"""
