import Koa from 'koa'
import type { SdkLine } from '../sdk-lines.ts'
import { type AppOptions, nodeSessions } from '../sessions.ts'
import { hello, parts } from './routes.ts'

export function koaApp(sdk: SdkLine, options: AppOptions) {
  const app = new Koa()
  const sessions = nodeSessions(sdk, options)
  app.use(async (ctx, next) => {
    if (ctx.path !== '/mcp') return next()
    ctx.respond = false
    await sessions(ctx.req, ctx.res)
  })
  app.use((ctx) => {
    if (ctx.path === '/hello') ctx.body = hello
    if (ctx.path !== '/parts') return
    ctx.respond = false
    ctx.res.statusCode = 200
    ctx.res.write(parts[0])
    setTimeout(() => ctx.res.end(parts[1]), 20)
  })
  return app
}
