import type { Formatted } from '../versions.ts'

/**
 * The port: what a backend must do, and what it must guarantee. Times are milliseconds. Everything that depends
 * on "now" uses the store's own clock, so that nodes with different clocks agree.
 *
 * Every method rejects with a `PersistError`: `STORE_UNAVAILABLE` when the backend does not answer in time,
 * `STORE_CLOSED` after `close()`, `NOT_MIGRATED` when the schema is missing, or as said below.
 */
export interface Backend {
  /** The backend's name as it stands in logs and metrics: `memory`, `sqlite`, `redis`, `postgres`. */
  readonly backend: string
  readonly traits: StoreTraits
  readonly log: EventLog
  readonly sessions: SessionTable
  readonly nodes: NodeTable
  readonly bus: Bus
  readonly tasks: TaskTable
  /** What `mcp-persist copy` works with. A store without it cannot be copied. */
  readonly transfer?: Transfer

  /** Opens the connection and checks the schema. Called by every other method; calling it twice costs nothing. */
  ready(): Promise<void>
  /** One round trip to the backend; resolves with its latency in ms. */
  ping(): Promise<number>
  /** Never rejects. What an operator wants to know first. */
  health(): Promise<StoreHealth>
  stats(): Promise<StoreStats>
  /**
   * Deletes what has expired, `limit` rows at the most (default 1,000), in one bounded step: call again while
   * `more` is true. Safe to run on many nodes at once. With `dryRun` it only counts. Tasks go too, uncounted.
   */
  sweep(options?: { limit?: number; dryRun?: boolean }): Promise<SweepResult>
  /** Settles what was accepted, then frees everything. Idempotent. */
  close(): Promise<void>
}

/** Seconds that events are kept, where nobody says otherwise. */
export const DEFAULT_TTL = 3600

/** What a backend can do, as data. */
export interface StoreTraits {
  /** Does what was acknowledged survive the end of the process? */
  readonly durable: boolean
  /** Who can share it: threads of one process, processes of one host, or hosts of one network. */
  readonly reach: 'process' | 'host' | 'network'
  /** Can it tell that a node is gone before its lease is over? */
  readonly detectsDeadNodes: boolean
}

/**
 * `open`: a request, before the app sees it · `message`: a JSON-RPC message · `final`: the message that ends its
 * stream · `end`: the stream ended without one. Only `message` and `final` are ever sent to a client as messages.
 */
export type EventKind = 'open' | 'message' | 'final' | 'end'

export interface NewEvent {
  readonly streamId: string
  readonly kind: EventKind
  /** Any text, up to hundreds of MiB, kept byte for byte. Empty for `end`. */
  readonly payload: string
}

export interface StoredEvent extends NewEvent {
  readonly position: number
}

export interface Append {
  readonly sessionId: string
  readonly events: readonly NewEvent[]
  /** The lease's fencing number. Left out, the append is not fenced (a log without a session record). */
  readonly generation?: number
  /** How long these events can be replayed. The log (and the session, where there is one) lives at least as long. */
  readonly ttl: number
  /** False: store without counting as use of the session. Default true. */
  readonly touch?: boolean
  /** Keep at most about this many events of the session (the oldest go first, up to a tenth late). */
  readonly limit?: number
  /**
   * Number these events from beyond this position: the last one that may have been given out. A store that came back
   * without its last moments would give it out again.
   */
  readonly beyond?: number
}

export interface Appended {
  /** One for each event, in order. */
  readonly positions: readonly number[]
  readonly epoch: string
}

export interface Page {
  /** In position order, strictly after the position asked for. Rows whose payload cannot be decoded are left out. */
  readonly events: readonly StoredEvent[]
  /** Is there more after the last of these? */
  readonly more: boolean
  /** Undefined: the session has no log. */
  readonly epoch: string | undefined
  /** Every position up to and including this one may have been trimmed or have expired; 0 when nothing was. */
  readonly floor: number
  /** The highest position ever given out in this log; 0 when none was. */
  readonly last: number
  /** Rows that could not be decoded and were left out of `events`. */
  readonly corrupt: number
  /**
   * The page answers for every position up to and including this one, whether or not its event could be decoded:
   * the next page begins after it. `after` where nothing was looked at.
   */
  readonly scanned: number
}

