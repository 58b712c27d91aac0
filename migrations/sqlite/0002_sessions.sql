-- part: sessions
--
-- What nodes share beyond the events. Times are milliseconds since the Unix epoch.
--
--   mcp_sessions   session records and tombstones; generation and expiry stand in the session's log
--   mcp_nodes      who is there, and until when
--   mcp_letters    mailboxes
--   mcp_wakeups    published texts, kept for a few seconds

CREATE TABLE mcp_sessions (
  id               TEXT PRIMARY KEY,
  principal        TEXT,
  -- JSON
  state            TEXT NOT NULL,
  owner            TEXT,
  delivered        INTEGER NOT NULL DEFAULT 0,
  created_at       INTEGER NOT NULL,
  last_used_at     INTEGER NOT NULL,
  ttl              INTEGER NOT NULL,
  -- The session lives as long as this log.
  log_id           INTEGER NOT NULL,
  -- NULL: not terminated. Until then the id is refused.
  terminated_until INTEGER,
  -- The row is not dead before.
  sweep_at         INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX mcp_sessions_sweep_at ON mcp_sessions (sweep_at);

CREATE TABLE mcp_nodes (
  id          TEXT PRIMARY KEY,
  public_key  TEXT NOT NULL,
  lease_until INTEGER NOT NULL,
  -- The file beside the database that the node's process holds locked while it lives; NULL: it has none.
  lock_file   TEXT,
  -- In its mailbox: counted here, because counting the rows at each letter would cost more than the letter.
  letters     INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE mcp_letters (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  node_id TEXT NOT NULL,
  letter  BLOB NOT NULL
);

CREATE INDEX mcp_letters_node_id ON mcp_letters (node_id, id);

-- SQLite has one writer at a time, so ids become visible in order and a reader's highest id is a safe cursor.
CREATE TABLE mcp_wakeups (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  channel    TEXT NOT NULL,
  -- NULL: look at everything.
  text       TEXT,
  created_at INTEGER NOT NULL
);
