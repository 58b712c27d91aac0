-- part: sessions

-- How many sessions a principal has is counted when it opens another one. A hash index: a principal may be longer than an
-- ordered one takes.
CREATE INDEX mcp_sessions_principal ON mcp_sessions USING hash (principal) WHERE principal IS NOT NULL;
