import assert from 'node:assert/strict'
import { RawClient, textOf } from './clients/raw-client.ts'
import type { HostProcess } from './process.ts'

/**
 * What the package is for, in some seconds, with a process that serves the tools of `examples/countdown.ts` at `url`: a
 * session outlives its process, and so does a call. Rejects with what went wrong.
 */
export async function smoke(host: HostProcess, url: string): Promise<void> {
  const client = await RawClient.open(url)
  try {
    assert.ok(client.session, 'the answer to initialize names a session')
    assert.match(await client.tool('count'), /^call 1,/)
    assert.match(await client.tool('count'), /^call 2,/)

    const call = client.toolCall('countdown', { from: 8 })
    const begun = await client.stream(call)
    await begun.next('the second number', ({ params }) => params?.['data'] === 7)
    await host.kill()
    await host.start()
    const rest = await client.rest(begun, call.id, 30_000)
    const answer = [begun, ...rest].flatMap(({ messages }) => messages).find(({ id }) => id === call.id)
    assert.equal(textOf(answer?.result), 'lift-off', JSON.stringify(answer))

    assert.match(await client.tool('count'), new RegExp(`process ${host.pid}$`))
    const ended = await client.delete()
    assert.ok(ended.ok, `DELETE: ${ended.status}`)
    const after = await client.post(client.toolCall('count'))
    assert.equal(after.status, 404, 'a session that was ended')
  } finally {
    client.close()
  }
}
