import type { Random } from '../../simulator/random.ts'
import { type Plan, setHeader } from '../plan.ts'

/** One header more, less, or with another value. */
export function mutateHeaders(plan: Plan, random: Random): void {
  const [name, values] = random.pick(Object.entries(VALUES))
  const value = random.pick([...values, ...ANYTHING])
  const dice = random.next()
  if (dice < 0.15) setHeader(plan, name, undefined)
  else if (dice < 0.35) plan.headers.push([name, value])
  else if (dice < 0.45) plan.headers.unshift([name, value])
  else setHeader(plan, name, value)
  plan.story.push(`${dice < 0.15 ? 'no ' : ''}${name}: ${value.slice(0, 60)}`)
}

const ANYTHING = ['', 'x', '\t', 'a, b', '"', '\u00ff', 'null', '{}', 'x'.repeat(2000)]

/** Names that mean something to somebody on the way, with values that do. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  Accept: [
    '*/*',
    'application/json',
    'text/event-stream',
    'text/event-stream;q=0, application/json',
    'text/html',
  ],
  'Content-Type': [
    'text/plain',
    'application/json; charset=utf-8',
    'application/json; charset=utf-16',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    'Application/JSON',
    'application/json, text/plain',
  ],
  'Mcp-Protocol-Version': [
    '2024-11-05',
    '2025-03-26',
    '2025-06-18',
    '2025-11-25',
    '2026-07-28',
    '2026-07-28 ',
    '9999-12-31',
    '2026-13-99',
    'zzz',
    '2026-07-28, 2025-11-25',
    '~',
  ],
  'Last-Event-ID': [
    '{alice.main.event}',
    '{bob.main.event}',
    '{alice.main.standalone}',
    '{alice.main.event}x',
    '{alice.main.id}',
    '0',
    '-1',
    '_GET_stream',
    '{alice.main.event}, x',
  ],
  'X-HTTP-Method-Override': ['DELETE', 'GET'],
  Connection: [
    'mcp-session-id',
    'authorization',
    'close',
    'keep-alive, mcp-session-id',
    'host',
    'content-type',
    'upgrade',
    'x-api-key',
  ],
  Upgrade: ['websocket', 'h2c', 'HTTP/2.0'],
  Expect: ['100-continue', '200-ok'],
  TE: ['trailers', 'chunked'],
  Trailer: ['mcp-session-id'],
  'Transfer-Encoding': ['chunked', 'gzip, chunked', 'identity', 'chunked, chunked'],
  'Content-Length': ['0', '5', '-1', '1e3', '99999999999', '+5'],
  'Content-MD5': ['x'],
  Digest: ['sha-256=x'],
  Range: ['bytes=0-0'],
  'If-None-Match': ['*'],
  'If-Modified-Since': ['Thu, 01 Jan 2026 00:00:00 GMT'],
  Origin: ['https://evil.example', 'null'],
  'Access-Control-Request-Method': ['DELETE'],
  'X-Forwarded-For': ['127.0.0.1', 'x'.repeat(100)],
  'X-Forwarded-Host': ['evil.example'],
  'X-Original-URL': ['/mcp', '/admin'],
  'X-Forwarded-Prefix': ['/mcp'],
  Forwarded: ['for=1;host=evil'],
  constructor: ['{alice.main.id}'],
  ['__proto__']: ['{alice.main.id}'],
  toString: ['x'],
  get: ['x'],
  has: ['x'],
  'Set-Cookie': ['a=b'],
  'X-Mcp-Persist': ['1'],
  'Mcp-Persist-Session': ['{alice.main.id}'],
  'Mcp-Method': ['tools/list'],
  'Mcp-Name': ['echo'],
}
