-- part: sessions
--
-- The tasks of the v1 SDK. Times are milliseconds since the Unix epoch.

CREATE TABLE mcp_tasks (
  id         TEXT PRIMARY KEY,
  -- NULL: made without a session.
  session_id TEXT,
  -- Raised by each change: who would write names the version that was read.
  version    INTEGER NOT NULL DEFAULT 1,
  -- JSON: the task, its result, and what waits to be sent.
  value      TEXT NOT NULL,
  expires_at INTEGER NOT NULL
);

CREATE INDEX mcp_tasks_session_id ON mcp_tasks (session_id, id);

CREATE INDEX mcp_tasks_expires_at ON mcp_tasks (expires_at);
