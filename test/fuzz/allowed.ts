import { headerOf, namedIn, type Plan, setHeader } from './plan.ts'
import type { Outcome } from './wire.ts'

type Both = { readonly unwrapped: Outcome; readonly wrapped: Outcome }

/** A difference that is meant, and why. */
export interface Allowed {
  readonly why: string
  when(plan: Plan, both: Both): boolean
}

/** Where the wrapped app says no and the other one does not, and where a no means nothing. */
export const ALLOWED: readonly Allowed[] = [
  {
    why: 'a request that carries the id of a session is served at the endpoint, and at no other route',
    when: ({ target }, { wrapped }) => wrapped.status === 404 && !/^\/mcp/i.test(resolved(pathOf(target))),
  },
  {
    why: 'a target or a Host that leads elsewhere, or nowhere, is refused before anybody reads it',
    when: (_, { wrapped }) =>
      wrapped.status === 400 && /Bad Request: The (?:request target|Host header)/.test(wrapped.body),
  },
  {
    why: 'Last-Event-ID is not ignored: one that is none of this session is refused',
    when: (plan, { wrapped }) =>
      wrapped.status === 400 &&
      wrapped.body.includes('Invalid event ID') &&
      headerOf(plan, 'last-event-id') !== undefined,
  },
  {
    why: 'an encoding that nobody here can read is refused, and not ignored',
    when: (plan, { wrapped }) =>
      /Content-Encoding/.test(wrapped.body) && headerOf(plan, 'content-encoding') !== undefined,
  },
  {
    why: 'a body that is not UTF-8, or says so, is refused: somebody might read something else in it than we',
    when: (_, { wrapped }) => wrapped.status === 415 && wrapped.body.includes('must be UTF-8'),
  },
  {
    why: 'a message that could not be written again, for its depth, is refused',
    when: (_, { wrapped }) => wrapped.status === 400 && wrapped.body.includes('nested'),
  },
  {
    why: 'a header that Connection names is for the server that hears it, and ends there',
    when: (plan, { wrapped }) =>
      wrapped.status === 401 && /auth|key|cookie/i.test(headerOf(plan, 'connection') ?? ''),
  },
  {
    why: 'a body without a byte is none, however it was framed',
    when: ({ method, body }, { unwrapped }) => method !== 'POST' && body === '' && unwrapped.status === 415,
  },
  {
    why: 'a media type has no case (RFC 9110, section 8.3.1)',
    when: (plan, { unwrapped }) =>
      unwrapped.status === 415 && headerOf(plan, 'content-type')?.toLowerCase() === 'application/json',
  },
  {
    why: 'a body that is larger than any that is read is refused, also where nobody would have asked for it',
    when: ({ method }, { wrapped }) => method !== 'POST' && wrapped.status === 413,
  },
  {
    why: 'bytes behind a request that are none: whether it is answered before they are read is chance',
    when: ({ framing }, { wrapped }) =>
      ['too short', 'none', 'twice'].includes(framing) && wrapped.status === 400 && wrapped.body === '',
  },
  {
    why: 'a body that was announced and does not come is waited for, whoever would have asked for it',
    when: ({ headers, framing }, { wrapped }) =>
      wrapped.end === 'silent' &&
      (framing === 'none' || headers.some(([name]) => /^(?:transfer-encoding|content-length)$/i.test(name))),
  },
  {
    why: 'a batch that names one id twice is refused',
    when: ({ body = '' }, { wrapped }) => {
      const ids = [...body.matchAll(/"id":([^,}]+)/g)].map(([, id]) => id)
      return wrapped.status === 400 && body.startsWith('[') && new Set(ids).size < ids.length
    },
  },
  {
    why: 'the same request sent twice at once: which of the two is refused for the other’s id is chance',
    when: ({ framing }, { wrapped }) =>
      framing === 'twice' &&
      wrapped.status === 400 &&
      wrapped.body.includes('a request with this id is running'),
  },
  {
    why: 'a header that stands twice is one with a comma to a server elsewhere, whatever that would make of two',
    when: ({ headers }, { wrapped }) => {
      const names = headers.map(([name]) => name.toLowerCase())
      return wrapped.status >= 400 && new Set(names).size < names.length
    },
  },
  {
    why: 'what stands in the body of a GET is nobody’s',
    when: ({ method, body }, { unwrapped }) =>
      /^(?:GET|HEAD)$/.test(method) && body !== undefined && [400, 413, 415].includes(unwrapped.status),
  },
  {
    why: 'an answer to an instance that is gone is accepted like any other, and dropped',
    when: (plan, { wrapped }) =>
      wrapped.status === 202 &&
      /"result"|"error"/.test(plan.body ?? '') &&
      [...namedIn(plan)].some((name) => name.endsWith('.main')),
  },
]

const ABSOLUTE = /^https?:\/\/[^/?#\\]*/i

function pathOf(target: string): string {
  return target.replace(ABSOLUTE, '')
}

/** Without dot segments, as apps of the web see it: `/mcp/../rpc` is another route. */
function resolved(path: string): string {
  const url = `http://localhost${path}`
  return URL.canParse(url) ? new URL(url).pathname : path
}

/**
 * The same request as the wrapped app means it: the path of an absolute target, a body that is not encoded any more, a host
 * where HTTP/1.0 has none, no session where the revision has none. An app that does not understand the one or the other must be
 * asked what it says to this; undefined: it is the same.
 */
export function asMeant(plan: Plan): Plan | undefined {
  const absolute = ABSOLUTE.test(plan.target)
  const encoded = headerOf(plan, 'content-encoding') !== undefined
  const sessionless = /^2026-07-28|9999-12-31$/.test(headerOf(plan, 'mcp-protocol-version') ?? '')
  const hostless = !headerOf(plan, 'host')
  if (!absolute && !encoded && !sessionless && !hostless) return undefined
  const meant = { ...plan, target: pathOf(plan.target) }
  if (!meant.target.startsWith('/')) meant.target = `/${meant.target}`
  if (hostless) setHeader(meant, 'Host', 'localhost')
  if (sessionless) setHeader(meant, 'Mcp-Session-Id', undefined)
  if (!encoded) return meant
  meant.coding = plan.coding.filter((code) => !plan.encodings.includes(code))
  setHeader(meant, 'Content-Encoding', undefined)
  return meant
}
