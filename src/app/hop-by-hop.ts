/** Headers that speak of one connection, and end with it (RFC 9110, section 7.6.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** What `Connection` cannot take away: without these, the request would be another one. */
const KEPT = /^(?:accept|authorization|content-type|cookie|host|last-event-id|mcp-.*|origin)$/

/** Tells which headers (lower-case names) end at this hop, given the message's own `Connection`. */
export function hopByHop(connection: string | undefined): (name: string) => boolean {
  if (connection !== last.connection) last = { connection, ends: endsBy(connection) }
  return last.ends
}

/** Nearly all messages have the same `Connection`, and this is asked for each. */
let last = { connection: undefined as string | undefined, ends: endsBy(undefined) }

function endsBy(connection: string | undefined): (name: string) => boolean {
  const named = connection?.toLowerCase().split(/[\s,]+/)
  return (name) =>
    HOP_BY_HOP.has(name) ||
    name.startsWith('proxy-') ||
    name.startsWith(':') ||
    (named?.includes(name) === true && !KEPT.test(name))
}
