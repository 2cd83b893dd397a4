"""Column contracts of the zones, as `DataFrame.to` enforces them."""

from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.event_schema import FIELDS, AmountField, Field, IntegerField, TextField, TimeField

RAW = T.StructType(
    [
        T.StructField("topic_id", T.StringType()),
        T.StructField("partition", T.IntegerType()),
        T.StructField("offset", T.LongType()),
        T.StructField("timestamp", T.TimestampType()),
        T.StructField("value", T.BinaryType()),
        T.StructField(
            "headers",
            T.ArrayType(T.StructType([T.StructField("key", T.StringType()), T.StructField("value", T.BinaryType())])),
        ),
    ]
)
"""The columns of a raw segment that the transformation needs; key and timestamp_type stay unread."""

_COORDINATES = [
    T.StructField("topic_id", T.StringType()),
    T.StructField("partition", T.IntegerType()),
    T.StructField("offset", T.LongType()),
    T.StructField("record_time", T.TimestampType()),
]

_TYPES: dict[type[Field], T.DataType] = {
    TextField: T.StringType(),
    IntegerField: T.LongType(),
    TimeField: T.TimestampType(),
    AmountField: T.DecimalType(24, 6),
}

EVENT = T.StructType(
    [
        *(T.StructField(field.column, _TYPES[type(field)]) for field in FIELDS),
        T.StructField("fingerprint", T.BinaryType()),
    ]
)
"""A valid event: `event.Event.values`, then its fingerprint."""

EVENTS = T.StructType([*_COORDINATES, *EVENT.fields])
"""A file of the events zone; its hour is the folder's name."""

REJECTION = T.StructType(
    [
        T.StructField("reason", T.StringType()),
        T.StructField("detail", T.StringType()),
    ]
)
"""Why a record was rejected, in the order of `event.Rejection`."""

REJECTED = T.StructType(
    [
        *_COORDINATES,
        *REJECTION.fields,
        T.StructField("excerpt", T.StringType()),
        T.StructField("value", T.BinaryType()),
    ]
)
"""A file of the rejected zone."""
