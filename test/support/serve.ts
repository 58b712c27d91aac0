import type { RequestListener } from 'node:http'
import { type PersistOptions, type Store, withPersistence } from '../../src/index.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { AppShape } from './apps/app-shapes.ts'
import type { AppOptions } from './apps/sessions.ts'
import { type Journal, memoryJournal } from './journal.ts'
import { listen, listening } from './net/listen.ts'
import type { Running } from './suites/features.ts'

export type ShapeOptions = Omit<AppOptions, 'journal'>

export interface Served extends Running {
  readonly origin: string
}

/** Serves an app as its author does today, in this process. */
export async function serveUnwrapped(shape: AppShape, options: ShapeOptions = {}): Promise<Served> {
  const journal = memoryJournal()
  const listener: RequestListener = await (await shape.build({ ...options, journal })).unwrapped()
  const { origin, close } = await listen(listener)
  return { origin, url: `${origin}/mcp`, journal, close }
}

export interface WrapOptions {
  /** A URL, or a store that stays open when the served app is closed. Default `memory:`. */
  readonly store?: string | Store
  readonly app?: ShapeOptions
  readonly options?: PersistOptions
  readonly journal?: Journal
  readonly port?: number
}

export interface Wrapped extends Served {
  readonly store: Store
  /** Ends as a crash would: no goodbye to anybody. */
  readonly handler: ReturnType<typeof withPersistence>
}

/** Serves the same app wrapped, in this process. */
export async function serveWrapped(shape: AppShape, wrap: WrapOptions = {}): Promise<Wrapped> {
  const { journal = memoryJournal(), store: given = 'memory:', options = {} } = wrap
  const { app } = await shape.build({ ...wrap.app, journal })
  const store =
    typeof given === 'string'
      ? openStore(given, { ...(options.logger && { logger: options.logger }) })
      : given
  const handler = withPersistence(app as Parameters<typeof withPersistence>[0], store, options)
  const server = handler.listen(wrap.port ?? 0, '127.0.0.1')
  const { origin, close: closeServer } = await listening(server)
  const close = async () => {
    await handler.close({ deadline: 0 })
    await closeServer()
    await store.close()
  }
  return { origin, url: `${origin}/mcp`, journal, store, handler, close }
}
