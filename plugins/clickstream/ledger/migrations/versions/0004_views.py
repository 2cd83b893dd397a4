"""Views that answer what analysts ask first: engagement, conversion, pages, days, users, today against yesterday."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Days are spelt as 24 hours: what interval '1 day' adds depends on the session's time zone.
UPGRADE = """
CREATE VIEW analytics.engagement_by_window AS
SELECT t.window_start, t.window_minutes, t.status, coalesce(s.sessions, 0) AS sessions_started,
       coalesce(s.bounced, 0) AS bounced, coalesce(s.page_views, 0) AS page_views, coalesce(s.seconds, 0) AS seconds,
       round(s.bounced::numeric / s.sessions, 4) AS bounce_rate,
       round(s.seconds / s.sessions, 2) AS average_session_seconds,
       round(s.page_views::numeric / s.sessions, 2) AS pages_per_session
FROM analytics.traffic_by_window t
LEFT JOIN LATERAL (
    SELECT w.sessions, w.bounced, w.page_views, w.seconds FROM analytics.sessions_by_window w
    WHERE w.window_minutes = t.window_minutes AND w.dimension = 'all' AND w.window_start = t.window_start) s ON true;
COMMENT ON VIEW analytics.engagement_by_window IS
    'How sessions went, by the window they started in; a row for every window with events. For longer spans add up'
    ' the counts and divide then.';
COMMENT ON COLUMN analytics.engagement_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.engagement_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.engagement_by_window.status IS
    'complete or provisional, as in traffic_by_window; sessions that go on change their window afterwards too.';
COMMENT ON COLUMN analytics.engagement_by_window.sessions_started IS 'Sessions that started in the window; additive.';
COMMENT ON COLUMN analytics.engagement_by_window.bounced IS 'Those with exactly one page view; additive.';
COMMENT ON COLUMN analytics.engagement_by_window.page_views IS 'Their page views, in whatever window; additive.';
COMMENT ON COLUMN analytics.engagement_by_window.seconds IS
    'Sum of the seconds from their first to their last event; additive.';
COMMENT ON COLUMN analytics.engagement_by_window.bounce_rate IS
    'bounced / sessions_started: 0 to 1, rounded to 4 decimals; null where no session started.';
COMMENT ON COLUMN analytics.engagement_by_window.average_session_seconds IS
    'seconds / sessions_started, rounded to 2 decimals; null where no session started.';
COMMENT ON COLUMN analytics.engagement_by_window.pages_per_session IS
    'page_views / sessions_started, rounded to 2 decimals; null where no session started.';

CREATE VIEW analytics.conversion_by_window AS
SELECT window_start, window_minutes, dimension, value, sessions AS sessions_started, carted, purchased,
       round(carted::numeric / sessions, 4) AS cart_rate, round(purchased::numeric / sessions, 4) AS conversion_rate
FROM analytics.sessions_by_window WHERE dimension IN ('device', 'region');
COMMENT ON VIEW analytics.conversion_by_window IS
    'How many sessions carted and purchased, by device and by region and the window they started in. Every session'
    ' counts once in each dimension. For longer spans add up the counts and divide then.';
COMMENT ON COLUMN analytics.conversion_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.conversion_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.conversion_by_window.dimension IS 'device or region.';
COMMENT ON COLUMN analytics.conversion_by_window.value IS 'The device or region of the sessions'' first event.';
COMMENT ON COLUMN analytics.conversion_by_window.sessions_started IS 'Sessions that started in the window; additive.';
COMMENT ON COLUMN analytics.conversion_by_window.carted IS
    'Those with an ADD_TO_CART, in whatever window; additive.';
COMMENT ON COLUMN analytics.conversion_by_window.purchased IS 'Those with a PURCHASE, in whatever window; additive.';
COMMENT ON COLUMN analytics.conversion_by_window.cart_rate IS
    'carted / sessions_started: 0 to 1, rounded to 4 decimals.';
COMMENT ON COLUMN analytics.conversion_by_window.conversion_rate IS
    'purchased / sessions_started: 0 to 1, rounded to 4 decimals.';

CREATE VIEW analytics.pages_by_hour AS
SELECT hour, page, sum(views)::bigint AS views, sum(entries)::bigint AS entries, sum(exits)::bigint AS exits,
       sum(bounces)::bigint AS bounces
