import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { AppRequest } from '../../app/app.ts'
import type { CredentialDigest } from '../../store/port.ts'

/** How headers, and parameters of a query, are called that prove something. */
const PROOF = /(?:auth|authorization|(?:api|access|subscription)[-_]?key|token|secret|^key)$/i
/** Tokens against forged forms prove nothing, and change. */
const OF_A_FORM = /[cx]srf/i

/**
 * What a caller proves itself with, as far as names tell; undefined: nothing. Cookies count where there is nothing
 * else: load balancers set some of their own, which change.
 */
export function credentialOf({ headers, url }: AppRequest): string | undefined {
  const { authorization, 'x-api-key': key, cookie } = headers
  const more: string[] = []
  const add = (name: string, value: string) => {
    if (PROOF.test(name) && !OF_A_FORM.test(name)) more.push(`${name}: ${value}`)
  }
  // This is done for each request.
  for (const name in headers) if (!OWN_PLACE.has(name)) add(name, headers[name]!)
  if (url.includes('?')) {
    for (const [name, value] of new URLSearchParams(url.slice(url.indexOf('?')))) add(name, value)
  }
  if (authorization !== undefined || key !== undefined || more.length > 0)
    return [authorization ?? '', key ?? '', ...more.sort()].join('\n')
  return cookie === undefined ? undefined : `\n\n${cookie}`
}

/** The last is what the caller proves to a proxy on the way (RFC 9110, section 11.7), and not to the app. */
const OWN_PLACE = new Set(['authorization', 'x-api-key', 'proxy-authorization'])

/** So that a record can tell a credential again, and nobody can read it off the record. */
export function digestOf(credential: string): CredentialDigest {
  const key = randomBytes(16).toString('base64url')
  return { key, digest: keyed(key, credential).toString('base64url') }
}

export function matches({ key, digest }: CredentialDigest, credential: string | undefined): boolean {
  if (credential === undefined) return false
  const [stored, given] = [Buffer.from(digest, 'base64url'), keyed(key, credential)]
  return stored.length === given.length && timingSafeEqual(stored, given)
}

function keyed(key: string, credential: string): Buffer {
  return createHmac('sha256', Buffer.from(key, 'base64url')).update(credential).digest()
}
