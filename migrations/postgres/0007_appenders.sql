-- part: events
-- Releases that do not know this one number events by the log's row alone, and would give numbers out twice: they must
-- not append beside those that do, and the column that they count in has another name.

-- Who appends from memory: each process that does has a row, under an id that nobody had before. A log names the one that
-- may; to take a log over is to delete the row, which waits for the appends that are under way, and there are none from
-- then on. Whoever lost its row takes another. Not logged: after a crash of the server all begin anew.
CREATE UNLOGGED TABLE mcp_appenders (
  appender_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  created_at timestamptz NOT NULL DEFAULT now()
);

-- `base`: no position up to this one is free. Where an appender is named, events may lie beyond.
ALTER TABLE mcp_logs RENAME COLUMN last TO base;

ALTER TABLE mcp_logs ADD COLUMN appender uuid;

-- An event goes with those ahead of it, whatever its own time says: nothing has to be kept for that.
ALTER TABLE mcp_logs DROP COLUMN events_expire_at;

-- What has expired is found log by log, so that no event needs a place in an index of times. `sweep_at`: nothing of the
-- log is due before. All are due at first.
ALTER TABLE mcp_logs ADD COLUMN sweep_at timestamptz NOT NULL DEFAULT '-infinity';

DROP INDEX mcp_logs_expires_at;

CREATE INDEX mcp_logs_sweep_at ON mcp_logs (sweep_at);

DROP INDEX mcp_events_expires_at;

-- Nobody would find the events of logs that are gone.
DELETE FROM mcp_events AS event WHERE NOT EXISTS (SELECT FROM mcp_logs AS log WHERE log.log_id = event.log_id);

-- Who may use the tables that were there may use the new one.
DO $$
DECLARE
  held record;
BEGIN
  FOR held IN
    SELECT privilege_type, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee
    FROM pg_class, aclexplode(relacl)
    WHERE oid = 'mcp_logs'::regclass AND grantee <> relowner
      AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  LOOP
    EXECUTE format('GRANT %s ON mcp_appenders TO %s', held.privilege_type, held.grantee);
  END LOOP;
END
$$;
