"""microbatch: records from Kafka into a database, in micro-batches, exactly once."""

__version__ = "0.1.0"
