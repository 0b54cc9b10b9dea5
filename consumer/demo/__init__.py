"""The demo: a broker, a database and orders made on the spot, the real daemon on them, and a proof at the end."""
