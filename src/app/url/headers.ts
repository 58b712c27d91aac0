import type { OutgoingHttpHeaders } from 'node:http'
import type { HeaderPairs, Remote } from '../app.ts'
import { hopByHop } from '../hop-by-hop.ts'

/** Lower-case names; what stands more than once is a list. */
export type Headers = Record<string, string | string[]>

/** What of a message goes on, from its header lines as they came (name, value, name, value …). */
export function endToEnd(lines: readonly string[]): HeaderPairs {
  const pairs: [string, string][] = []
  for (let i = 0; i + 1 < lines.length; i += 2) pairs.push([lines[i]!.toLowerCase(), lines[i + 1]!])
  const connection = pairs.filter(([name]) => name === 'connection').map(([, value]) => value)
  const ends = hopByHop(connection.join(','))
  return pairs.filter(([name]) => !ends(name))
}

export function collect(pairs: HeaderPairs): Headers {
  const headers: Headers = Object.create(null)
  for (const [name, value] of pairs) {
    const former = headers[name]
    headers[name] = former === undefined ? value : [former, value].flat()
  }
  return headers
}

/** A body's length is for whoever sends it to say; and the client has been told to go on already. */
const OF_THE_SENDER = ['content-length', 'expect']

/**
 * A request's headers for the server behind us. It gets its own name as `Host`, and the name the client used as
 * `X-Forwarded-Host`: that one we have seen ourselves, so no claim stands against it. To `X-Forwarded-For` the
 * address we have seen is appended; whatever stands before it is somebody's word. `X-Forwarded-Proto` is kept, because only
 * the outermost proxy knows.
 */
export function forward(given: Headers, client: Remote | undefined): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = { ...given }
  for (const name of OF_THE_SENDER) delete headers[name]
  delete headers['host']
  const host = [given['host'] ?? []].flat()[0]
  if (host) headers['x-forwarded-host'] = host
  else delete headers['x-forwarded-host']
  const claimed = [given['x-forwarded-for'] ?? []].flat()
  const address = client?.address?.replace(/^::ffff:(?=[\d.]+$)/, '')
  const path = address === undefined ? claimed : [...claimed, address]
  if (path.length > 0) headers['x-forwarded-for'] = path.join(', ')
  if (client?.encrypted !== undefined) headers['x-forwarded-proto'] ??= client.encrypted ? 'https' : 'http'
  return headers
}
