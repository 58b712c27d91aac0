// The test file of a backend: its set-up, and one call. Run it with `node --import tsx --test`.
import { test } from 'node:test'
import { MemoryEventStore, storeContract } from 'mcp-persist/testing'

storeContract({ test, open: () => new MemoryEventStore() })
