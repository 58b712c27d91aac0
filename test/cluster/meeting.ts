import { expect } from 'vitest'
import { RawClient, type RawStream } from '../support/clients/raw-client.ts'
import type { Hosted } from '../support/hosted.ts'
import { until } from '../support/wait.ts'

const STEPS = 20
/** Milliseconds that anything may take on a busy machine. What hangs, hangs for longer. */
const PATIENCE = 30_000
/** How long a call takes that is to be running when something happens. */
const RUNS = { steps: STEPS, ms: 40 }
/** The same where it must not have ended before its process is killed. */
const STILL_RUNS = { steps: STEPS, ms: 150 }
const ALL = Array.from({ length: STEPS }, (_, index) => index + 1)

/** The numbers of a tag's lines on these streams, in the order in which they came. */
function numbers(tag: string, ...streams: RawStream[]): number[] {
  const lines = streams.flatMap(({ logs }) => logs).filter((line) => line.startsWith(`${tag}:`))
  return lines.map((line) => Number(line.slice(tag.length + 1)))
}

/** A session that one process owns, and a client of it that only ever meets the other one. */
export class Meeting {
  readonly #name: string
  readonly #owner: Hosted
  readonly #atOwner: RawClient
  readonly #atEdge: RawClient
  readonly #listener: RawStream

  private constructor(
    name: string,
    owner: Hosted,
    atOwner: RawClient,
    atEdge: RawClient,
    listener: RawStream,
  ) {
    this.#name = name
    this.#owner = owner
    this.#atOwner = atOwner
    this.#atEdge = atEdge
    this.#listener = listener
  }

  static async of(name: string, owner: Hosted, edge: Hosted): Promise<Meeting> {
    // No connection that lies in a pool until its server ends it: on a busy machine that is met by the next request.
    const atOwner = await RawClient.open(owner.url, { headers: { connection: 'close' } })
    const atEdge = atOwner.clone(edge.url)
    return new Meeting(name, owner, atOwner, atEdge, await atEdge.listen())
  }

  close(): void {
    for (const client of [this.#atOwner, this.#atEdge]) client.close()
  }

  /** Calls, small and large, a question to the client on either kind of stream, and a stream that changes its node. */
  async talk(): Promise<void> {
    const tag = `${this.#name}-talk`
    const [edge, owner] = [this.#atEdge, this.#atOwner]
    const large = 'x'.repeat(100_000)
    expect(await Promise.all([edge.tool('echo', { text: tag }), edge.tool('echo', { text: large })])).toEqual(
      [tag, large],
    )
    await this.#asked('call')
    await this.#asked('standalone')
    for (const [first, second] of [
      [edge, owner],
      [owner, edge],
    ] as const) {
      const moved = `${tag}-${first === edge ? 'edge' : 'owner'}`
      const call = first.toolCall('slow', { tag: moved, steps: STEPS, ms: 25 })
      const begun = await first.stream(call)
      await until('some of its lines', () => begun.logs.length >= 3, PATIENCE)
      begun.close()
      const rest = await second.rest(begun, call.id, PATIENCE)
      expect(numbers(moved, begun, ...rest)).toEqual(ALL)
    }
    await this.#stillListens('talk')
  }

  /** What runs when the owner is asked to leave comes to its end, and the next owner goes on. */
  async drain(restart: () => Promise<unknown>): Promise<void> {
    const tag = `${this.#name}-drain`
    const call = this.#atEdge.toolCall('slow', { tag, ...RUNS })
    const running = await this.#atEdge.stream(call)
    await until('its beginning', () => running.logs.length > 0, PATIENCE)
    const left = this.#owner.host.stop()
    const answer = await running.next('its answer', ({ id }) => id === call.id, PATIENCE)
    expect(answer.error).toBeUndefined()
    expect(numbers(tag, running)).toEqual(ALL)
    expect(await left).toBe(0)
    await this.#stillListens('drain')
    await restart()
  }

  /** What runs when the owner dies is run again or called interrupted, and the next owner goes on. */
  async kill(restart: () => Promise<unknown>): Promise<void> {
    const [safe, unsafe] = [`${this.#name}-safe`, `${this.#name}-unsafe`]
    const reading = this.#atEdge.toolCall('slow_read_only', { tag: safe, ...STILL_RUNS })
    const writing = this.#atEdge.toolCall('slow', { tag: unsafe, ...STILL_RUNS })
    const [read, write] = await Promise.all([this.#atEdge.stream(reading), this.#atEdge.stream(writing)])
    await until('their beginnings', () => read.logs.length > 0 && write.logs.length > 0, PATIENCE)
    await this.#owner.host.kill('SIGKILL')
    const done = await read.next('the answer to the safe call', ({ id }) => id === reading.id, PATIENCE)
    expect(done.error).toBeUndefined()
    const came = numbers(safe, read)
    const begin = came.lastIndexOf(1)
    expect([came.slice(0, begin), came.slice(begin)]).toEqual([ALL.slice(0, begin), ALL])
    const end = await write.next('the end of the other', ({ id }) => id === writing.id, PATIENCE)
    expect(end.error?.message).toMatch(/may or may not/i)
    expect(numbers(unsafe, write)).toEqual(ALL.slice(0, numbers(unsafe, write).length))
    const started = this.#owner.journal.entries().filter(({ what }) => what === 'start')
    expect(started.filter((entry) => entry.tag === unsafe)).toHaveLength(1)
    await this.#stillListens('kill')
    await restart()
  }

  async #asked(via: 'call' | 'standalone'): Promise<void> {
    const message = `${this.#name}-${via}?`
    const call = this.#atEdge.toolCall('elicit', { message, via })
    const asking = await this.#atEdge.stream(call)
    const heard = via === 'call' ? asking : this.#listener
    const question = await heard.next(
      'the question',
      ({ params }) => params?.['message'] === message,
      PATIENCE,
    )
    const content = { name: this.#name }
    expect((await this.#atEdge.answer(question, { action: 'accept', content })).status).toBe(202)
    const { result } = await asking.next('the end of the call', ({ id }) => id === call.id, PATIENCE)
    expect(JSON.stringify(result)).toContain(this.#name)
  }

  /** The standalone stream at the edge has never ended, whoever owned the session. */
  async #stillListens(when: string): Promise<void> {
    const tag = `${this.#name}-after-${when}`
    expect(await this.#atEdge.tool('burst', { tag, count: 3, via: 'standalone' })).toBe(`${tag} sent 3`)
    await until('the last of them', () => numbers(tag, this.#listener).includes(3), PATIENCE)
    expect(numbers(tag, this.#listener)).toEqual([1, 2, 3])
    expect(this.#listener.state).toBe('open')
  }
}
