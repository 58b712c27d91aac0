import { storeSpace } from '../support/backends.ts'
import { everythingScript } from '../support/everything.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import { killServe, startServe } from '../support/serve-command.ts'
import { everything } from '../support/suites/everything.ts'

const forms = [
  { name: 'over HTTP', flags: [], transport: 'streamableHttp' },
  { name: 'over stdio', flags: ['--stdio'], transport: 'stdio' },
] as const

for (const { name, flags, transport } of forms) {
  everything(`serve: the official reference server ${name}, behind two nodes`, async () => {
    const space = await storeSpace('sqlite')
    const command = [process.execPath, everythingScript(), transport]
    const start = () => startServe({ store: space.url, flags, command })
    const nodes = await Promise.all([start(), start()])
    const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
    const close = async () => {
      await proxy.close()
      await Promise.all(nodes.map(killServe))
      await space.remove()
    }
    return { url: `${proxy.origin}/mcp`, close }
  })
}
