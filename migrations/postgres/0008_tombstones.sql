-- part: sessions

-- Of a tombstone: the log that the session had. An append that was under way when it ended may have left an event there.
ALTER TABLE mcp_sessions ADD COLUMN log_id bigint;
