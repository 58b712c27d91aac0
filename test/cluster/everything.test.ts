import { withPersistence } from '../../src/index.ts'
import { storeSpace } from '../support/backends.ts'
import { startEverything } from '../support/everything.ts'
import { listening } from '../support/net/listen.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import { everything } from '../support/suites/everything.ts'

everything('the official reference server, unmodified, on three nodes', async () => {
  const [server, space] = await Promise.all([startEverything(), storeSpace('sqlite')])
  const handlers = [0, 1, 2].map(() => withPersistence({ url: `${server.origin}/mcp` }, space.url, 60))
  const nodes = await Promise.all(handlers.map((handler) => listening(handler.listen(0, '127.0.0.1'))))
  const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
  const close = async () => {
    await proxy.close()
    await Promise.all(handlers.map((handler) => handler.close({ deadline: 0 })))
    await server.kill()
    await space.remove()
  }
  return { url: `${proxy.origin}/mcp`, close }
})
