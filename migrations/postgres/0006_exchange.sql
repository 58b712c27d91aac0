-- part: sessions

-- What waits to be sent for a task, beside its row: adding to it rewrites neither the row nor the queue.
-- `added` and `taken` give out the numbers, and tell how many wait without counting.
CREATE TABLE mcp_task_queues (
  task_id text COLLATE "C" PRIMARY KEY REFERENCES mcp_tasks (id) ON DELETE CASCADE,
  added bigint NOT NULL DEFAULT 0,
  taken bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

CREATE TABLE mcp_task_messages (
  task_id text COLLATE "C" NOT NULL REFERENCES mcp_task_queues (task_id) ON DELETE CASCADE,
  number bigint NOT NULL,
  text text NOT NULL,
  PRIMARY KEY (task_id, number)
);

-- Messages between nodes that are too large for a notification: fetched, and deleted, as soon as it is heard. They
-- need not outlive the server, and so are not logged.
CREATE UNLOGGED TABLE mcp_parcels (
  parcel_id uuid PRIMARY KEY,
  body bytea NOT NULL,
  expires_at timestamptz NOT NULL
);

-- They are encrypted: compressing them would be in vain.
ALTER TABLE mcp_parcels ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE INDEX mcp_parcels_expires_at ON mcp_parcels (expires_at);

-- A row for each time that a stream was opened which has not ended: trimming and expiry of events do not reach it, and
-- who takes a session over finds it without reading the log. It goes with its log; rows of a log that had the session's
-- name before, told by their log_id, are out of sight at once and go with the next.
CREATE TABLE mcp_open_streams (
  session_id text COLLATE "C" NOT NULL,
  stream_id text COLLATE "C" NOT NULL,
  log_id bigint NOT NULL,
  position bigint NOT NULL,
  runs bigint NOT NULL DEFAULT 1,
  payload text NOT NULL,
  PRIMARY KEY (session_id, stream_id, log_id, position)
);

INSERT INTO mcp_open_streams (session_id, stream_id, log_id, position, payload)
SELECT log.session_id, event.stream_id, event.log_id, event.position, event.payload
FROM mcp_events AS event JOIN mcp_logs AS log USING (log_id)
WHERE event.kind = 0 AND log.expires_at > now() AND NOT EXISTS (
  SELECT 1 FROM mcp_events AS later
  WHERE later.log_id = event.log_id AND later.stream_id = event.stream_id
    AND later.position > event.position AND later.kind IN (2, 3)
);

-- Who may use the tables that were there may use the new ones.
DO $$
DECLARE
  held record;
BEGIN
  FOR held IN
    SELECT privilege_type, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee
    FROM pg_class, aclexplode(relacl)
    WHERE oid = 'mcp_sessions'::regclass AND grantee <> relowner
      AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  LOOP
    EXECUTE format('GRANT %s ON mcp_task_queues, mcp_task_messages, mcp_parcels, mcp_open_streams TO %s',
      held.privilege_type, held.grantee);
  END LOOP;
END
$$;

-- Last, as these lock tables that are in use, in the order in which whoever empties a mailbox locks the two.
--
-- There are no mailboxes any more: what nodes say to each other is pushed, or lies in mcp_parcels. Letters that are left
-- concern nobody: only nodes of the release before read them, and those do not go on beside this migration.
DROP TABLE mcp_letters;

ALTER TABLE mcp_nodes ADD COLUMN profile text NOT NULL DEFAULT '';
