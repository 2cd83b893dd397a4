"""The tables that a batch recomputes: one module each, registered here.

To add one: write a module with a `Table` whose `build` ends in a select that is the table's schema, add it to
`TABLES`, and name it in the migration that creates it. Nothing else knows the tables by name.
"""

from typing import Final

from clickstream_transform.tables.table import Table
from clickstream_transform.tables.traffic_by_window import TRAFFIC_BY_WINDOW

TABLES: Final[tuple[Table, ...]] = (TRAFFIC_BY_WINDOW,)
