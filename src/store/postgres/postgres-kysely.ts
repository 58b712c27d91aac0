import type * as Kysely from 'kysely'

/**
 * kysely's `sql`. Undefined until {@link loadKysely} has resolved, so no module may use it while it is being loaded:
 * kysely takes longer to import than all of this package, and who stores elsewhere never needs it.
 */
export let sql: typeof Kysely.sql

let loading: Promise<typeof Kysely> | undefined

/** Loads kysely on first use. */
export async function loadKysely(): Promise<typeof Kysely> {
  loading ??= import('kysely')
  const kysely = await loading
  sql = kysely.sql
  return kysely
}
