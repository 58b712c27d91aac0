// A session belongs to whoever opened it. Here the user stands in a verified token, and sessions are bound to the user.
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js'
import type { OAuthTokenVerifier } from '@modelcontextprotocol/sdk/server/auth/provider.js'
import express from 'express'
import { type AuthInfo, withPersistence } from 'mcp-persist'
import { buildServer } from './countdown.ts'

export function protectedApp(verifier: OAuthTokenVerifier): express.Express {
  const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', {
    ttl: 3600,
    principal: ({ authInfo }) => userOf(authInfo),
  })

  const app = express()
  app.all('/mcp', requireBearerAuth({ verifier }), mcp)
  return app
}

function userOf(authInfo: AuthInfo | undefined): string | null {
  const userId = authInfo?.extra?.['userId']
  return typeof userId === 'string' ? userId : null
}
