"""A real Kafka and a real PostgreSQL for the tests, started by the project's own files."""
