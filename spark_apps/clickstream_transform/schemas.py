"""Column contracts of the zones, as `DataFrame.to` enforces them."""

from pyspark.sql import types as T  # noqa: N812 - the customary name

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

EVENT = T.StructType(
    [
        T.StructField("event_id", T.StringType()),
        T.StructField("user_id", T.StringType()),
        T.StructField("session_id", T.StringType()),
        T.StructField("device", T.StringType()),
        T.StructField("region", T.StringType()),
        T.StructField("producer_id", T.StringType()),
        T.StructField("event_type", T.StringType()),
        T.StructField("event_time", T.TimestampType()),
        T.StructField("page", T.StringType()),
        T.StructField("sequence", T.LongType()),
        T.StructField("schema_version", T.LongType()),
        T.StructField("referrer", T.StringType()),
        T.StructField("product_id", T.StringType()),
        T.StructField("amount", T.DecimalType(24, 6)),
        T.StructField("currency", T.StringType()),
        T.StructField("fingerprint", T.BinaryType()),
    ]
)
"""A valid event, in the order of `event.Event`."""

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
