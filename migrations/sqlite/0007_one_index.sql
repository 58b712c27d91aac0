-- part: events
-- compatible: 0006
--
-- One index instead of two: each event wrote to a page of both, and those pages are most of what an append writes. Events of
-- one stream are found among those of the session without looking at any other row.

CREATE UNIQUE INDEX mcp_events_log ON mcp_events (log_id, position, stream_id);

DROP INDEX mcp_events_stream;
DROP INDEX mcp_events_position;
