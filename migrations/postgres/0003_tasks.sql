-- part: sessions

-- The tasks of the v1 SDK. `version` is raised by each change, and who would write names the version that was read.
-- `session_id` is null where a task was made without one; `value` is JSON: the task, its result, and what waits to be sent.
CREATE TABLE mcp_tasks (
  id text COLLATE "C" PRIMARY KEY,
  session_id text COLLATE "C",
  version bigint NOT NULL DEFAULT 1,
  value text NOT NULL,
  expires_at timestamptz NOT NULL
);

CREATE INDEX mcp_tasks_session_id ON mcp_tasks (session_id, id);

CREATE INDEX mcp_tasks_expires_at ON mcp_tasks (expires_at);
