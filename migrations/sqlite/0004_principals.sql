-- part: sessions
--
-- How many sessions a principal has is counted when it opens another one.

CREATE INDEX mcp_sessions_principal ON mcp_sessions (principal) WHERE principal IS NOT NULL;
