"""microbatch: records from Kafka into a database, in micro-batches, exactly once.

What a transform needs is here: Record, Row, and MappingError for a record that cannot become rows.
"""

from consumer.errors import MappingError
from consumer.record import Record, Row

__all__ = ["MappingError", "Record", "Row", "__version__"]
__version__ = "0.1.0"
