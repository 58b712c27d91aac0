import { appendAndOrder } from './append.ts'
import { bus } from './bus.ts'
import { cutConnections } from './cut-connections.ts'
import { eventStore } from './event-store.ts'
import { exchange } from './exchange.ts'
import { expiry } from './expiry.ts'
import { fencing } from './fencing.ts'
import { generations } from './generations.ts'
import { lifecycle } from './lifecycle.ts'
import { nodes } from './nodes.ts'
import { openStreams } from './open-streams.ts'
import { read } from './read.ts'
import { sessions } from './sessions.ts'
import { createSuite, type StoreContractOptions } from './suite.ts'
import { tasks } from './tasks.ts'
import { transfer } from './transfer.ts'

/**
 * What every backend must do, as tests. A backend's test file is its set-up and this one call.
 *
 * @example
 * import { test } from 'node:test'
 * import { MemoryEventStore, storeContract } from 'mcp-persist/testing'
 *
 * storeContract({ test, open: () => new MemoryEventStore() })
 */
export function storeContract(options: StoreContractOptions): void {
  const suite = createSuite(options)
  appendAndOrder(suite)
  read(suite)
  fencing(suite)
  generations(suite)
  openStreams(suite)
  sessions(suite)
  nodes(suite)
  bus(suite)
  exchange(suite)
  expiry(suite)
  eventStore(suite)
  transfer(suite)
  tasks(suite)
  lifecycle(suite)
  cutConnections(suite)
  suite.finish()
}
