-- part: events
--
-- The log of each session. Times are milliseconds since the Unix epoch.
--
--   mcp_logs     one row per log: the counter, the fence, the expiry
--   mcp_events   the events; they go with their log

CREATE TABLE mcp_logs (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  -- NULL: the log was deleted, and its events wait for the sweep. So deleting takes one step, however long the log is.
  session_id TEXT UNIQUE,
  -- Tells this log from one that had the session's name before.
  epoch      TEXT NOT NULL,
  -- The highest position among the events that were removed. Those that are there may be higher: appending an event
  -- changes nothing in this table, which makes it twice as fast.
  floor      INTEGER NOT NULL DEFAULT 0,
  -- Of the session's lease; 0: the log has no session record.
  generation INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  -- Nothing in this log expires before.
  sweep_at   INTEGER NOT NULL
);

CREATE INDEX mcp_logs_sweep_at ON mcp_logs (sweep_at);

-- Rows lie in the order in which they came, so that a batch of many sessions fills a few pages and not one each.
CREATE TABLE mcp_events (
  log_id     INTEGER NOT NULL,
  stream_id  TEXT NOT NULL,
  position   INTEGER NOT NULL,
  kind       TEXT NOT NULL,
  payload    TEXT NOT NULL,
  expires_at INTEGER NOT NULL
);

-- Replay of one stream.
CREATE INDEX mcp_events_stream ON mcp_events (log_id, stream_id, position);

-- Trimming and the sweep: the oldest events of a session go first, whatever their stream.
CREATE UNIQUE INDEX mcp_events_position ON mcp_events (log_id, position);
