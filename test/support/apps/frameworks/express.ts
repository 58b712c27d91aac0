import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js'
import type express from 'express'
import { corsHeaders, verifier } from '../auth.ts'
import type { AuthInfo, SdkLine } from '../sdk-lines.ts'
import { type AppOptions, nodeSessions } from '../sessions.ts'
import { hello, parts } from './routes.ts'

export function expressApp(sdk: SdkLine, options: AppOptions, framework: typeof express) {
  const app = framework()
  if (options.cors) {
    app.use((req, res, next) => {
      res.set(corsHeaders)
      if (req.method === 'OPTIONS') res.sendStatus(204)
      else next()
    })
  }
  app.get('/hello', (_req, res) => void res.send(hello))
  app.get('/parts', (_req, res) => {
    res.write(parts[0])
    setTimeout(() => res.end(parts[1]), 20)
  })
  app.use(framework.json({ limit: '4mb' }))
  const handlers: express.RequestHandler[] = options.auth ? [requireBearerAuth({ verifier })] : []
  const sessions = nodeSessions(sdk, options)
  app.all('/mcp', ...handlers, (req, res, next) => {
    sessions(req as typeof req & { auth?: AuthInfo }, res, req.body).catch(next)
  })
  return app
}