FROM (
    SELECT window_start AS hour, page, views, 0 AS entries, 0 AS exits, 0 AS bounces
    FROM analytics.pages_by_window WHERE window_minutes = 60
    UNION ALL
    SELECT window_start, value, 0, sessions, 0, bounced
    FROM analytics.sessions_by_window WHERE window_minutes = 60 AND dimension = 'entry_page'
    UNION ALL
    SELECT window_start, value, 0, 0, sessions, 0
    FROM analytics.sessions_by_window WHERE window_minutes = 60 AND dimension = 'exit_page') p
GROUP BY hour, page;
COMMENT ON VIEW analytics.pages_by_hour IS
    'Views of each page, and sessions that began and ended with it, by UTC hour. All counts are additive.';
COMMENT ON COLUMN analytics.pages_by_hour.hour IS 'Start of the UTC hour, inclusive.';
COMMENT ON COLUMN analytics.pages_by_hour.page IS 'Text before the first ? or #, otherwise unchanged; empty becomes /.';
COMMENT ON COLUMN analytics.pages_by_hour.views IS 'Events of type PAGE_VIEW in the hour.';
COMMENT ON COLUMN analytics.pages_by_hour.entries IS
    'Sessions that started in the hour and whose first page view, in whatever hour, is of the page.';
COMMENT ON COLUMN analytics.pages_by_hour.exits IS
    'Sessions that started in the hour and whose last page view, in whatever hour, is of the page.';
COMMENT ON COLUMN analytics.pages_by_hour.bounces IS 'Of the entries, those whose session has exactly one page view.';

CREATE INDEX traffic_by_window_by_day ON analytics.traffic_by_window
    (date_bin('24 hours', window_start, '2000-01-01 00:00:00+00')) WHERE window_minutes = 60;

-- Spans of users are counted from the index alone, where vacuum has seen the rows; it comes every few hours.
ALTER TABLE analytics.users_by_hour
    SET (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000);

CREATE VIEW analytics.completeness AS
SELECT greatest(
    (SELECT max(window_start) + interval '60 minutes' FROM analytics.traffic_by_window
     WHERE window_minutes = 60 AND status = 'complete'),
    (SELECT min(watermark) - interval '2 minutes' FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL))
) AS complete_until;
COMMENT ON VIEW analytics.completeness IS 'One row: up to when the results are complete.';
COMMENT ON COLUMN analytics.completeness.complete_until IS
    'Of windows that end by this moment no on-time data is missing; null before any data.';

CREATE VIEW analytics.traffic_by_day AS
SELECT t.day, t.hours, t.events, t.page_views, t.add_to_carts, t.purchases, t.logins, t.logouts, u.users,
       s.sessions_started,
       t.complete AND coalesce(
           t.day + interval '24 hours' <= (SELECT complete_until FROM analytics.completeness), false) AS complete
FROM (
    SELECT date_bin('24 hours', window_start, '2000-01-01 00:00:00+00') AS day, count(*) AS hours,
           sum(events)::bigint AS events, sum(page_views)::bigint AS page_views,
           sum(add_to_carts)::bigint AS add_to_carts, sum(purchases)::bigint AS purchases,
           sum(logins)::bigint AS logins, sum(logouts)::bigint AS logouts, bool_and(status = 'complete') AS complete
    FROM analytics.traffic_by_window WHERE window_minutes = 60
    GROUP BY 1) t
CROSS JOIN LATERAL (
    SELECT coalesce(sum(sessions), 0)::bigint AS sessions_started FROM analytics.sessions_by_window
    WHERE window_minutes = 60 AND dimension = 'all'
      AND window_start >= t.day AND window_start < t.day + interval '24 hours') s
CROSS JOIN LATERAL (
    SELECT count(*) AS users FROM (
        SELECT DISTINCT user_id FROM analytics.users_by_hour
        WHERE hour >= t.day AND hour < t.day + interval '24 hours') d) u;
COMMENT ON VIEW analytics.traffic_by_day IS 'Events per UTC day. A day without accepted events has no row.';
COMMENT ON COLUMN analytics.traffic_by_day.day IS 'Start of the UTC day, inclusive.';
COMMENT ON COLUMN analytics.traffic_by_day.hours IS 'UTC hours of the day with accepted events, 1 to 24.';
COMMENT ON COLUMN analytics.traffic_by_day.events IS 'Accepted events.';
COMMENT ON COLUMN analytics.traffic_by_day.page_views IS 'Events of type PAGE_VIEW.';
COMMENT ON COLUMN analytics.traffic_by_day.add_to_carts IS 'Events of type ADD_TO_CART.';
COMMENT ON COLUMN analytics.traffic_by_day.purchases IS 'Events of type PURCHASE.';
COMMENT ON COLUMN analytics.traffic_by_day.logins IS 'Events of type LOGIN.';
COMMENT ON COLUMN analytics.traffic_by_day.logouts IS 'Events of type LOGOUT.';
COMMENT ON COLUMN analytics.traffic_by_day.users IS 'Distinct userIds of the day, exact; not additive over days.';
COMMENT ON COLUMN analytics.traffic_by_day.sessions_started IS 'Sessions that started that day; additive over days.';
COMMENT ON COLUMN analytics.traffic_by_day.complete IS
    'Whether no on-time data of the day is missing, as status in traffic_by_window; the day is over then.';