/**
 * The log of each session. `append` is one atomic step: it numbers, fences, stores and extends the expiry.
 *
 * 1. Positions are integers (at most 2^53 - 1), strictly increasing per session over all its streams, never given
 *    out twice within an epoch, and never visible out of order: whoever has read n never later finds a smaller one.
 * 2. A resolved append is stored as durably as the backend is configured to store; a rejected one may be stored
 *    in part never, in whole only when the rejection is `STORE_UNAVAILABLE`.
 * 3. Appends for one session by one caller are stored in the order of the calls. When one is rejected with
 *    `STORE_UNAVAILABLE`, so are all that were made behind it until then.
 * 4. Concurrent appends share round trips (group commit); each settles by itself and one bad append fails alone.
 * 5. A stream is open from its first `open` to its `final` or `end`. Open streams are kept beside the events, where
 *    neither a limit nor the time to live of events reaches them, and are answered by {@link SessionTable.claim}.
 */
export interface EventLog {
  /**
   * Rejects with `FENCED` when `generation` is not the log's, with `SESSION_GONE` when a generation is given and
   * the log does not exist (any more). Without a generation a missing log is created.
   */
  append(append: Append): Promise<Appended>
  /** Events after `after` (0: from the start) of one stream, or of all streams when `streamId` is left out. */
  read(query: { sessionId: string; streamId?: string; after: number; limit: number }): Promise<Page>
  /** Removes a session's log. Positions start again, under another epoch. */
  delete(sessionId: string): Promise<void>
}

/**
 * What a session needs to be rehydrated; small, JSON, written whole and given back as it is. Only `format` means the same
 * in every release: nobody but who reads that format looks at the rest, or at the session's open streams.
 */
export interface SessionState extends Formatted {
  /** The JSON-RPC `initialize` request as the client sent it. */
  readonly initialize: string
  readonly protocolVersion: string
  /** The path at which it was opened, and where alone it is known; left out: by an older release, and known anywhere. */
  readonly endpoint?: string
  readonly logLevel?: string
  readonly subscriptions?: readonly string[]
  /** Where the principal was seen; left out: there is none, or the record is older than this. */
  readonly principalSource?: PrincipalSource
  /** The credential accepted last, where nothing tells whose it is. */
  readonly credential?: CredentialDigest
}

/**
 * `option`: the option `principal` · `authInfo`: a middleware in front of the handler · `app`: the app's own middleware ·
 * `jwt`: issuer and subject of a bearer token
 */
export type PrincipalSource = 'option' | 'authInfo' | 'app' | 'jwt'

/** HMAC-SHA256 under a random key of the session's own, both base64url. */
export interface CredentialDigest {
  readonly key: string
  readonly digest: string
}

export interface SessionRecord {
  readonly id: string
  /** Who opened it; null when nobody said. */
  readonly principal: string | null
  readonly state: SessionState
  /** The node that holds it; null: nobody. */
  readonly owner: string | null
  /** Is the owner's lease running (and the owner not known to be dead)? */
  readonly ownerAlive: boolean
  readonly generation: number
  /** The last standalone position ever delivered to the client. */
  readonly delivered: number
  readonly createdAt: number
  readonly lastUsedAt: number
  readonly expiresAt: number
}

export interface SessionToCreate {
  readonly id: string
  readonly principal: string | null
  readonly state: SessionState
  readonly owner: string
  readonly ttl: number
  /** Sessions that its principal may have; left out: any number. */
  readonly limit?: number
}

/** A stream that was opened and has not ended: its call runs, or the node that ran it is gone. */
export interface OpenStream {
  readonly streamId: string
  /** Of its latest `open`. */
  readonly payload: string
  /** How many times it was opened: once for each time that its call was begun. */
  readonly runs: number
}

