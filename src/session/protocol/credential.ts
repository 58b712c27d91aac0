import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { AppRequest } from '../../app/app.ts'
import type { CredentialDigest } from '../../store/port.ts'

/**
 * What a caller proves itself with, as far as headers tell; undefined: nothing. Cookies count where there is nothing
 * else: load balancers set some of their own, which change.
 */
export function credentialOf({ headers }: AppRequest): string | undefined {
  const { authorization, 'x-api-key': key, cookie } = headers
  if (authorization !== undefined || key !== undefined) return `${authorization ?? ''}\n${key ?? ''}`
  return cookie === undefined ? undefined : `\n\n${cookie}`
}

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