CREATE VIEW analytics.revenue_by_day AS
SELECT d.day, r.currency, r.purchases, r.amount
FROM (
    SELECT date_bin('24 hours', window_start, '2000-01-01 00:00:00+00') AS day
    FROM analytics.traffic_by_window WHERE window_minutes = 60 GROUP BY 1) d
CROSS JOIN LATERAL (
    SELECT currency, sum(purchases)::bigint AS purchases, sum(amount) AS amount FROM analytics.revenue_by_window
    WHERE window_minutes = 60 AND window_start >= d.day AND window_start < d.day + interval '24 hours'
    GROUP BY currency) r;
COMMENT ON VIEW analytics.revenue_by_day IS 'Purchases per UTC day and currency; currencies are never added up.';
COMMENT ON COLUMN analytics.revenue_by_day.day IS 'Start of the UTC day, inclusive.';
COMMENT ON COLUMN analytics.revenue_by_day.currency IS 'The purchases'' currency, three capital letters.';
COMMENT ON COLUMN analytics.revenue_by_day.purchases IS 'Events of type PURCHASE.';
COMMENT ON COLUMN analytics.revenue_by_day.amount IS 'Sum of their amounts in units of the currency, exact.';

CREATE VIEW analytics.new_users_by_day AS
SELECT d.day, u.users, u.new_users, u.users - u.new_users AS returning_users
FROM (
    SELECT date_bin('24 hours', window_start, '2000-01-01 00:00:00+00') AS day
    FROM analytics.traffic_by_window WHERE window_minutes = 60 GROUP BY 1) d
CROSS JOIN LATERAL (
    -- Most who return were there the day before, and a day is read at once; only the others are looked up one by one.
    SELECT count(*) AS users,
           count(*) FILTER (WHERE before.user_id IS NULL AND NOT EXISTS (
               SELECT FROM analytics.users_by_hour h WHERE h.user_id = today.user_id AND h.hour < d.day)) AS new_users
    FROM (SELECT DISTINCT user_id FROM analytics.users_by_hour
          WHERE hour >= d.day AND hour < d.day + interval '24 hours') today
    LEFT JOIN (SELECT DISTINCT user_id FROM analytics.users_by_hour
               WHERE hour >= d.day - interval '24 hours' AND hour < d.day) before USING (user_id)) u;
COMMENT ON VIEW analytics.new_users_by_day IS
    'Users per UTC day, new and returning. New is who has no event before that day in users_by_hour: once older hours'
    ' are retired, a user of old may count as new again. A day without accepted events has no row.';
COMMENT ON COLUMN analytics.new_users_by_day.day IS 'Start of the UTC day, inclusive.';
COMMENT ON COLUMN analytics.new_users_by_day.users IS 'Distinct userIds of the day, exact; not additive over days.';
COMMENT ON COLUMN analytics.new_users_by_day.new_users IS
    'Those without an event before the day, within the hours kept; additive over days.';
COMMENT ON COLUMN analytics.new_users_by_day.returning_users IS 'The others; not additive over days.';

