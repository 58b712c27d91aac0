-- part: sessions
--
-- What nodes say to each other goes over a unix socket between them. Where there is none, the file carries it.

-- JSON: what a node says of itself.
ALTER TABLE mcp_nodes ADD COLUMN profile TEXT NOT NULL DEFAULT '';

-- The path of the node's socket; NULL: it has none.
ALTER TABLE mcp_nodes ADD COLUMN socket TEXT;

-- Each belongs to the wake-up that has its id, and goes with it some seconds later.
CREATE TABLE mcp_parcels (
  id   INTEGER PRIMARY KEY,
  body BLOB NOT NULL
);
