import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js'
import type { AuthInfo } from './sdk-lines.ts'

/** Two users; alice holds two tokens, as after a refresh. */
export const tokens = { alice: 'alice-token-1', aliceRefreshed: 'alice-token-2', bob: 'bob-token-1' }

/** For the SDK's `requireBearerAuth`. */
export const verifier = {
  async verifyAccessToken(token: string): Promise<AuthInfo> {
    const user = Object.values(tokens).includes(token) ? token.split('-')[0] : undefined
    if (!user) throw new InvalidTokenError('Unknown token')
    const expiresAt = Math.floor(Date.now() / 1000) + 3600
    return { token, clientId: 'test-client', scopes: ['mcp'], expiresAt, extra: { sub: user } }
  },
}

/** Who sent it, as an app would tell the wrapper. */
export function principalOf(authorization: string | null | undefined): string | null {
  const token = authorization?.replace(/^Bearer /, '')
  return token ? (token.split('-')[0] ?? null) : null
}

export const corsHeaders = {
  'access-control-allow-origin': 'https://app.example',
  'access-control-expose-headers': 'mcp-session-id, mcp-protocol-version',
  'access-control-allow-headers':
    'content-type, authorization, mcp-session-id, mcp-protocol-version, last-event-id',
}
