// A session belongs to whoever opened it. Here the user stands in a verified token, and sessions are bound to the user.
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js'
import type { OAuthTokenVerifier } from '@modelcontextprotocol/sdk/server/auth/provider.js'
import type { AuthInfo } from '@modelcontextprotocol/sdk/server/auth/types.js'
import express from 'express'
import { withPersistence } from 'mcp-persist'
import { buildServer } from './countdown.ts'

export function protectedApp(verifier: OAuthTokenVerifier): express.Express {
  const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', {
    ttl: 3600,
    principal: ({ authInfo }) => userOf(authInfo as AuthInfo),
  })

  const app = express()
  app.all('/mcp', requireBearerAuth({ verifier }), mcp)
  return app
}

function userOf({ extra }: AuthInfo): string {
  return String(extra?.userId)
}
