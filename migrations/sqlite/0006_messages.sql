-- part: sessions
--
-- Messages. What nodes say to each other goes over a unix socket between them; where there is none, the file carries
-- it. What a task has to say to its client waits beside the task, whose row it need not rewrite.

-- So there are no mailboxes any more. Letters that are left concern nobody: only nodes of the release before read them,
-- and those do not go on beside this migration.
DROP TABLE mcp_letters;
ALTER TABLE mcp_nodes DROP COLUMN letters;

-- JSON: what a node says of itself.
ALTER TABLE mcp_nodes ADD COLUMN profile TEXT NOT NULL DEFAULT '';

-- The path of the node's socket; NULL: it has none.
ALTER TABLE mcp_nodes ADD COLUMN socket TEXT;

-- Each belongs to the wake-up that has its id, and goes with it some seconds later.
CREATE TABLE mcp_parcels (
  id   INTEGER PRIMARY KEY,
  body BLOB NOT NULL
);

-- The numbers of a task's messages have no holes: they come at the end and go from the front.
CREATE TABLE mcp_task_messages (
  task_id TEXT NOT NULL,
  number  INTEGER NOT NULL,
  text    TEXT NOT NULL,
  PRIMARY KEY (task_id, number)
);
