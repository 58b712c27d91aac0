import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { RawClient } from '../support/clients/raw-client.ts'
import { serveHosted } from '../support/hosted.ts'
import { until } from '../support/wait.ts'

const PATIENCE = 20_000
const LONG = { steps: 1000, ms: 25 }

// A client that has seen two broken connections in a row may give its standalone stream up for good (that of the Python SDK
// does), so what a node closes on purpose has to come to its end on the wire.
test('what a process closes on purpose ends, and is not broken off', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-on-purpose-'))
  const hosted = { script: 'factory.ts' as const, store: 'sqlite:FOLDER/mcp.db', folder, deadline: 300 }
  const [owner, edge] = await Promise.all([1, 2].map(() => serveHosted(hosted)))
  onTestFinished(async () => {
    await Promise.all([owner!.host.kill(), edge!.host.kill()])
    await rm(folder, { recursive: true, force: true })
  })
  /** At each node: a standalone stream, one that a later one has taken the place of, and a call that lasts beyond the deadline. */
  const streams = await Promise.all(
    [owner!, edge!].map(async ({ url }) => {
      const client = await RawClient.open(owner!.url)
      const here = client.clone(url)
      const superseded = await here.listen()
      const standalone = await here.listen()
      await superseded.over(PATIENCE)
      const call = await here.stream(here.toolCall('slow', LONG))
      await until('its beginning', () => call.logs.length > 0, PATIENCE)
      const asked = await here.stream(here.toolCall('cut', { before: 1, after: 1000, ms: 25 }))
      await asked.over(PATIENCE)
      return { superseded, standalone, call, asked }
    }),
  )
  const states = (at: number) => Object.values(streams[at]!).map(({ state }) => state)
  // The edge goes first: its streams are the session's of another node.
  for (const [at, node] of [
    [1, edge],
    [0, owner],
  ] as const) {
    expect(await node!.host.stop()).toBe(0)
    await until('their ends', () => !states(at).includes('open'), PATIENCE)
    expect(states(at)).toEqual(['ended', 'ended', 'ended', 'ended'])
    const { standalone, call } = streams[at]!
    expect([standalone.retry, call.retry]).toEqual([1000, 1000])
  }
}, 60_000)
