import type * as Source from '../../src/index.ts'

/** The package, or one of its mutants. */
export type Package = Pick<typeof Source, 'withPersistence' | 'MemoryEventStore'>
