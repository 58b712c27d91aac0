/** Longer ones are taken for no token: Node takes 16 KiB of headers by default. */
const MAX_LENGTH = 16 * 1024
const MAX_KNOWN = 500

const known = new Map<string, string | null>()

/**
 * Issuer and subject of the JSON Web Token in an `Authorization` header, or null where there is none. Nothing is verified:
 * the app does that, at every request, and refuses what is forged. Never throws.
 */
export function subjectOf(authorization: string | undefined): string | null {
  if (authorization === undefined || authorization.length > MAX_LENGTH) return null
  const before = known.get(authorization)
  if (before !== undefined) return before
  const subject = parse(authorization)
  // A client says the same token again and again; the oldest goes first.
  if (known.size >= MAX_KNOWN) known.delete(known.keys().next().value!)
  known.set(authorization, subject)
  return subject
}

function parse(authorization: string): string | null {
  const payload = /^(?:Bearer|DPoP) +[\w-]+\.([\w-]+)\.[\w-]*$/i.exec(authorization.trim())?.[1]
  if (payload === undefined) return null
  try {
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown> | null
    const [iss, sub] = [claims?.['iss'], claims?.['sub']]
    if (typeof sub !== 'string' || sub === '') return null
    return JSON.stringify([typeof iss === 'string' ? iss : null, sub])
  } catch {
    return null
  }
}
