import type { Store } from '../../store/store.ts'

/** Where sessions and nodes are kept, and what carries messages: the store, or in sticky mode this process. */
export type Directory = Pick<Store, 'sessions' | 'nodes' | 'bus'>
