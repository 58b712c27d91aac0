import { withTimeout } from '../clock.ts'
import { PersistError } from '../errors.ts'
import { type OpenStoreOptions, openStore } from '../store/open-store.ts'
import type { Store } from '../store/store.ts'
import { orInterrupted, stopped } from './interrupt.ts'
import { assertExists } from './store-url.ts'

export const READ_ONLY: OpenStoreOptions = { readonly: true }

/** Opens an existing store for the time of `work`, and closes it however `work` ends. It is never migrated. */
export async function withStore<T>(
  url: string,
  options: OpenStoreOptions,
  work: (store: Store) => Promise<T>,
): Promise<T> {
  const store = openStore(url, { autoMigrate: false, ...options })
  return closing(store, async () => {
    if (options.autoMigrate !== true) assertExists(url)
    return work(store)
  })
}

export async function closing<T>(store: Store, work: () => Promise<T>): Promise<T> {
  try {
    return await orInterrupted(work())
  } finally {
    await closeInTime(store)
  }
}

async function closeInTime(store: Store): Promise<void> {
  const limit = stopped() ? 1_000 : 10_000
  const late = () => new PersistError('STORE_UNAVAILABLE', `The store did not close within ${limit} ms.`)
  await withTimeout(store.close(), limit, late).catch((error) => {
    // Whoever interrupts does not want to hear that the store is slow.
    if (!stopped()) throw error
  })
}