CREATE FUNCTION analytics.compare_day(until timestamptz)
RETURNS TABLE (metric text, last_24h numeric, day_before numeric, change numeric, change_percent numeric)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
WITH spans AS (
    SELECT days.ago, date_trunc('hour', until, 'UTC') - (days.ago + 1) * interval '24 hours' AS since,
           date_trunc('hour', until, 'UTC') - days.ago * interval '24 hours' AS until
    FROM (VALUES (0), (1)) days (ago)
), metrics AS (
    SELECT spans.ago, m.place, m.metric, m.value
    FROM spans
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(events), 0) AS events, coalesce(sum(page_views), 0) AS page_views,
               coalesce(sum(purchases), 0) AS purchases
        FROM analytics.traffic_by_window t
        WHERE t.window_minutes = 60 AND t.window_start >= spans.since AND t.window_start < spans.until) t
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(sessions), 0) AS sessions, sum(bounced) / sum(sessions) AS bounce_rate,
               sum(purchased) / sum(sessions) AS conversion_rate
        FROM analytics.sessions_by_window w
        WHERE w.window_minutes = 60 AND w.dimension = 'all'
          AND w.window_start >= spans.since AND w.window_start < spans.until) s
    CROSS JOIN LATERAL (
        SELECT count(*) AS users FROM (
            SELECT DISTINCT h.user_id FROM analytics.users_by_hour h
            WHERE h.hour >= spans.since AND h.hour < spans.until) d) u
    CROSS JOIN LATERAL (VALUES
        (1, 'events', t.events), (2, 'page_views', t.page_views), (3, 'purchases', t.purchases),
        (4, 'sessions_started', s.sessions), (5, 'bounce_rate', s.bounce_rate),
        (6, 'conversion_rate', s.conversion_rate), (7, 'users', u.users)) m (place, metric, value)
    UNION ALL
    SELECT spans.ago, 8, 'revenue ' || r.currency, sum(r.amount)
    FROM spans
    JOIN analytics.revenue_by_window r
      ON r.window_minutes = 60 AND r.window_start >= spans.since AND r.window_start < spans.until
    GROUP BY spans.ago, r.currency
), compared AS (
    SELECT m.place, m.metric, max(m.value) FILTER (WHERE m.ago = 0) AS last_24h,
           max(m.value) FILTER (WHERE m.ago = 1) AS day_before
    FROM metrics m GROUP BY m.place, m.metric
), filled AS (
    SELECT c.place, c.metric, CASE WHEN c.place IN (5, 6) THEN 4 WHEN c.place = 8 THEN 6 ELSE 0 END AS decimals,
           CASE WHEN c.place = 8 THEN coalesce(c.last_24h, 0) ELSE c.last_24h END AS last_24h,
           CASE WHEN c.place = 8 THEN coalesce(c.day_before, 0) ELSE c.day_before END AS day_before
    FROM compared c
)
SELECT f.metric, round(f.last_24h, f.decimals), round(f.day_before, f.decimals),
       round(f.last_24h - f.day_before, f.decimals),
       round(100 * (f.last_24h - f.day_before) / nullif(f.day_before, 0), 2)
FROM filled f ORDER BY f.place, f.metric;
END;
COMMENT ON FUNCTION analytics.compare_day(timestamptz) IS
    'The 24 hours before a moment against the 24 hours before these; the moment is cut to its UTC hour. Rows: metric,'
    ' last_24h, day_before, change (last_24h - day_before) and change_percent (of day_before, null where that is 0).'
    ' The metrics: see the view last_24_hours.';

CREATE VIEW analytics.last_24_hours AS
SELECT u.until, c.metric, c.last_24h, c.day_before, c.change, c.change_percent
FROM (SELECT date_trunc('hour', complete_until, 'UTC') AS until FROM analytics.completeness) u
CROSS JOIN LATERAL analytics.compare_day(u.until) c;
COMMENT ON VIEW analytics.last_24_hours IS
    'The last 24 complete UTC hours against the 24 hours before them. For another moment: compare_day(until).';
COMMENT ON COLUMN analytics.last_24_hours.until IS 'End of the last complete hour, exclusive: where the 24 hours end.';
COMMENT ON COLUMN analytics.last_24_hours.metric IS
    'events, page_views, purchases, sessions_started, users (distinct, exact), bounce_rate and conversion_rate (of the'
    ' sessions started, 0 to 1), and revenue for each currency.';
COMMENT ON COLUMN analytics.last_24_hours.last_24h IS
    'The metric over the 24 hours before until: a count, a rate or units of the currency; null for a rate of nothing.';
COMMENT ON COLUMN analytics.last_24_hours.day_before IS 'The metric over the 24 hours before those, in the same unit.';
COMMENT ON COLUMN analytics.last_24_hours.change IS 'last_24h - day_before, taken before rounding, in the same unit.';
COMMENT ON COLUMN analytics.last_24_hours.change_percent IS
    'change in percent of day_before, rounded to 2 decimals; null where that is 0 or null.';
"""

DOWNGRADE = """
DROP VIEW analytics.last_24_hours;
DROP FUNCTION analytics.compare_day(timestamptz);
DROP VIEW analytics.new_users_by_day, analytics.revenue_by_day, analytics.traffic_by_day, analytics.completeness,
    analytics.pages_by_hour, analytics.conversion_by_window, analytics.engagement_by_window;
ALTER TABLE analytics.users_by_hour
    RESET (autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_insert_threshold);
DROP INDEX analytics.traffic_by_window_by_day;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo."""
    op.execute(DOWNGRADE)
