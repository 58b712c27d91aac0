import { type FSWatcher, utimesSync, watch } from 'node:fs'
import { errorText } from '../../errors.ts'
import { MESSAGE_LIMIT, type Subscription } from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'

/** What one who listens hears: a text, a message, or that something may have been missed. */
type OnNews<T> = (news: T | undefined) => void

interface Row {
  readonly id: number
  readonly channel: string
  readonly text: string | null
}

interface News {
  readonly channel: string
  readonly news: string | Uint8Array | undefined
}

/** The floor under lost wake-ups, in ms. One look costs some 10 microseconds. */
const POLL = 500
/** After the file has changed it is looked at once more, in ms: by then its commit can be seen. */
const AGAIN = 5
/** Wake-ups read in one look. */
const PAGE = 500
const NEWS = `SELECT id, channel, text FROM mcp_wakeups WHERE id > ? ORDER BY id LIMIT ${PAGE}`
const LAST = "SELECT seq AS last FROM sqlite_sequence WHERE name = 'mcp_wakeups'"
const PARCEL = 'SELECT body FROM mcp_parcels WHERE id = ?'

/** The channel on which the file carries messages to a node. */
export function messageChannel(nodeId: string): string {
  return `${MESSAGES}${nodeId}`
}

const MESSAGES = 'messages:'

/**
 * Hears what any process wrote: whoever has written touches the -wal file, and the operating system tells us. The write
 * itself is told too, but before the commit can be seen, and who looks at once may look too early; only of another
 * user's process, which may not touch the file, is there nothing else, and so we look again. One watcher, whatever the
 * number of subscriptions, and none without.
 */
export class SqliteWakeUps {
  readonly #db: SqliteDatabase
  readonly #channels = new Map<string, Set<OnNews<never>>>()
  /** The highest id delivered. Safe as a cursor because SQLite's one writer makes ids visible in order. */
  #seen = 0
  #watching: Promise<void> | undefined
  #watcher: FSWatcher | undefined
  #timer: NodeJS.Timeout | undefined
  #again: NodeJS.Timeout | undefined
  #looks = 0
  #looking: Promise<void> | undefined
  #closed = false
  /** Why there is no watcher, and wake-ups wait for the poll. */
  problem: string | undefined

  constructor(db: SqliteDatabase) {
    this.#db = db
  }

  /** Texts on a channel; on a {@link messageChannel}, messages. */
  async subscribe<T extends string | Uint8Array>(channel: string, onNews: OnNews<T>): Promise<Subscription> {
    this.#db.assertOpen()
    this.#watching ??= this.#watch()
    try {
      await this.#watching
    } catch (error) {
      this.#watching = undefined
      throw error
    }
    const listener: OnNews<T> = (news) => onNews(news)
    const listeners = this.#channels.get(channel) ?? new Set()
    this.#channels.set(channel, listeners.add(listener))
    return {
      close: async () => {
        listeners.delete(listener)
        if (listeners.size === 0 && this.#channels.get(channel) === listeners) this.#channels.delete(channel)
      },
    }
  }

  /** Something was written, and all can see it. */
  announce(): void {
    if (!this.#db.inMemory) {
      const now = new Date()
      try {
        utimesSync(`${this.#db.path}-wal`, now, now)
      } catch {
        // Nobody listens to a file that is not there; whoever does not hear of it finds it at the next poll.
      }
    }
    this.wake()
  }

  /** Something may have been written: look soon. */
  wake(): void {
    if (this.#channels.size === 0 || this.#closed) return
    // Twice: what is written while we look may not be announced again.
    this.#looks = 2
    this.#looking ??= this.#run()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    clearTimeout(this.#again)
    this.#watcher?.close()
    this.#channels.clear()
    await this.#looking
  }

  async #watch(): Promise<void> {
    // The watcher comes before the cursor is read: what is written in between is looked at.
    await this.#db.ready()
    if (!this.#db.inMemory) this.#listen()
    this.#seen = await this.#db.read((sql) => (sql(LAST).get() as { last: number } | undefined)?.last ?? 0)
    this.#timer ??= setInterval(() => this.wake(), POLL)
    this.#timer.unref()
  }

  #listen(): void {
    const failed = (error: unknown) => {
      this.#watcher?.close()
      this.problem = `Wake-ups of other processes take up to ${POLL} ms: the file cannot be watched (${errorText(error)}).`
    }
    try {
      this.#watcher ??= watch(`${this.#db.path}-wal`, { persistent: false }, () => {
        this.wake()
        this.#again ??= setTimeout(() => {
          this.#again = undefined
          this.wake()
        }, AGAIN).unref()
      })
      this.#watcher.on('error', failed)
    } catch (error) {
      failed(error)
    }
  }

  async #run(): Promise<void> {
    while (this.#looks > 0 && !this.#closed) {
      this.#looks -= 1
      await new Promise((resolve) => setImmediate(resolve))
      await this.#look()
    }
    this.#looking = undefined
  }

  async #look(): Promise<void> {
    let news: News[]
    let more: boolean
    try {
      ;({ news, more } = await this.#db.read((sql) => this.#read(sql)))
    } catch {
      // Whoever listens asks the store next, and is told what is wrong with it.
      this.#missed()
      return
    }
    for (const each of news) this.#deliver(each)
    if (more) this.wake()
  }

  /** What has come since the last look, in so many steps that the messages of one can be held. */
  #read(sql: Sql): { news: News[]; more: boolean } {
    const rows = sql(NEWS).all(this.#seen) as Row[]
    const news: News[] = []
    let bytes = 0
    for (const { id, channel, text } of rows) {
      if (bytes >= MESSAGE_LIMIT) return { news, more: true }
      if (id > this.#seen + 1) this.#missed()
      this.#seen = id
      if (!this.#channels.has(channel)) continue
      if (!channel.startsWith(MESSAGES)) {
        news.push({ channel, news: text ?? undefined })
        continue
      }
      const body = (sql(PARCEL).get(id) as { body: Uint8Array } | undefined)?.body
      bytes += body?.length ?? 0
      news.push({ channel, news: body })
    }
    return { news, more: rows.length === PAGE }
  }

  #missed(): void {
    for (const channel of this.#channels.keys()) this.#deliver({ channel, news: undefined })
  }

  // A listener never runs inside the call that woke it, and what it throws is its own.
  #deliver({ channel, news }: News): void {
    const listeners = this.#channels.get(channel)
    for (const listener of listeners ?? []) {
      queueMicrotask(() => {
        if (listeners!.has(listener)) listener(news as never)
      })
    }
  }
}
