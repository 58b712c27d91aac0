-- part: events

-- How many events of the log there are at the most: raised by each append, and put right when the log is looked
-- through for what to trim. Positions have holes, so that their difference says nothing. NULL: nobody has counted, and
-- `last - floor` stands for it.
ALTER TABLE mcp_logs ADD COLUMN kept bigint;
