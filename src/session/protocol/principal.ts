import type { AppRequest } from '../../app/app.ts'
import { PersistError } from '../../errors.ts'
import type { AuthInfo, PrincipalRequest, Settings } from '../../options.ts'
import type { PrincipalSource } from '../../store/port.ts'
import { subjectOf } from './bearer-token.ts'

/** Who asks, by each source that can be seen before the app is asked; null: nobody says. JSON, for messages carry it. */
export interface Principals {
  /** Undefined: there is no such option. */
  readonly option?: string | null
  /** The SDK's `AuthInfo`, left by a middleware in front of the handler. */
  readonly authInfo: string | null
  /** Issuer and subject of a bearer token, unverified: the app verifies every request. */
  readonly jwt: string | null
}

export interface SeenPrincipal {
  readonly principal: string
  readonly source: PrincipalSource
}

/** Rejects with `INVALID_ARGUMENT` when the option `principal` returns neither a string nor null. */
export async function principalsOf(request: AppRequest, settings: Settings): Promise<Principals> {
  const seen = {
    authInfo: fromAuthInfo(request.authInfo),
    jwt: subjectOf(request.headers['authorization']),
  }
  if (!settings.principal) return seen
  const option: unknown = await settings.principal(viewOf(request))
  if (option !== null && typeof option !== 'string') {
    const way = 'let it return a string, or null for nobody'
    throw new PersistError('INVALID_ARGUMENT', `The option "principal" returned ${typeof option}; ${way}.`)
  }
  return { ...seen, option }
}

/**
 * The best of what is known of somebody whom the app has accepted, and where it was seen; `inApp`: what the app's own
 * middleware left on the request. An `AuthInfo` without a subject names a client program, which many users may share: a
 * token that names its subject is better.
 */
export function bestPrincipal(seen: Principals, inApp: unknown): SeenPrincipal | undefined {
  if (seen.option !== undefined) return named(seen.option, 'option')
  const infos = [named(seen.authInfo, 'authInfo'), named(fromAuthInfo(inApp), 'app')]
  const users = infos.filter((each) => each && namesUser(each.principal))
  return users[0] ?? named(seen.jwt, 'jwt') ?? infos[0] ?? infos[1]
}

/**
 * Is a session of theirs? Compared by the source that its principal came from and by no other, for the same user has
 * different names in different sources. What was seen inside the app is for the app to say, and records of 0.1.0
 * have no source: the option's, else that of `AuthInfo`.
 */
export function isTheirs(
  principal: string,
  source: PrincipalSource | undefined,
  seen: Principals,
): boolean | 'ask' {
  switch (source) {
    case 'app':
      return 'ask'
    case undefined:
      return (seen.option === undefined ? seen.authInfo : seen.option) === principal
    default:
      return seen[source] === principal
  }
}

/**
 * Issuer, client and subject of the SDK's `AuthInfo`. Never the token itself, nor a hash of it: tokens are refreshed
 * while the session goes on.
 */
export function fromAuthInfo(authInfo: unknown): string | null {
  if (typeof authInfo !== 'object' || authInfo === null) return null
  const { clientId, extra } = authInfo as { clientId?: unknown; extra?: Record<string, unknown> | null }
  const parts = [extra?.['iss'], clientId, extra?.['sub'] ?? extra?.['userId']]
  return parts.every((part) => part === undefined) ? null : JSON.stringify(parts.map((part) => part ?? null))
}

function namesUser(principal: string): boolean {
  return (JSON.parse(principal) as unknown[])[2] !== null
}

function named(principal: string | null, source: PrincipalSource): SeenPrincipal | undefined {
  return principal === null ? undefined : { principal, source }
}

/** What `principal` and `authorise` see of a request. */
export function viewOf({ method, url, headers, authInfo }: AppRequest): PrincipalRequest {
  const view = new Headers(Object.entries(headers))
  for (const name of Object.keys(headers)) {
    // A header may be called `get` or `constructor`: it is to be had by the methods that it must not replace.
    if (!(name in view)) Object.defineProperty(view, name, { value: headers[name], enumerable: true })
  }
  return {
    method,
    url,
    headers: view as PrincipalRequest['headers'],
    ...(authInfo !== undefined && { authInfo: authInfo as AuthInfo }),
  }
}
