/** One way to write a request down, whatever protocol and framework it came by. */
export interface RequestShape {
  /** Path and query as they were sent, without the origin of an absolute form: what the app gets. */
  readonly url: string
  /** The path in its normal form: for comparing, and for nothing else. */
  readonly path: string
}

/** Why a request cannot be served by anybody here; a sentence for its sender. */
export interface Malformed {
  readonly malformed: string
}

const ABSOLUTE = /^https?:\/\/([^/?#\\]*)/i
const HOST = /^[\w.:[\]-]+$/

/**
 * The shape of a request by its target and its Host, or why it has none. A target names a path here, or, in its absolute
 * form, an origin too; where it would lead elsewhere (`//host/path`), or nowhere (`*`), everybody behind us might take it for something else.
 */
export function shapeOf(target: string, host: string | undefined): RequestShape | Malformed {
  if (host !== undefined && !isHost(host)) return { malformed: 'The Host header is not a host.' }
  let url = target
  const [origin, authority] = ABSOLUTE.exec(target) ?? []
  if (origin !== undefined) {
    if (!authority || !isHost(authority)) return { malformed: 'The request target names no host.' }
    const rest = target.slice(origin.length)
    url = rest.startsWith('/') ? rest : `/${rest}`
  }
  if (!/^\/(?![/\\])/.test(url))
    return { malformed: 'The request target must be a path that starts with one slash.' }
  return { url, path: normalPath(url) }
}

/** The last one that was found to be a host: most requests have the same. */
let known = ''

/** Absent (HTTP/1.0) and empty are legal; everything else must be what a URL can hold. */
function isHost(host: string): boolean {
  if (host === known || host === '') return true
  if (!HOST.test(host) || !URL.canParse(`http://${host}/`)) return false
  known = host
  return true
}

// Somebody in front of an app may decode, and the app again. More often than this nobody does.
const MAX_DECODINGS = 4

/**
 * A path as the most generous of routers would read it: no query, no `;parameters`, decoded, one kind of slash and one at a
 * time, dot segments resolved, in lower case, without a slash at its end. Two paths that any framework takes for the same are the same
 * here; two that are the same here may be different to an app, which still gets the path as it was sent.
 */
export function normalPath(url: string): string {
  let path = url.replace(/[?#].*$/s, '')
  if (/^(?:\/[a-z0-9_-]+)+$/.test(path)) return path
  for (let i = 0; i < MAX_DECODINGS && path.includes('%'); i += 1) path = decoded(path)
  const segments: string[] = []
  // Query and fragment again: they may have been hidden in the encoding.
  for (const each of path.replace(/[?#].*$/s, '').split(/[/\\]/)) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a URL parser drops them, and so must we.
    const segment = each.replace(/;.*$/s, '').replace(/[\x00-\x20\x7f]/g, '')
    if (segment === '..') segments.pop()
    else if (segment !== '' && segment !== '.') segments.push(segment)
  }
  return `/${segments.join('/')}`.toLowerCase()
}

/** Each run of escapes for itself: one that is not UTF-8 does not save the others. */
function decoded(path: string): string {
  return path.replace(/(?:%[0-9a-f]{2})+/gi, (run) => {
    try {
      return decodeURIComponent(run)
    } catch {
      return Buffer.from(run.replaceAll('%', ''), 'hex').toString('latin1')
    }
  })
}
