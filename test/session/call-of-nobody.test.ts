import { expect, test } from 'vitest'
import { Calls, type CallsOptions } from '../../src/session/live/calls.ts'
import { SessionLeft } from '../../src/session/live/session-left.ts'
import { Stop } from '../../src/stop.ts'

/** A node that was stopped for a while hears late of a call, which the node that asked has made itself meanwhile. */
test('a call for which nobody waits any more is not made', async () => {
  const gone = new Stop()
  gone.stop()
  const calls = new Calls({ settings: { maxCalls: 1 } } as unknown as CallsOptions)
  const how = { streamId: 's', again: undefined, gone, principal: { authInfo: null, jwt: null } }
  const request = { method: 'POST', url: '/mcp', headers: {} }
  const made = calls.make(request, [{ id: 1, method: 'tools/call' }], how)
  await expect(made).rejects.toBeInstanceOf(SessionLeft)
  expect(calls.size).toBe(0)
})
