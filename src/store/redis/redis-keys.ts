import { createHash } from 'node:crypto'
import { PersistError } from '../../errors.ts'

/**
 * Every key of the store, and what is in it. `{…}` is the hash tag: keys with the same tag live on the same node of a
 * cluster, and one script may touch them together.
 *
 * | key | type | what |
 * | --- | --- | --- |
 * | `s:{id}` | list | the session's log: its head (see scripts/prelude.ts), then its events, the oldest first: position in 7 bytes, `<ttl> <kind> <stream> <payload>` |
 * | `s:{id}:record` | string | the session's record, seven lines (see scripts/session.ts) |
 * | `s:{id}:open` | hash | the session's open streams (see scripts/open-streams.ts) |
 * | `s:{id}:gone` | string | the tombstone of a terminated session |
 * | `n:{id}` | hash | a node: its public key, its profile, and whether it listens; expires with the lease |
 * | `n:{id}:parcel:…` | string | a message too large for a publication, until its node takes it; expires by itself |
 * | `t:{id}` | hash | a task: its version, its value, its session; expires by itself |
 * | `t:{id}:queue` | list | the messages of the task's queue; expires with the task |
 * | `tasks:{session}` | sorted set | ids of the session's tasks in id order; without a session `tasks` |
 * | `nodes` | set | ids of nodes, for counting; dead ones are dropped by the sweep |
 * | `index:{0}` … `index:{15}` | sorted set | session ids in id order, for `list` |
 * | `due:{0}` … `due:{15}` | sorted set | session ids by when the sweep should look at them again |
 * | `of:{0}` … `of:{15}` | hash | for each session that has a principal, the key of its principal's set |
 * | `p:{hash}` | sorted set | session ids of one principal, by when they expired when last looked at |
 * | `layout` | string | the version of all this |
 */
export class RedisKeys {
  readonly prefix: string
  readonly layout: string
  readonly nodes: string

  constructor(prefix: string) {
    if (/[{}]/.test(prefix)) {
      const why = 'Redis Cluster would put every key on one node'
      throw new PersistError('INVALID_ARGUMENT', `keyPrefix '${prefix}' must not contain braces: ${why}.`)
    }
    this.prefix = prefix
    this.layout = `${prefix}layout`
    this.nodes = `${prefix}nodes`
  }

  session(id: string): { log: string; record: string; open: string; gone: string } {
    const log = `${this.prefix}s:{${tag(id)}}`
    return { log, record: `${log}:record`, open: `${log}:open`, gone: `${log}:gone` }
  }

  node(id: string): string {
    return `${this.prefix}n:{${tag(id)}}`
  }

  parcel(nodeId: string, name: string): string {
    return `${this.node(nodeId)}:parcel:${name}`
  }

  task(id: string): [task: string, queue: string] {
    const task = `${this.prefix}t:{${tag(id)}}`
    return [task, `${task}:queue`]
  }

  taskList(sessionId: string | null): string {
    return sessionId === null ? `${this.prefix}tasks` : `${this.prefix}tasks:{${tag(sessionId)}}`
  }

  /** One sorted set for all sessions would be one hot key on one node: sixteen are spread. */
  shards(): [index: string, due: string][] {
    return Array.from({ length: SHARDS }, (_, i) => this.#shard(i))
  }

  shardOf(id: string): [index: string, due: string] {
    return this.#shard(hash(id) % SHARDS)
  }

  /** Which principal's set a session is in, for whoever finds that the session is gone. */
  ownersOf(id: string): string {
    return `${this.prefix}of:{${hash(id) % SHARDS}}`
  }

  /** A principal may be long, and says who somebody is: neither belongs into a key. */
  principal(principal: string): string {
    return `${this.prefix}p:{${createHash('sha256').update(principal).digest('base64url')}}`
  }

  /** Channels are not told apart by database, only by name. */
  channel(name: string): string {
    return `${this.prefix}${name}`
  }

  #shard(i: number): [string, string] {
    return [`${this.prefix}index:{${i}}`, `${this.prefix}due:{${i}}`]
  }
}

const SHARDS = 16

/** A brace inside would end the hash tag early, or leave it empty, and part the keys of one session. */
function tag(id: string): string {
  return /[%{}]/.test(id) ? id.replace(/[%{}]/g, encodeURIComponent) : id
}

/** Spreads ids evenly; stored data depends on it. */
export function hash(id: string): number {
  let sum = 0
  for (let i = 0; i < id.length; i++) sum = (Math.imul(sum, 31) + id.charCodeAt(i)) >>> 0
  return sum
}
