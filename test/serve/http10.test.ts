import { expect, it, onTestFinished } from 'vitest'
import { storeSpace } from '../support/backends.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import { program } from '../support/programs.ts'
import { childrenOf, killServe, startServe } from '../support/serve-command.ts'
import { until } from '../support/wait.ts'

it('a server that speaks HTTP/1.0 and sends no head before its first byte, behind two nodes, killed in a call', async () => {
  const space = await storeSpace('sqlite')
  const command = [process.execPath, program('support/hosts/http10.ts')]
  const nodes = await Promise.all([0, 1].map(() => startServe({ store: space.url, command })))
  const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
  onTestFinished(async () => {
    await proxy.close()
    await Promise.all(nodes.map(killServe))
    await space.remove()
  })
  const client = await OfficialClient.connect('v1', `${proxy.origin}/mcp`)
  onTestFinished(() => client.close())
  for (const count of ['1', '2', '3']) expect(await client.tool('counter')).toBe(count)
  const progress: number[] = []
  const call = client.tool('slow', {}, { onprogress: (event) => void progress.push(event.progress) })
  await until('progress', () => progress.length >= 2)
  for (const node of nodes) for (const pid of childrenOf(node.pid)) process.kill(pid, 'SIGKILL')
  expect(await call).toBe('done')
  // Once from each run: it was repeated.
  expect(progress.filter((step) => step === 1)).toHaveLength(2)
  expect(await client.tool('counter')).toBe('1')
  await client.terminate()
})