/** A session that has just been claimed, with what its last owner left open. */
export interface ClaimedSession extends SessionRecord {
  /** The log's last position: what is appended in the new generation lies beyond. */
  readonly last: number
  /** In the order in which they were opened first. */
  readonly open: readonly OpenStream[]
}

export interface SessionClaim {
  readonly owner: string
  readonly generation: number
  readonly keep?: boolean
}

export interface SessionTouch {
  readonly id: string
  /** Left out: its expiry stays as it is. */
  readonly ttl?: number
  /** The generation that the caller holds the session in, if it does. */
  readonly generation?: number
  /** Raises `delivered`, never lowers it. */
  readonly delivered?: number
}

/**
 * The session-metadata table. A session that has expired or was terminated is absent for every method at once;
 * a terminated id is never accepted again while its tombstone lives (the ttl), not by `create` either.
 */
export interface SessionTable {
  /**
   * Stores the record and an empty log, owned by `owner`; resolves with the session's first generation.
   * Rejects with `INVALID_ARGUMENT` when the id is taken, with `SESSION_GONE` when it was terminated, and with
   * `SESSION_LIMIT` when the principal has `limit` sessions that live. More may come to be by those that are opened at
   * the same moment; nobody is refused who has fewer. Nobody's sessions (`principal` null) are not counted.
   */
  create(session: SessionToCreate): Promise<number>
  get(id: string): Promise<SessionRecord | undefined>
  /**
   * Compare and set: makes `owner` the owner in a new generation, if the generation still is `generation` and the
   * session has no owner, a dead one, or `owner` itself. Undefined: it was not to be had.
   *
   * The new generation is greater, and random in its lower part ({@link nextGeneration}): of two claims of the same
   * generation, one of which the store has lost (a restart, a failover), the writers are still told apart. Positions
   * go on beyond any that may have been lost with it: from the store's time in microseconds, where that is more.
   *
   * With `keep` the generation stays: for the owner of that generation, back under another node id, whose appends under
   * way must not be fenced.
   */
  claim(id: string, claim: SessionClaim): Promise<ClaimedSession | undefined>
  /** Gives the session up, if `generation` still is its generation. The generation stays. */
  release(id: string, generation: number): Promise<boolean>
  /** Replaces the state, and the principal where one is given, if `generation` still is its generation. */
  update(id: string, generation: number, state: SessionState, principal?: string): Promise<boolean>
  /**
   * Extends expiry of many sessions at once. Answers which of those that name a generation are gone, or in another
   * one by now: their owner is to stop them.
   */
  touch(touches: readonly SessionTouch[]): Promise<readonly string[]>
  /**
   * Tombstones the session and removes its log, at once where it is short; true if there was one. Fences its owner's
   * appends from then on.
   *
   * `generation`: the one that the caller holds the session in, if it does. Then no owner has to be found and told, which a
   * store made by `createStore` does else.
   */
  terminate(id: string, generation?: number): Promise<boolean>
  /** Live sessions in id order, after `cursor` (a `next` of the page before). */
  list(query?: { cursor?: string; limit?: number; principal?: string }): Promise<SessionPage>
}

export interface SessionPage {
  readonly sessions: readonly SessionRecord[]
  readonly next?: string
}

/** A page of a log as it lies in the store, and all that belongs to the log. */
export interface LogPage {
  readonly sessionId: string
  /** Eight characters of 0-9, a-z and A-Z. */
  readonly epoch: string
  readonly generation: number
  readonly expiresAt: number
  /** These five as in {@link Page}. */
  readonly floor: number
  readonly last: number
  readonly more: boolean
  readonly corrupt: number
  readonly scanned: number
  readonly events: readonly (StoredEvent & { readonly expiresAt: number })[]
  /** All that are open, on every page, in the order in which they were opened first. */
  readonly open: readonly OpenStream[]
  /** null: a log without a session record. */
  readonly session: {
    readonly principal: string | null
    readonly state: SessionState
    readonly delivered: number
    readonly createdAt: number
    readonly lastUsedAt: number
    readonly ttl: number
  } | null
}

