import { Hono } from 'hono'
import { cors } from 'hono/cors'
import { corsHeaders, verifier } from '../auth.ts'
import type { SdkLine } from '../sdk-lines.ts'
import { type AppOptions, webSessions } from '../sessions.ts'
import { hello, parts } from './routes.ts'

export function honoApp(sdk: SdkLine, options: AppOptions): Hono {
  const app = new Hono()
  if (options.cors) {
    app.use(
      cors({
        origin: corsHeaders['access-control-allow-origin'],
        exposeHeaders: corsHeaders['access-control-expose-headers'].split(', '),
        allowHeaders: corsHeaders['access-control-allow-headers'].split(', '),
      }),
    )
  }
  app.get('/hello', (c) => c.text(hello))
  app.get('/parts', (c) => {
    const encoder = new TextEncoder()
    return c.body(
      new ReadableStream({
        start(controller) {
          controller.enqueue(encoder.encode(parts[0]))
          setTimeout(() => {
            controller.enqueue(encoder.encode(parts[1]))
            controller.close()
          }, 20)
        },
      }),
    )
  })
  const sessions = webSessions(sdk, options)
  app.all('/mcp', async (c) => {
    if (!options.auth) return sessions(c.req.raw)
    const token = c.req.header('authorization')?.replace(/^Bearer /, '') ?? ''
    const authInfo = await verifier.verifyAccessToken(token).catch(() => undefined)
    if (!authInfo) {
      return c.json({ error: 'invalid_token' }, 401, { 'www-authenticate': 'Bearer error="invalid_token"' })
    }
    return sessions(c.req.raw, authInfo)
  })
  return app
}
