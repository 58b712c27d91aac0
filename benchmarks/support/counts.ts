import type { Store } from 'mcp-persist'
import { observed } from '../../test/support/observed-store.ts'

/** Counts the operations of a store as they begin, and the sessions that touches are for. */
export function counted(store: Store, counts: Record<string, number>): Store {
  const count = (what: string, by = 1) => {
    counts[what] = (counts[what] ?? 0) + by
  }
  return observed(store, {
    begin(operation, args) {
      count(operation)
      if (operation === 'sessions.touch') count('sessions touched', (args[0] as readonly unknown[]).length)
      return () => {}
    },
  })
}
