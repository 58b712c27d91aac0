/**
 * `authInfo` as it is after a message between nodes, so that an app finds the same shape whichever node its client came to:
 * plain JSON, but for `resource`, which the SDK's `AuthInfo` has as a URL. Functions are left out, and so is what has no
 * JSON at all.
 */
export function portableAuthInfo(authInfo: unknown): unknown {
  if (authInfo === undefined) return undefined
  return withResource(toJson(authInfo))
}

function toJson(value: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(value) ?? 'null')
  } catch {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
    // A circle or a bigint in one property does not cost the others.
    const entries = Object.entries(value).filter(([, each]) => typeof each !== 'function' && hasJson(each))
    return JSON.parse(JSON.stringify(Object.fromEntries(entries)))
  }
}

function hasJson(value: unknown): boolean {
  try {
    return JSON.stringify(value) !== undefined
  } catch {
    return false
  }
}

function withResource(authInfo: unknown): unknown {
  const resource = (authInfo as { resource?: unknown } | null)?.resource
  if (typeof resource !== 'string' || !URL.canParse(resource)) return authInfo
  return { ...(authInfo as object), resource: new URL(resource) }
}
