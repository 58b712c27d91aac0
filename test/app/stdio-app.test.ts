import { expect, test } from 'vitest'
import { AppAway } from '../../src/app/app.ts'
import { Related } from '../../src/app/stdio/related.ts'
import { StdioApp } from '../../src/app/stdio/stdio-app.ts'
import { childrenOf } from '../support/serve-command.ts'
import { until } from '../support/wait.ts'

const request = {
  method: 'POST',
  url: '/mcp',
  headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
}
const initialize = {
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
}

/** Of a session whose server never answers. */
function opening(app: StdioApp): Promise<unknown> {
  const body = Buffer.from(JSON.stringify(initialize))
  return app.fetch({ ...request, body, parsed: initialize }).catch((error: unknown) => error)
}

test('an app that is closed while a process starts leaves none behind', async () => {
  // The SDK is loaded when it is needed first; then it is there.
  for (const _ of ['while it is loaded', 'while the process starts']) {
    const app = new StdioApp({ command: 'sleep', args: ['1000'] })
    const asked = opening(app)
    await app.close()
    expect(await asked).toBeInstanceOf(AppAway)
    expect(childrenOf(process.pid)).toEqual([])
  }
})

test('a process that runs ends with the app', async () => {
  const app = new StdioApp({ command: 'sleep', args: ['1000'] })
  void opening(app)
  await until('it', () => childrenOf(process.pid).length === 1)
  await app.close()
  expect(childrenOf(process.pid)).toEqual([])
})

test('a command that is not there: nothing was asked of anybody', async () => {
  const app = new StdioApp({ command: 'no-such-command' })
  expect(await opening(app)).toMatchObject({ name: 'AppAway', message: expect.stringContaining('ENOENT') })
  await app.close()
})

test('a message belongs to the call that it names, or to the one that runs, or to none', () => {
  const related = new Related()
  const question = { id: 7, method: 'sampling/createMessage' }
  const progress = (progressToken: string) => ({
    method: 'notifications/progress',
    params: { progressToken },
  })
  related.heard({ id: 'ping', method: 'ping' })
  expect(related.requestOf(question)).toBeUndefined()
  related.heard({ id: 1, method: 'tools/call', params: { _meta: { progressToken: 'a' } } })
  related.heard({ id: '1', method: 'tools/call', params: { _meta: { progressToken: 'b' } } })
  expect(
    [question, progress('a'), progress('b'), progress('c')].map((each) => related.requestOf(each)),
  ).toEqual([1, 1, '1', undefined])
  expect(related.requestOf({ method: 'notifications/message' })).toBe(1)
  expect(related.requestOf({ method: 'notifications/tools/list_changed' })).toBeUndefined()
  // One that was cancelled is answered to nobody.
  related.heard({ method: 'notifications/cancelled', params: { requestId: 1 } })
  expect([related.answers({ id: 1 }), related.answers({ id: '1' }), related.answers({ id: '1' })]).toEqual([
    false,
    true,
    false,
  ])
  expect(related.requestOf(question)).toBeUndefined()
})
