import type { AppRequest } from '../../app/app.ts'
import type { PrincipalRequest, Settings } from '../../options.ts'

/** Who is asking, as far as anybody can tell; null when nobody says. */
export async function principalOf(request: AppRequest, settings: Settings): Promise<string | null> {
  if (!settings.principal) return fromAuthInfo(request.authInfo)
  const { method, url, headers, authInfo } = request
  const view: PrincipalRequest = {
    method,
    url,
    headers: Object.assign(new Headers(headers), headers) as PrincipalRequest['headers'],
    ...(authInfo !== undefined && { authInfo }),
  }
  return (await settings.principal(view)) ?? null
}

/**
 * Issuer, client and subject of the SDK's `AuthInfo`. Never the token itself, nor a hash of it: tokens are refreshed
 * while the session goes on.
 */
function fromAuthInfo(authInfo: unknown): string | null {
  if (typeof authInfo !== 'object' || authInfo === null) return null
  const { clientId, extra } = authInfo as { clientId?: unknown; extra?: Record<string, unknown> }
  const parts = [extra?.['iss'], clientId, extra?.['sub'] ?? extra?.['userId']]
  return parts.every((part) => part === undefined) ? null : JSON.stringify(parts.map((part) => part ?? null))
}
