import { CLUSTER } from './cluster.ts'
import { LIVE } from './live.ts'
import type { Mutant } from './mutant.ts'
import { OWNERSHIP } from './ownership.ts'
import { STORE } from './store.ts'
import { STREAMS } from './streams.ts'

export const ZOO: readonly Mutant[] = [...CLUSTER, ...OWNERSHIP, ...LIVE, ...STREAMS, ...STORE]