/** All that is left of a session that was terminated. */
export interface Tombstone {
  readonly sessionId: string
  /** Until when its id is refused. */
  readonly terminatedUntil: number
}

/** Logs, session records and tombstones as they are, so that a client can resume against a copy. */
export interface Transfer {
  /** Every session that has a log, with a record or without. What comes or goes meanwhile may be missed. */
  ids(): AsyncIterable<string>
  /**
   * A page of the events after `after` (0: from the start), with the next one beginning after its `scanned`, or the
   * session's tombstone; undefined when there is neither (any more).
   */
  take(query: { sessionId: string; after: number; limit: number }): Promise<LogPage | Tombstone | undefined>
  /**
   * Stores a page with its epoch, positions and times; the pages of a log in order. A new record has no owner. What is
   * there already stays, so that repeating it, or going on later, adds what is new and doubles nothing; open streams are
   * then those of the latest page. False, and
   * nothing was changed: the store has gone its own way with this session (another epoch, a later generation, a
   * tombstone).
   *
   * A tombstone ends the session here too, whatever has become of it, and removes its log: always true.
   */
  put(page: LogPage | Tombstone): Promise<boolean>
}

export interface NodeRecord {
  readonly id: string
  /** The node's public key, base64url: what is sent to it is sealed with it. */
  readonly publicKey: string
  /** What the node says of itself, such as the versions that it speaks: JSON, kept as it is, 1,000 characters at the most. */
  readonly profile: string
}

/** Who is there. A node that does not renew is gone when its lease is over. */
export interface NodeTable {
  register(node: NodeRecord, lease: number): Promise<void>
  /** False: the lease was over, and sessions may have been given away. Such a node must register under another id. */
  renew(id: string, lease: number): Promise<boolean>
  /** Ends the lease now. */
  unregister(id: string): Promise<void>
  /** Undefined: not registered, lease over, or known to be dead. */
  get(id: string): Promise<NodeRecord | undefined>
  /** Those that `get` would find; up to 1,000 of them. */
  list(): Promise<readonly NodeRecord[]>
}

/**
 * Between nodes. Everything here may be lost, doubled, delayed and overtaken, and nobody is told: whoever needs more
 * asks for an answer and says it again.
 */
export interface Bus {
  /**
   * Sends bytes to a node, {@link MESSAGE_LIMIT} at the most. Small ones travel inside the backend's push, larger ones
   * as a parcel in the store, which the push names and which goes by itself. False: the node is known to be gone. True
   * says nothing about arrival. Rejects with `INVALID_ARGUMENT` beyond the limit. When it rejects with
   * `STORE_UNAVAILABLE`, it may have been sent all the same.
   */
  send(nodeId: string, message: Uint8Array): Promise<boolean>
  /**
   * Hears what is sent to a node of this process, until it is closed. Without a message: some may have been missed
   * (a connection was lost and is back).
   */
  receive(nodeId: string, onMessage: (message: Uint8Array | undefined) => void): Promise<Subscription>

  /** Resolves with the number of receivers where the backend knows it. */
  publish(channel: string, text: string): Promise<number | undefined>
  /**
   * One connection per process, whatever the number of subscriptions. `onWake` hears texts published to `channel`;
   * without a text: something may have been missed.
   */
  subscribe(channel: string, onWake: (text: string | undefined) => void): Promise<Subscription>
}

/** A task as the store sees it: text that is replaced whole. */
export interface TaskRecord {
  readonly id: string
  /** The session that made it; null: it was made without one. */
  readonly sessionId: string | null
  /** 1, and one more with each change. */
  readonly version: number
  readonly value: string
}

export interface TaskPage {
  readonly tasks: readonly TaskRecord[]
  readonly next?: string
}

