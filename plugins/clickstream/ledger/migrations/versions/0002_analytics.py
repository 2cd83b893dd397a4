"""The results: windows, sessions and users."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE SCHEMA analytics;
GRANT USAGE ON SCHEMA analytics TO clickstream_writer, grafana_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO clickstream_writer;
ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT SELECT ON TABLES TO grafana_reader;

CREATE TABLE analytics.traffic_by_window (
    window_start timestamptz NOT NULL,
    window_minutes smallint NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    page_views bigint NOT NULL,
    add_to_carts bigint NOT NULL,
    purchases bigint NOT NULL,
    logins bigint NOT NULL,
    logouts bigint NOT NULL,
    users bigint NOT NULL,
    sessions bigint NOT NULL,
    status text NOT NULL DEFAULT 'provisional' CHECK (status IN ('provisional', 'complete')),
    revision integer NOT NULL DEFAULT 1,
    batch_id bigint NOT NULL,
    first_published_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (window_start, window_minutes),
    CHECK (events = page_views + add_to_carts + purchases + logins + logouts)
);
CREATE INDEX traffic_by_window_provisional ON analytics.traffic_by_window (window_start) WHERE status = 'provisional';
COMMENT ON TABLE analytics.traffic_by_window IS
    'Events per tumbling UTC window. A window without accepted events has no row.';
COMMENT ON COLUMN analytics.traffic_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.traffic_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.traffic_by_window.events IS 'Accepted events with an eventTime in the window.';
COMMENT ON COLUMN analytics.traffic_by_window.page_views IS 'Events of type PAGE_VIEW.';
COMMENT ON COLUMN analytics.traffic_by_window.add_to_carts IS 'Events of type ADD_TO_CART.';
COMMENT ON COLUMN analytics.traffic_by_window.purchases IS 'Events of type PURCHASE.';
COMMENT ON COLUMN analytics.traffic_by_window.logins IS 'Events of type LOGIN.';
COMMENT ON COLUMN analytics.traffic_by_window.logouts IS 'Events of type LOGOUT.';
COMMENT ON COLUMN analytics.traffic_by_window.users IS 'Distinct userIds, exact; not additive over windows.';
COMMENT ON COLUMN analytics.traffic_by_window.sessions IS 'Distinct sessionIds, exact; not additive over windows.';
COMMENT ON COLUMN analytics.traffic_by_window.status IS
    'complete once no on-time data is missing, else provisional; late data may still change either.';
COMMENT ON COLUMN analytics.traffic_by_window.revision IS
    '1, then one more in each publish that changes any published number of the window.';
COMMENT ON COLUMN analytics.traffic_by_window.batch_id IS 'The batch that published the window last.';
COMMENT ON COLUMN analytics.traffic_by_window.first_published_at IS 'When the window first appeared.';
COMMENT ON COLUMN analytics.traffic_by_window.published_at IS 'When the window was published last.';

CREATE TABLE analytics.pages_by_window (
    window_start timestamptz NOT NULL,
    window_minutes smallint NOT NULL,
    page text NOT NULL,
    views bigint NOT NULL CHECK (views > 0),
    users bigint NOT NULL,
    sessions bigint NOT NULL
);
CREATE INDEX pages_by_window_key ON analytics.pages_by_window (window_minutes, window_start);
COMMENT ON TABLE analytics.pages_by_window IS
    'Page views per window and page. No unique key: a page may be longer than an index entry. Publishing checks sums.';
COMMENT ON COLUMN analytics.pages_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.pages_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.pages_by_window.page IS
    'Text before the first ? or #, otherwise unchanged; empty becomes /.';
COMMENT ON COLUMN analytics.pages_by_window.views IS 'Events of type PAGE_VIEW of the page.';
COMMENT ON COLUMN analytics.pages_by_window.users IS 'Distinct userIds that viewed it, exact; not additive.';
COMMENT ON COLUMN analytics.pages_by_window.sessions IS 'Distinct sessionIds that viewed it, exact; not additive.';

CREATE TABLE analytics.audience_by_window (
    window_start timestamptz NOT NULL,
    window_minutes smallint NOT NULL,
    dimension text NOT NULL,
    value text NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    users bigint NOT NULL,
    sessions bigint NOT NULL,
    purchases bigint NOT NULL
);
CREATE INDEX audience_by_window_key ON analytics.audience_by_window (window_minutes, window_start, dimension);
COMMENT ON TABLE analytics.audience_by_window IS
    'Events per window by device, region and referrer: every event counts once in each dimension.';
COMMENT ON COLUMN analytics.audience_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.audience_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.audience_by_window.dimension IS 'device, region or referrer.';
COMMENT ON COLUMN analytics.audience_by_window.value IS
    'The event''s device or region; the referrer''s host, (direct) for none, (invalid) where it has no host.';
COMMENT ON COLUMN analytics.audience_by_window.events IS 'Accepted events.';
COMMENT ON COLUMN analytics.audience_by_window.users IS 'Distinct userIds, exact; not additive.';
COMMENT ON COLUMN analytics.audience_by_window.sessions IS 'Distinct sessionIds, exact; not additive.';
COMMENT ON COLUMN analytics.audience_by_window.purchases IS 'Events of type PURCHASE.';

CREATE TABLE analytics.funnel_by_window (
    window_start timestamptz NOT NULL,
    window_minutes smallint NOT NULL,
    sessions_viewed bigint NOT NULL,
    sessions_carted bigint NOT NULL,
    sessions_purchased bigint NOT NULL,
    PRIMARY KEY (window_minutes, window_start)
);
COMMENT ON TABLE analytics.funnel_by_window IS
    'Sessions per window that viewed, carted and purchased, in whatever order; a row for every window with events.';
COMMENT ON COLUMN analytics.funnel_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.funnel_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.funnel_by_window.sessions_viewed IS
    'Distinct sessionIds with a PAGE_VIEW; not additive.';
COMMENT ON COLUMN analytics.funnel_by_window.sessions_carted IS
    'Distinct sessionIds with an ADD_TO_CART; not additive.';
COMMENT ON COLUMN analytics.funnel_by_window.sessions_purchased IS
    'Distinct sessionIds with a PURCHASE; not additive.';

CREATE TABLE analytics.revenue_by_window (
    window_start timestamptz NOT NULL,
    window_minutes smallint NOT NULL,
    currency text NOT NULL,
    purchases bigint NOT NULL CHECK (purchases > 0),
    amount numeric(38,6) NOT NULL,
    PRIMARY KEY (window_minutes, window_start, currency)
);
COMMENT ON TABLE analytics.revenue_by_window IS 'Purchases per window and currency; currencies are never added up.';
COMMENT ON COLUMN analytics.revenue_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.revenue_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.revenue_by_window.currency IS 'The purchases'' currency, three capital letters.';
COMMENT ON COLUMN analytics.revenue_by_window.purchases IS 'Events of type PURCHASE.';
COMMENT ON COLUMN analytics.revenue_by_window.amount IS 'Sum of their amounts in units of the currency, exact.';

CREATE TABLE analytics.session_hours (
    session_id text NOT NULL,
    hour timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    page_views bigint NOT NULL,
    add_to_carts bigint NOT NULL,
    purchases bigint NOT NULL,
    user_id text NOT NULL,
    device text NOT NULL,
    region text NOT NULL,
    entry_page text,
    exit_page text,
    PRIMARY KEY (session_id, hour)
);
CREATE INDEX session_hours_by_hour ON analytics.session_hours (hour) INCLUDE (events);
COMMENT ON TABLE analytics.session_hours IS
    'What a session did within one UTC hour. Hours are recomputed as a whole; a session is the fold of its hours.';
COMMENT ON COLUMN analytics.session_hours.session_id IS 'The sessionId.';
COMMENT ON COLUMN analytics.session_hours.hour IS 'Start of the UTC hour.';
COMMENT ON COLUMN analytics.session_hours.started_at IS 'Time of its least event in the hour.';
COMMENT ON COLUMN analytics.session_hours.ended_at IS 'Time of its greatest event in the hour.';
COMMENT ON COLUMN analytics.session_hours.events IS 'Accepted events in the hour.';
COMMENT ON COLUMN analytics.session_hours.page_views IS 'Events of type PAGE_VIEW in the hour.';
COMMENT ON COLUMN analytics.session_hours.add_to_carts IS 'Events of type ADD_TO_CART in the hour.';
COMMENT ON COLUMN analytics.session_hours.purchases IS 'Events of type PURCHASE in the hour.';
COMMENT ON COLUMN analytics.session_hours.user_id IS 'userId of its least event in the hour.';
COMMENT ON COLUMN analytics.session_hours.device IS 'device of its least event in the hour.';
COMMENT ON COLUMN analytics.session_hours.region IS 'region of its least event in the hour.';
COMMENT ON COLUMN analytics.session_hours.entry_page IS 'Page of its least PAGE_VIEW in the hour; null if none.';
COMMENT ON COLUMN analytics.session_hours.exit_page IS 'Page of its greatest PAGE_VIEW in the hour; null if none.';

CREATE TABLE analytics.sessions (
    session_id text PRIMARY KEY,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    page_views bigint NOT NULL,
    add_to_carts bigint NOT NULL,
    purchases bigint NOT NULL,
    user_id text NOT NULL,
    device text NOT NULL,
    region text NOT NULL,
    entry_page text,
    exit_page text,
    bounced boolean NOT NULL
);
CREATE INDEX sessions_by_start ON analytics.sessions (started_at);
CREATE INDEX sessions_of_user ON analytics.sessions (user_id, started_at);
COMMENT ON TABLE analytics.sessions IS
    'Sessions over all of their accepted events. Events are ordered by time, then eventId, then fingerprint, as bytes.';
COMMENT ON COLUMN analytics.sessions.session_id IS 'The sessionId.';
COMMENT ON COLUMN analytics.sessions.started_at IS 'Time of its least event.';
COMMENT ON COLUMN analytics.sessions.ended_at IS 'Time of its greatest event.';
COMMENT ON COLUMN analytics.sessions.events IS 'Accepted events.';
COMMENT ON COLUMN analytics.sessions.page_views IS 'Events of type PAGE_VIEW.';
COMMENT ON COLUMN analytics.sessions.add_to_carts IS 'Events of type ADD_TO_CART.';
COMMENT ON COLUMN analytics.sessions.purchases IS 'Events of type PURCHASE.';
COMMENT ON COLUMN analytics.sessions.user_id IS 'userId of its least event.';
COMMENT ON COLUMN analytics.sessions.device IS 'device of its least event.';
COMMENT ON COLUMN analytics.sessions.region IS 'region of its least event.';
COMMENT ON COLUMN analytics.sessions.entry_page IS 'Page of its least PAGE_VIEW; null if none.';
COMMENT ON COLUMN analytics.sessions.exit_page IS 'Page of its greatest PAGE_VIEW; null if none.';
COMMENT ON COLUMN analytics.sessions.bounced IS 'Whether it has exactly one page view.';

CREATE TABLE analytics.sessions_by_window (
    window_start timestamptz NOT NULL,
    window_minutes smallint NOT NULL,
    dimension text NOT NULL CHECK (dimension IN ('all', 'device', 'region', 'entry_page', 'exit_page')),
    value text NOT NULL,
    sessions bigint NOT NULL CHECK (sessions > 0),
    bounced bigint NOT NULL,
    carted bigint NOT NULL,
    purchased bigint NOT NULL,
    page_views bigint NOT NULL,
    seconds numeric NOT NULL
);
CREATE INDEX sessions_by_window_key
    ON analytics.sessions_by_window (window_minutes, dimension, window_start, left(value, 256));
COMMENT ON TABLE analytics.sessions_by_window IS
    'Sessions by the window they started in, additive over windows. A session that goes on changes that window''s row;'
    ' the window''s revision does not count it.';
COMMENT ON COLUMN analytics.sessions_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.sessions_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.sessions_by_window.dimension IS
    'all (value empty), device, region, entry_page or exit_page; sessions without a page view have no pages.';
COMMENT ON COLUMN analytics.sessions_by_window.value IS 'The sessions'' value in the dimension.';
COMMENT ON COLUMN analytics.sessions_by_window.sessions IS 'Sessions that started in the window.';
COMMENT ON COLUMN analytics.sessions_by_window.bounced IS 'Those with exactly one page view.';
COMMENT ON COLUMN analytics.sessions_by_window.carted IS 'Those with an ADD_TO_CART, in whatever window.';
COMMENT ON COLUMN analytics.sessions_by_window.purchased IS 'Those with a PURCHASE, in whatever window.';
COMMENT ON COLUMN analytics.sessions_by_window.page_views IS 'Their page views, in whatever window.';
COMMENT ON COLUMN analytics.sessions_by_window.seconds IS 'Sum of the seconds from their first to their last event.';

CREATE TABLE analytics.users_by_hour (
    hour timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    user_id text NOT NULL,
    PRIMARY KEY (hour, user_id)
);
CREATE INDEX users_by_hour_of_user ON analytics.users_by_hour (user_id, hour);
COMMENT ON TABLE analytics.users_by_hour IS
    'Who was there in each UTC hour: distinct users are not additive, so longer spans count these.';
COMMENT ON COLUMN analytics.users_by_hour.hour IS 'Start of the UTC hour.';
COMMENT ON COLUMN analytics.users_by_hour.user_id IS 'A userId with an accepted event in the hour.';
"""

DOWNGRADE = """
ALTER DEFAULT PRIVILEGES IN SCHEMA analytics
    REVOKE SELECT, INSERT, UPDATE, DELETE ON TABLES FROM clickstream_writer;
ALTER DEFAULT PRIVILEGES IN SCHEMA analytics REVOKE SELECT ON TABLES FROM grafana_reader;
DROP SCHEMA analytics CASCADE;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo."""
    op.execute(DOWNGRADE)
