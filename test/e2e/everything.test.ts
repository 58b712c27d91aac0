import { withPersistence } from '../../src/index.ts'
import { startEverything } from '../support/everything.ts'
import { listening } from '../support/net/listen.ts'
import { everything } from '../support/suites/everything.ts'

everything('the official reference server without us', async () => {
  const server = await startEverything()
  return { url: `${server.origin}/mcp`, close: async () => void (await server.kill()) }
})

everything('the official reference server, unmodified, wrapped from outside', async () => {
  const server = await startEverything()
  const handler = withPersistence({ url: `${server.origin}/mcp` }, 'memory:', 60)
  const { origin } = await listening(handler.listen(0, '127.0.0.1'))
  const close = async () => {
    await handler.close({ deadline: 0 })
    await server.kill()
  }
  return { url: `${origin}/mcp`, close }
})
