// The test file of a backend: its set-up, and one call. Run it with `node --import tsx --test`.
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { storeContract } from 'mcp-persist/testing'
import { fileStore } from './file-backend.ts'

storeContract({
  test,
  open: () => fileStore(join(tmpdir(), `mcp-persist-${randomUUID()}.json`)),
  copies: false,
})