/** The tasks of the v1 SDK, each with a queue. A task that has expired is absent for every method at once. */
export interface TaskTable {
  /** Rejects with `INVALID_ARGUMENT` when the id is taken. `ttl` as everywhere in milliseconds. */
  create(task: { id: string; sessionId: string | null; value: string; ttl: number }): Promise<void>
  get(id: string): Promise<TaskRecord | undefined>
  /**
   * Compare and set: replaces the value, if the version still is `version`. With a `ttl` its life begins anew.
   * It is not repeated behind the caller's back: when it rejects with `STORE_UNAVAILABLE`, it may have been done.
   */
  replace(id: string, change: { version: number; value: string; ttl?: number }): Promise<boolean>
  /** The tasks of a session (null: those made without one) in id order, after `cursor` (a `next` of the page before). */
  list(query: { sessionId: string | null; cursor?: string; limit: number }): Promise<TaskPage>
  /**
   * Adds a message to the end of a task's queue, which lives and dies with the task, beside its row: the cost does not
   * depend on what the row or the queue holds. `limit` messages may wait at the most. With a `sessionId`, the task of
   * another session is absent (one made without a session is anybody's).
   *
   * It does not count as a change: neither version nor life are touched. It is not repeated behind the caller's back.
   */
  push(id: string, message: { text: string; limit: number; sessionId?: string }): Promise<Pushed>
  /**
   * Takes up to `limit` messages from the front of the queue, in order, each once. Nothing where the task is absent, as
   * above. It is not repeated behind the caller's back.
   */
  shift(id: string, query: { limit: number; sessionId?: string }): Promise<readonly string[]>
}

/** What became of a message for a task's queue. */
export type Pushed = 'queued' | 'full' | 'absent'

/** Bytes of one message between nodes at the most. */
export const MESSAGE_LIMIT = 64 * 1024 * 1024

/** The channel of the announcements to a node, and of nothing else: messages go by `send`. */
export function nodeChannel(nodeId: string): string {
  return `node:${nodeId}`
}

export interface Subscription {
  close(): Promise<void>
}

export interface StoreHealth {
  readonly backend: string
  readonly ok: boolean
  /** The server's or library's version. */
  readonly version?: string
  readonly latencyMs?: number
  /** Migrations, where the backend has any. */
  readonly migrations?: {
    readonly applied: readonly string[]
    readonly pending: readonly string[]
    /** Those of `applied` that are of a later release, beside which this one goes on. */
    readonly newer?: readonly string[]
  }
  /** One sentence each: what may cost data or speed as it is configured. */
  readonly warnings: readonly string[]
  /** Why it is not ok, in one sentence without secrets. */
  readonly error?: string
}

export interface StoreStats {
  readonly sessions: number
  readonly events: number
  /** Bytes on disk or in memory, where the backend can say. */
  readonly bytes?: number
  readonly nodes: number
}

export interface SweepResult {
  readonly events: number
  readonly sessions: number
  /** Dead nodes. */
  readonly nodes: number
  readonly more: boolean
}

/** The slice of the SDK's `EventStore` we implement; both SDK lines agree on it. */
export interface SessionEventStore {
  storeEvent(streamId: string, message: unknown): Promise<string>
  getStreamIdForEventId(eventId: string): Promise<string | undefined>
  replayEventsAfter(
    lastEventId: string,
    sink: { send: (eventId: string, message: never) => Promise<void> },
  ): Promise<string>
}

export interface SessionEventStoreOptions {
  /** How long events can be replayed, in seconds. Default: the store's `ttl`, else 3600. */
  readonly ttl?: number
  /** Called when a resuming client may have missed events that expired, were trimmed, or cannot be decoded. */
  readonly onGap?: (gap: { sessionId: string; streamId: string; reason: GapReason }) => void
}

/**
 * Why a resumed stream may lack events: they have expired or were trimmed, the log was begun anew, some cannot be decoded,
 * or the client has seen what the store has no more (it lost its last moments).
 */
export type GapReason = 'expired-or-trimmed' | 'store-replaced' | 'corrupt' | 'lost'
