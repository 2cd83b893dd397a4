"""Step 1: a record's value becomes an event or a rejection.

The one step with Python in it: no Spark column function is a strict RFC 8259 parser (`from_json` nulls corrupt
columns silently, accepts lone surrogates and cannot tell the first of duplicate keys from the last), and the
contract is decided to the character. mapInArrow passes batches bounded by rows and bytes, whereas a UDF would also
queue the rows beside it, whole values included.
"""

from collections.abc import Iterator

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name
from pyspark.sql.pandas.types import to_arrow_schema

import clickstream_transform
from clickstream_transform import schemas
from clickstream_transform.event import Event, Rejection, classify_value
from clickstream_transform.event_schema import MAX_VALUE_BYTES

# Travels with the query instead of being looked up where it runs: executors and Spark Connect servers then need
# neither --py-files nor a PYTHONPATH.
cloudpickle.register_pickle_by_value(clickstream_transform)  # type: ignore[no-untyped-call]

_KEPT = ("topic_id", "partition", "offset", "record_time", "historic")
_RESULT = T.StructType([*schemas.REJECTION.fields, *schemas.EVENT.fields])
_ARROW_FIELDS = list(to_arrow_schema(_RESULT, timezone="UTC"))
_NO_REJECTION = (None,) * len(Rejection._fields)
_NO_EVENT = (None,) * len(schemas.EVENT)


def parse(records: DataFrame) -> DataFrame:
    """Replace `value` by `reason` and `detail` (null for an event) and the event's columns (null for a rejection)."""
    # One byte more than is allowed still tells that a value is too large; the rest need not travel.
    heads = records.select(*_KEPT, F.substring("value", 1, MAX_VALUE_BYTES + 1).alias("value"))
    schema = T.StructType([*(records.schema[name] for name in _KEPT), *_RESULT.fields])
    return heads.mapInArrow(parse_batches, schema)


def parse_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Parse batches of kept columns and, last, values."""
    for batch in batches:
        *kept, values = batch.columns
        columns = [*kept, *classify_values(values)]
        yield pa.RecordBatch.from_arrays(columns, names=[*_KEPT, *_RESULT.names])


def classify_values(values: pa.Array) -> list[pa.Array]:
    """Classify values into the columns of a rejection and of an event."""
    rows = [
        (*_NO_REJECTION, *result.values, result.fingerprint) if isinstance(result, Event) else (*result, *_NO_EVENT)
        for result in map(classify_value, values.to_pylist())
    ]
    columns = zip(*rows, strict=True) if rows else ((),) * len(_ARROW_FIELDS)
    return [pa.array(column, field.type) for column, field in zip(columns, _ARROW_FIELDS, strict=True)]
