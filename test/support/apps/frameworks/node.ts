import type { RequestListener } from 'node:http'
import type { SdkLine } from '../sdk-lines.ts'
import { type AppOptions, nodeSessions } from '../sessions.ts'
import { hello, parts } from './routes.ts'

export function nodeApp(sdk: SdkLine, options: AppOptions): RequestListener {
  const sessions = nodeSessions(sdk, options)
  return (req, res) => {
    const { pathname } = new URL(req.url ?? '/', 'http://localhost')
    if (pathname === '/hello') return void res.end(hello)
    if (pathname === '/parts') {
      res.write(parts[0])
      return void setTimeout(() => res.end(parts[1]), 20)
    }
    if (pathname !== '/mcp') return void res.writeHead(404).end()
    sessions(req, res).catch((error: unknown) => res.destroy(error as Error))
  }
}
