import { type News, type RemoteSide, RemoteSubscriber } from '../streams/remote-subscriber.ts'
import { digestOf, type FollowItem, MISSED_BEATS } from './follow.ts'

export interface FollowersOptions {
  /** Best effort. */
  readonly send: (nodeId: string, item: FollowItem) => void
}

interface Follower {
  /** What it follows, and what is over and not known to be known there. */
  readonly streams: Map<number, RemoteSubscriber>
  /** News told to it. */
  told: number
  /** Of its latest beat or list. */
  seq: number
  /** Beats that did not come. */
  missed: number
}

/** Characters of events in one piece of news; beyond that it says only that there is news, and the log is read. */
const MAX_INSIDE = 4_000

/** The owner's half of following (see `follow.ts`): the nodes that follow streams of sessions here. */
export class Followers {
  readonly #send: FollowersOptions['send']
  readonly #followers = new Map<string, Follower>()
  /** Counts the ids that this node has had. */
  #life = 0

  constructor({ send }: FollowersOptions) {
    this.#send = send
  }

  /** For the question that may make `nodeId` follow a stream. */
  remote(nodeId: string, id: number): RemoteSide {
    const life = this.#life
    // From now on its beats are counted.
    this.#follower(nodeId)
    return {
      isWaiting: () => this.#followers.has(nodeId),
      subscribe: (streamId, onOver) => {
        const subscriber = new RemoteSubscriber(streamId, (news) => this.#tell(nodeId, id, news), onOver)
        // It was asked of this node under an id that it had before: the other one has begun to count anew, and that number is
        // another question by now.
        if (life !== this.#life) {
          subscriber.drop()
          return subscriber
        }
        const { streams } = this.#follower(nodeId)
        streams.get(id)?.drop()
        streams.set(id, subscriber)
        return subscriber
      },
    }
  }

  nodes(): readonly string[] {
    return [...this.#followers.keys()]
  }

  receive(from: string, item: FollowItem): void {
    if (item.type === 'left') return void this.#onLeft(from, item.id, item.delivered)
    if (item.type !== 'beat' && item.type !== 'list') return
    const follower = this.#follower(from)
    follower.missed = 0
    if (item.seq <= follower.seq) return
    follower.seq = item.seq
    if (item.type === 'list') return void this.#onList(from, follower, item)
    const { streams, told } = follower
    const active = [...streams].filter(([, { over }]) => over === undefined).map(([id]) => id)
    if (digestOf(active) !== item.digest) this.#send(from, { type: 'which' })
    // It follows what goes on here and nothing else: so it knows of all that is over.
    else for (const [id, { over }] of streams) if (over) streams.delete(id)
    if (item.heard !== told) this.#send(from, { type: 'told', count: told })
  }

  /** One beat has passed: what nobody renews is dropped. */
  tick(): void {
    for (const [nodeId, follower] of this.#followers) {
      follower.missed += 1
      if (follower.missed > MISSED_BEATS) this.gone(nodeId)
    }
  }

  gone(nodeId: string): void {
    const follower = this.#followers.get(nodeId)
    this.#followers.delete(nodeId)
    for (const subscriber of follower?.streams.values() ?? []) subscriber.drop()
  }

  /** This node gives its id up: nobody follows it under the next one yet. */
  reset(): void {
    this.#life += 1
    for (const nodeId of this.nodes()) this.gone(nodeId)
  }

  #onList(from: string, follower: Follower, { ids, open, next }: FollowItem & { type: 'list' }): void {
    const { streams } = follower
    const followed = new Set(ids)
    const undecided = new Set(open)
    for (const [id, subscriber] of [...streams]) {
      if (followed.has(id)) {
        if (subscriber.over) this.#tell(from, id, subscriber.over)
      } else if (id < next && !undecided.has(id)) {
        streams.delete(id)
        subscriber.drop()
      }
    }
    const unknown = ids.filter((id) => !streams.has(id))
    if (unknown.length > 0) this.#send(from, { type: 'unknown', ids: unknown })
  }

  #onLeft(from: string, id: number, delivered: number): void {
    const follower = this.#followers.get(from)
    const subscriber = follower?.streams.get(id)
    follower?.streams.delete(id)
    subscriber?.leave(delivered)
  }

  #tell(nodeId: string, id: number, news: News): void {
    const follower = this.#follower(nodeId)
    follower.told += 1
    this.#send(nodeId, { type: 'news', count: follower.told, to: id, news: inside(news) })
  }

  #follower(nodeId: string): Follower {
    let follower = this.#followers.get(nodeId)
    if (!follower) {
      follower = { streams: new Map(), told: 0, seq: 0, missed: 0 }
      this.#followers.set(nodeId, follower)
    }
    return follower
  }
}

function inside(news: News): News {
  if (!('update' in news)) return news
  const size = news.update.events.reduce((sum, { payload }) => sum + payload.length, 0)
  return size <= MAX_INSIDE ? news : { look: true }
}
