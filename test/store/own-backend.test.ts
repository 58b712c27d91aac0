import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { storeContract } from 'mcp-persist/testing'
import { afterAll, expect, test } from 'vitest'
import { fileStore } from '../../examples/own-backend/file-backend.ts'

// A backend of somebody else's: the example imports nothing but the package, and passes what ours pass.

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-own-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

storeContract({ test, open: () => fileStore(join(folder, `${randomUUID()}.json`)), copies: false })

test('what was acknowledged is there when the file is opened again', async () => {
  const path = join(folder, 'again.json')
  const before = fileStore(path)
  const first = await before.forSession('s').storeEvent('a', { jsonrpc: '2.0', method: 'first' })
  const second = await before.forSession('s').storeEvent('a', { jsonrpc: '2.0', method: 'second' })
  await before.close()
  const after = fileStore(path)
  const received: string[] = []
  await after.forSession('s').replayEventsAfter(first, { send: async (id) => void received.push(id) })
  expect(received).toEqual([second])
  await after.close()
})
