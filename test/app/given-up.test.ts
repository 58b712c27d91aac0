import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { describe, expect, test } from 'vitest'
import type { AppRequest } from '../../src/app/app.ts'
import { FetchApp } from '../../src/app/fetch-app.ts'
import { NodeApp } from '../../src/app/node-app.ts'
import { Stop } from '../../src/stop.ts'

/* What is given up before the app has begun to answer: the app is told as by a client that goes away. */

function asked(signal: Stop): AppRequest {
  const headers = { 'content-type': 'application/json' }
  return { method: 'POST', url: '/mcp', headers, body: Buffer.from('{"jsonrpc":"2.0"}'), signal }
}

describe('a fetch app', () => {
  /** Calls an app that answers when it is told, and hangs up on it. */
  async function hangUp(look: (request: Request) => AbortSignal): Promise<boolean> {
    const stop = new Stop()
    let aborted = false
    const app = new FetchApp({
      fetch: (request) =>
        new Promise((resolve) => {
          look(request).addEventListener('abort', () => {
            aborted = true
            resolve(new Response(null, { status: 499 }))
          })
        }),
    })
    const answer = app.fetch(asked(stop))
    await Promise.resolve()
    expect(aborted).toBe(false)
    stop.stop()
    expect((await answer).status).toBe(499)
    return aborted
  }

  test('sees the signal of its request', async () => {
    expect(await hangUp((request) => request.signal)).toBe(true)
  })

  test('sees it on a copy of the request', async () => {
    expect(await hangUp((request) => request.clone().signal)).toBe(true)
  })

  test('sees it on a request that it makes of this one for another url', async () => {
    expect(await hangUp((request) => new Request('http://other/', request).signal)).toBe(true)
  })

  test('finds it said, when it looks later', async () => {
    const stop = new Stop()
    const app = new FetchApp({
      fetch: async (request) => {
        const copy = request.clone()
        stop.stop()
        expect(await copy.json()).toEqual({ jsonrpc: '2.0' })
        return Response.json([request.signal.aborted, copy.signal.aborted])
      },
    })
    const { body } = await app.fetch(asked(stop))
    let text = ''
    for await (const chunk of body) text += Buffer.from(chunk).toString()
    expect(JSON.parse(text)).toEqual([true, true])
  })
})

test('the response of a Node app closes', async () => {
  const stop = new Stop()
  let closed: Promise<unknown> | undefined
  let response: ServerResponse | undefined
  const app = new NodeApp(() => (_, res) => {
    response = res
    closed = once(res, 'close')
  })
  const answer = app.fetch(asked(stop)).catch((error: unknown) => error)
  while (!closed) await Promise.resolve()
  stop.stop()
  await closed
  expect(response!.writableFinished).toBe(false)
  expect(await answer).toBeInstanceOf(Error)
})
