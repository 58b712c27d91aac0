-- part: events
--
-- What a claim needs to know of a log without reading it: positions go on beyond any that may have been lost, and the
-- streams that are open stand beside the events, where neither a limit nor the time to live of events reaches them.

-- Every position given out is beyond this one. The highest event's position alone would be a counter that comes back
-- when the file does.
ALTER TABLE mcp_logs ADD COLUMN base INTEGER NOT NULL DEFAULT 0;

-- Before this position the log need not be counted for events beyond its limit. Positions have holes, so that the
-- difference of two says nothing about the number of events between them.
ALTER TABLE mcp_logs ADD COLUMN trim_at INTEGER NOT NULL DEFAULT 0;

CREATE TABLE mcp_open_streams (
  log_id    INTEGER NOT NULL,
  stream_id TEXT NOT NULL,
  -- Of its first `open`.
  position  INTEGER NOT NULL,
  -- Of its latest `open`.
  payload   TEXT NOT NULL,
  -- How many times it was opened.
  runs      INTEGER NOT NULL,
  PRIMARY KEY (log_id, stream_id)
);

-- What is open in the logs that are there already.
INSERT INTO mcp_open_streams (log_id, stream_id, position, payload, runs)
SELECT log_id, stream_id, min(position), '', count(*) FROM mcp_events AS opened
WHERE kind = 'open' AND NOT EXISTS (
  SELECT 1 FROM mcp_events AS ended WHERE ended.log_id = opened.log_id AND ended.stream_id = opened.stream_id
    AND ended.position > opened.position AND ended.kind IN ('final', 'end'))
GROUP BY log_id, stream_id;

UPDATE mcp_open_streams SET payload = (
  SELECT payload FROM mcp_events AS event WHERE event.log_id = mcp_open_streams.log_id
    AND event.stream_id = mcp_open_streams.stream_id AND kind = 'open' ORDER BY event.position DESC LIMIT 1);
