import { test } from 'vitest'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'
import { storeContract } from '../../src/testing.ts'

storeContract({ test, open: () => new SqliteEventStore(':memory:') })
