"""Where a visitor came from: the host of a referrer, which may be any text."""

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the customary name

DIRECT: Final = "(direct)"
INVALID: Final = "(invalid)"
_HOST = r"^(\[[^\]]*\]|[^:]+)"


def host_of(referrer: str) -> Column:
    """Return the host of a referrer column, never null.

    It stands between the first `://` and the next `/`, `?` or `#`, without user info (up to the last `@`) and without
    port (from the first `:` outside of brackets), in lower case. `(direct)` for null and empty, `(invalid)` for none.
    """
    after_scheme = F.get(F.split(referrer, "://", 2), F.lit(1))
    authority = F.get(F.split(after_scheme, "[/?#]", 2), F.lit(0))
    host = F.regexp_extract(F.substring_index(authority, "@", -1), _HOST, 1)
    return (
        F.when(F.col(referrer).isNull() | (F.col(referrer) == ""), DIRECT)
        .when(host != "", F.lower(host))
        .otherwise(INVALID)
    )
