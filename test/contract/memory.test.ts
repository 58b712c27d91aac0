import { test } from 'vitest'
import { MemoryEventStore, storeContract } from '../../src/testing.ts'

storeContract({ test, open: () => new MemoryEventStore() })
