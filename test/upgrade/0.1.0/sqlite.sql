CREATE TABLE mcp_migrations (
  name       TEXT PRIMARY KEY,
  checksum   TEXT NOT NULL,
  applied_at INTEGER NOT NULL
) WITHOUT ROWID;
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
CREATE TABLE mcp_events (
  log_id     INTEGER NOT NULL,
  stream_id  TEXT NOT NULL,
  position   INTEGER NOT NULL,
  kind       TEXT NOT NULL,
  payload    TEXT NOT NULL,
  expires_at INTEGER NOT NULL
);
CREATE INDEX mcp_events_stream ON mcp_events (log_id, stream_id, position);
CREATE UNIQUE INDEX mcp_events_position ON mcp_events (log_id, position);
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
CREATE TABLE mcp_wakeups (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  channel    TEXT NOT NULL,
  -- NULL: look at everything.
  text       TEXT,
  created_at INTEGER NOT NULL
);
INSERT INTO mcp_migrations (name, checksum, applied_at) VALUES ('0001_events', '845a16f9c68823644b9a478eb9b54a03749d9bb6c918b640f976d691dd0dc54b', 1795363116856);
INSERT INTO mcp_migrations (name, checksum, applied_at) VALUES ('0002_sessions', 'f912ac20ee967483ec818a9f8393913fdd8cc7b68292cc3f6ebf106e8fcfe548', 1795363116857);
INSERT INTO mcp_logs (id, session_id, epoch, floor, generation, expires_at, sweep_at) VALUES (1, 'fced2593-8ecd-4065-9f7a-13fd86046741', '3f9e34f2', 0, 1, 2142259116889, 2110723116873);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'oyHSawuFcIzr', 1, 'open', '{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"warning"}}', 2110723116889);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'oyHSawuFcIzr', 2, 'final', '{"result":{},"jsonrpc":"2.0","id":2}', 2110723116889);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, '618KkRqukYxi', 3, 'open', '{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"test://greeting"}}', 2110723116899);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, '618KkRqukYxi', 4, 'final', '{"result":{},"jsonrpc":"2.0","id":3}', 2110723116899);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'tVYBW9S3VFlP', 5, 'open', '{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"burst","arguments":{"tag":"recorded","count":5,"via":"call"}}}', 2110723116913);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'tVYBW9S3VFlP', 6, 'message', '{"method":"notifications/message","params":{"level":"error","data":"recorded:1"},"jsonrpc":"2.0"}', 2110723116913);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'tVYBW9S3VFlP', 7, 'message', '{"method":"notifications/message","params":{"level":"error","data":"recorded:2"},"jsonrpc":"2.0"}', 2110723116913);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'tVYBW9S3VFlP', 8, 'message', '{"method":"notifications/message","params":{"level":"error","data":"recorded:3"},"jsonrpc":"2.0"}', 2110723116913);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'tVYBW9S3VFlP', 9, 'message', '{"method":"notifications/message","params":{"level":"error","data":"recorded:4"},"jsonrpc":"2.0"}', 2110723116913);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'tVYBW9S3VFlP', 10, 'message', '{"method":"notifications/message","params":{"level":"error","data":"recorded:5"},"jsonrpc":"2.0"}', 2110723116913);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'tVYBW9S3VFlP', 11, 'final', '{"result":{"content":[{"type":"text","text":"recorded sent 5"}]},"jsonrpc":"2.0","id":4}', 2110723116913);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'eHfBA9XTybsw', 12, 'open', '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"later","arguments":{"tag":"standalone","count":3}}}', 2110723116922);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, 'eHfBA9XTybsw', 13, 'final', '{"result":{"content":[{"type":"text","text":"standalone will send 3"}]},"jsonrpc":"2.0","id":5}', 2110723116922);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, '_GET_stream', 14, 'message', '{"method":"notifications/message","params":{"level":"error","data":"standalone:1"},"jsonrpc":"2.0"}', 2110723116931);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, '_GET_stream', 15, 'message', '{"method":"notifications/message","params":{"level":"error","data":"standalone:2"},"jsonrpc":"2.0"}', 2110723116942);
INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (1, '_GET_stream', 16, 'message', '{"method":"notifications/message","params":{"level":"error","data":"standalone:3"},"jsonrpc":"2.0"}', 2110723116952);
INSERT INTO mcp_sessions (id, principal, state, owner, delivered, created_at, last_used_at, ttl, log_id, terminated_until, sweep_at) VALUES ('fced2593-8ecd-4065-9f7a-13fd86046741', NULL, '{"initialize":"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"sampling\":{},\"elicitation\":{},\"roots\":{}},\"clientInfo\":{\"name\":\"raw-client\",\"version\":\"1.0.0\"}}}","initialized":true,"protocolVersion":"2025-11-25","logLevel":"warning","subscriptions":["test://greeting"]}', NULL, 16, 1795363116873, 1795363116952, 315360000000, 1, NULL, 2110723116873);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence (name, seq) VALUES ('mcp_logs', 1);
