import fastify from 'fastify'
import type { SdkLine } from '../sdk-lines.ts'
import { type AppOptions, nodeSessions } from '../sessions.ts'
import { hello, parts } from './routes.ts'

export function fastifyApp(sdk: SdkLine, options: AppOptions) {
  const app = fastify()
  app.get('/hello', () => hello)
  app.get('/parts', (_request, reply) => {
    reply.hijack()
    reply.raw.write(parts[0])
    setTimeout(() => reply.raw.end(parts[1]), 20)
  })
  const sessions = nodeSessions(sdk, options)
  app.all('/mcp', async (request, reply) => {
    reply.hijack()
    await sessions(request.raw, reply.raw, request.body)
  })
  return app
}
