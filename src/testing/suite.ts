import type { Store } from '../store/store.ts'

/** What a backend's test file says about itself, once. */
export interface StoreContractOptions {
  /** The test function of vitest, node:test or whatever takes a title and an async function. */
  readonly test: (title: string, fn: () => Promise<void>) => void
  /** Opens a store over fresh, empty data. The suite closes it. */
  readonly open: () => Store | Promise<Store>
  /**
   * Opens another store on the data of the last `open()`, as a second process would. Required of every backend whose
   * reach is more than one process. The suite closes it, and may call it after the first store was closed.
   */
  readonly second?: () => Store | Promise<Store>
  /** Damages the stored payload of one event so that it cannot be decoded. Left out: the backend decodes nothing. */
  readonly corrupt?: (sessionId: string, position: number) => Promise<void>
  /**
   * Breaks the connections of all stores that are open: `now` those that there are, `answer` each whose next answer is on
   * its way, so that it is lost though what was asked has been done. Left out: the backend has no connection.
   */
  readonly cut?: (what: 'now' | 'answer') => Promise<void>
  /**
   * Keeps what is stored now; the function that it resolves with brings it back, as a restart or a failover does that
   * has lost everything since, while the stores stay open. Left out: the backend loses nothing that it acknowledged.
   */
  readonly snapshot?: () => Promise<() => Promise<void>>
  /** Messages between nodes that lie in the store: how many, and how to let their time be over. Left out: none ever does. */
  readonly parcels?: { count(): Promise<number>; age(): Promise<void> }
  /** Stretches every time to live and lease: for backends that count in coarser steps than about 50 ms. Default 1. */
  readonly timeScale?: number
  /** Can it be copied? False: it has no `transfer`. Default true. */
  readonly copies?: boolean
  /** Titles of tests that do not apply, each with the reason. An unknown title is an error. */
  readonly exceptions?: Readonly<Record<string, string>>
}

/** Handed to each subject of the suite. */
export interface Suite {
  /** `store` is fresh and is closed when the test ends. */
  test(title: string, fn: (store: Store) => Promise<void>): void
  /** `two` is another store on the data of `one`; registered only where the backend has one. */
  pair(title: string, fn: (one: Store, two: Store) => Promise<void>): void
  /** Closes and opens again on the same data. Only inside `pair` tests. */
  reopen(): Promise<Store>
  /** Where there are two stores the same test runs over both: `stores.length` is 1 or 2. */
  all(title: string, fn: (stores: readonly Store[]) => Promise<void>): void
  /** A time span in milliseconds, stretched for the backend. */
  ms(span: number): number
  readonly corrupt: StoreContractOptions['corrupt']
  readonly cut: StoreContractOptions['cut']
  readonly snapshot: StoreContractOptions['snapshot']
  readonly parcels: StoreContractOptions['parcels']
  readonly hasSecond: boolean
  readonly copies: boolean
}

export function createSuite(options: StoreContractOptions): Suite & { finish(): void } {
  const { test, open, second, corrupt, cut, snapshot, parcels, timeScale = 1, exceptions = {} } = options
  const { copies = true } = options
  const titles = new Set<string>()
  let opened: Store[] = []

  const run = (title: string, body: () => Promise<void>) => {
    if (titles.has(title)) throw new Error(`Two tests of the store contract are called '${title}'.`)
    titles.add(title)
    if (title in exceptions) return
    test(title, async () => {
      opened = []
      try {
        await body()
      } finally {
        for (const store of opened) await store.close()
      }
    })
  }
  const openFirst = async () => keep(await open())
  const openSecond = async () => keep(await second!())
  const keep = (store: Store) => {
    opened.push(store)
    return store
  }

  return {
    corrupt,
    cut,
    snapshot,
    parcels,
    hasSecond: second !== undefined,
    copies,
    ms: (span) => span * timeScale,
    reopen: openSecond,
    test: (title, fn) => run(title, async () => fn(await openFirst())),
    pair(title, fn) {
      if (second) run(title, async () => fn(await openFirst(), await openSecond()))
      else titles.add(title)
    },
    all: (title, fn) =>
      run(title, async () => fn(second ? [await openFirst(), await openSecond()] : [await openFirst()])),
    finish() {
      const unknown = Object.keys(exceptions).filter((title) => !titles.has(title))
      if (unknown.length > 0) {
        throw new Error(
          `The store contract has no test called '${unknown.join("', '")}'; correct the exceptions.`,
        )
      }
    },
  }
}
