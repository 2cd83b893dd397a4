"""The tables that a batch recomputes: one module each, registered here.

To add one: write a module with a `Table` whose `build` ends in a select that is the table's schema, add it to
`TABLES`, and create it in a migration (docs/adding-an-aggregate.md). Nothing else knows the tables by name.
"""

from typing import Final

from clickstream_transform.tables.audience_by_window import AUDIENCE_BY_WINDOW
from clickstream_transform.tables.funnel_by_window import FUNNEL_BY_WINDOW
from clickstream_transform.tables.pages_by_window import PAGES_BY_WINDOW
from clickstream_transform.tables.revenue_by_window import REVENUE_BY_WINDOW
from clickstream_transform.tables.session_hours import SESSION_HOURS
from clickstream_transform.tables.table import Table
from clickstream_transform.tables.traffic_by_window import TRAFFIC_BY_WINDOW
from clickstream_transform.tables.users_by_hour import USERS_BY_HOUR

TABLES: Final[tuple[Table, ...]] = (
    TRAFFIC_BY_WINDOW,
    PAGES_BY_WINDOW,
    SESSION_HOURS,
    REVENUE_BY_WINDOW,
    USERS_BY_HOUR,
    AUDIENCE_BY_WINDOW,
    FUNNEL_BY_WINDOW,
)
